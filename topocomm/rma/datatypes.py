"""MPI datatypes as NumPy views, so that they can be put, got, and issued as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from topocomm.rma import errors
from topocomm.rma.strides import Array, as_array, flat_bytes

__all__ = ["buffer_bytes", "datatype_views", "memory_of"]

Runs = list[tuple[int, int]]  # (first byte, bytes)


def _repeat(runs: Runs, count: int, stride: int) -> Runs:
    return [(first + i * stride, size) for i in range(count) for first, size in runs]


def _subarray(p: dict[str, Any], runs: Runs, extent: int) -> Runs:
    from mpi4py import MPI

    fortran = p["order"] == MPI.ORDER_F
    sizes, subsizes, starts = (list(reversed(p[k])) if fortran else list(p[k]) for k in ("sizes", "subsizes", "starts"))
    stride = extent
    for size, subsize, start in zip(reversed(sizes), reversed(subsizes), reversed(starts), strict=True):
        runs = [(first + start * stride, n) for first, n in _repeat(runs, subsize, stride)]
        stride *= size
    return runs


def _named(datatype: Any) -> Runs:
    """Of the types MPI names, only the pair of a short and an int has a gap inside, before the int."""
    from mpi4py import MPI

    size, (first, extent) = datatype.Get_size(), datatype.Get_true_extent()
    if size == extent:
        return [(first, size)]
    if datatype != MPI.SHORT_INT:
        raise errors.RangeError(
            f"datatype_views: {datatype.Get_name()} has {size} bytes over {extent}, and MPI does not say which; "
            "describe it by MPI.Datatype.Create_struct"
        )
    integer = MPI.INT.Get_size()
    return [(0, size - integer), (extent - integer, integer)]


def _runs(datatype: Any) -> Runs:
    """List the bytes of one element of the datatype, in its order."""
    base, combiner, p = datatype.decode()
    if combiner == "NAMED":
        return _named(datatype)
    if combiner == "STRUCT":
        return [
            run
            for n, at, kind in zip(p["blocklengths"], p["displacements"], p["datatypes"], strict=True)
            for run in _repeat([(first + at, size) for first, size in _runs(kind)], n, kind.Get_extent()[1])
        ]
    inner, extent = _runs(base), base.Get_extent()[1]
    if combiner in ("DUP", "RESIZED"):
        return inner
    if combiner == "CONTIGUOUS":
        return _repeat(inner, p["count"], extent)
    if combiner in ("VECTOR", "HVECTOR"):
        stride = p["stride"] * (extent if combiner == "VECTOR" else 1)
        return _repeat(_repeat(inner, p["blocklength"], extent), p["count"], stride)
    if combiner in ("INDEXED", "HINDEXED", "INDEXED_BLOCK", "HINDEXED_BLOCK"):
        unit = 1 if combiner.startswith("H") else extent
        lengths = p["blocklengths"] if "blocklengths" in p else [p["blocklength"]] * len(p["displacements"])
        return [
            run
            for n, at in zip(lengths, p["displacements"], strict=True)
            for run in _repeat([(first + at * unit, size) for first, size in inner], n, extent)
        ]
    if combiner == "SUBARRAY":
        return _subarray(p, inner, extent)
    raise errors.RangeError(f"datatype_views: the combiner {combiner} is not supported; pass a NumPy view instead")


def _join(runs: Runs) -> Runs:
    joined: Runs = []
    for first, size in runs:
        if joined and joined[-1][0] + joined[-1][1] == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + size)
        elif size:
            joined.append((first, size))
    return joined


def datatype_views(array: Array, datatype: Any, count: int = 1) -> list[Array]:
    """View ``array``'s bytes (dtype uint8) as pieces that are ``count`` elements of the committed ``datatype``.

    Runs of equal length and distance become one view with two dimensions; each view is one block or transfer.
    Errors: RangeError if the datatype reaches outside the array, which must be contiguous, or the count is negative.
    """
    array = as_array(array, "datatype_views")
    if count < 0:
        raise errors.RangeError(f"datatype_views: count {count}, must not be negative")
    if not array.flags.c_contiguous and not array.flags.f_contiguous:
        raise errors.RangeError("datatype_views: the array must be contiguous; the datatype describes the gaps")
    runs = _join(_repeat(_runs(datatype), count, datatype.Get_extent()[1]))
    if any(first < 0 or first + size > array.nbytes for first, size in runs):
        raise errors.RangeError(f"datatype_views: {datatype.Get_name() or 'the datatype'} × {count} reaches outside "
                                f"the {array.nbytes} bytes of the array")  # fmt: skip
    data = flat_bytes(array, "datatype_views")
    views: list[Array] = []
    while runs:
        (first, size), n = runs[0], 1
        step = runs[1][0] - first if len(runs) > 1 else size
        while n < len(runs) and runs[n] == (first + n * step, size) and step > 0:
            n += 1
        views.append(as_strided(data[first:], (n, size), (step, 1)) if n > 1 else data[first : first + size])
        runs = runs[n:]
    return views


def memory_of(buffer: Any, who: str) -> Array:
    """Return memory with the buffer protocol as an array of its elements. Errors: RangeError."""
    if isinstance(buffer, np.ndarray):
        return buffer
    try:
        found = np.asarray(memoryview(buffer))
        return found.view(np.uint8) if found.dtype.char == "S" else found  # characters are bytes to MPI
    except (TypeError, ValueError, BufferError) as error:
        raise errors.RangeError(
            f"{who}: needs a NumPy array or contiguous memory with the buffer protocol, got {type(buffer).__name__} "
            f"({error})"
        ) from None


def _parts(buffer: Sequence[Any], who: str) -> tuple[Array, int | None, int, Any]:
    """Split a list as mpi4py takes it into array, count, displacement and datatype. Errors: RangeError."""
    array, *rest = buffer or [None]
    datatype = rest.pop() if rest and (isinstance(rest[-1], str) or hasattr(rest[-1], "Get_true_extent")) else None
    if len(rest) == 1 and isinstance(rest[0], (list, tuple)):
        rest = list(rest[0])
    if not 2 <= len(buffer) <= 4 or len(rest) > 2 or not all(hasattr(number, "__index__") for number in rest):
        raise errors.RangeError(
            f"{who}: understands an array, [array, datatype], [array, count], [array, count, datatype] and "
            "[array, (count, displacement), datatype]"
        )
    count, displacement = [*map(int, rest), None, None][:2]
    if (displacement or 0) < 0:
        raise errors.RangeError(f"{who}: displacement {displacement}, must not be negative")
    return memory_of(array, who), count, displacement or 0, datatype


def _datatype(array: Array, datatype: Any, who: str) -> Any:
    """Return the datatype named by a type code; None: that of the array. Errors: RangeError."""
    from mpi4py import MPI

    if datatype is not None and not isinstance(datatype, str):
        return datatype
    try:
        return MPI.Datatype.fromcode(array.dtype.char if datatype is None else datatype)
    except (ValueError, KeyError):
        raise errors.RangeError(f"{who}: {datatype or array.dtype!r} is no type that MPI knows") from None


def buffer_bytes(buffer: Any, who: str) -> Array:
    """Return the bytes that an origin names, without gaps: memory, or a list as mpi4py takes it.

    Memory is an array or anything contiguous with the buffer protocol; lists are [memory, datatype], [memory, count],
    [memory, count, datatype] and [memory, (count, displacement), datatype], the datatype an MPI.Datatype or a code.
    Errors: RangeError for other forms, for memory and datatypes with gaps, and for counts there is no room for.
    """
    if not isinstance(buffer, (list, tuple)):
        return flat_bytes(memory_of(buffer, who), who)
    array, count, displacement, datatype = _parts(buffer, who)
    datatype = _datatype(array, datatype, who)
    extent = datatype.Get_extent()[1]
    array = flat_bytes(array, who)[displacement * max(extent, 0) :]
    if count is None and (extent <= 0 or array.nbytes % extent):
        raise errors.RangeError(
            f"{who}: the array has {array.nbytes} bytes, no multiple of the {extent} of {datatype.Get_name()}"
        )
    views = datatype_views(array, datatype, array.nbytes // extent if count is None else count)
    if len(views) > 1 or any(view.ndim > 1 for view in views):
        raise errors.RangeError(
            f"{who}: {datatype.Get_name() or 'the datatype'} leaves gaps, and a window moves contiguous bytes; "
            "use datatype_views with blocks and a plan"
        )
    return views[0] if views else array[:0]
