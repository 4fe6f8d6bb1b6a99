"""Arrays that the ranks of one host reach in each other's processes, for collectives without copies between."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from topocomm.errors import BufferError
from topocomm.rma._core import ffi, lib

__all__ = ["empty", "empty_like", "zeros"]

Array = npt.NDArray[Any]
Order = Literal["C", "F"]


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64, order: Order = "C") -> Array:
    """Return a NumPy array in memory that the other ranks of this host can reach. Local; may be called before MPI_Init.

    ``algorithm="shared"`` lets collectives on such arrays be written straight into the receive buffers of all ranks of
    the host. Everywhere else they are arrays like others. The memory has no name, is given back with the last view of
    the array, and is taken from what the host allows for shared memory; elements are 0.

    Parameters
    ----------
    shape, dtype, order
        As of :func:`numpy.empty`.

    Raises
    ------
    BufferError
        If the elements are Python objects, or ``order`` is neither ``"C"`` nor ``"F"``.
    MemoryError
        If there is no room.
    """
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise BufferError(f"topocomm.empty: dtype {kind} holds Python objects, which other processes cannot read")
    if order not in ("C", "F"):
        raise BufferError(f"topocomm.empty: order {order!r}, needs 'C' or 'F'")
    lengths = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if any(length < 0 for length in lengths):
        raise BufferError(f"topocomm.empty: shape {lengths}, needs lengths of at least 0")
    nbytes = int(np.prod(lengths, dtype=object)) * kind.itemsize
    return np.ndarray(lengths, kind, _memory(nbytes), order=order)


def zeros(shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64, order: Order = "C") -> Array:
    """Return an array of zeros as :func:`empty` does, with the same arguments and errors."""
    return empty(shape, dtype, order)


def empty_like(prototype: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Array:
    """Return an array with the shape, order and type of another, or with another type, as :func:`empty` does."""
    like = np.asanyarray(prototype)
    order: Order = "F" if like.flags.f_contiguous and not like.flags.c_contiguous else "C"
    return empty(like.shape, like.dtype if dtype is None else dtype, order)


def _memory(nbytes: int) -> Any:
    """Return a buffer that keeps its memory."""
    out = ffi.new("void **")
    status = lib.tc_array_new(nbytes, out)
    if status != 0:
        raise MemoryError(f"no room for {nbytes} bytes of shared memory: {_text(status)}")
    return ffi.buffer(ffi.gc(out[0], lib.tc_array_free, nbytes), nbytes)


def _text(status: int) -> str:
    return str(ffi.string(lib.tc_status_text(status)).decode())
