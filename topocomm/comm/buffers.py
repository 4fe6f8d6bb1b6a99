"""mpi4py's buffer arguments, read the way mpi4py reads them.

All forms are understood: a buffer; [buf, type]; [buf, count]; [buf, count, type]; [buf, (count, displ), type];
[buf, count, displ, type]; a type is an ``MPI.Datatype`` or a type code. A datatype that is not its own bytes (a derived
one, or a pair with a gap) is packed before and unpacked after; operands of a reduction keep their gaps, and only what
the type names goes back. What this module returns None for (``MPI.BOTTOM``, device memory, memory that is not
contiguous, an unknown type) belongs to the MPI library, its errors included.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.errors import BufferError

__all__ = ["EMPTY", "Buffer", "parse"]

EMPTY: Bytes = np.empty(0, np.uint8)


@dataclass(slots=True)
class Buffer:
    """One buffer argument: ``count`` elements of ``datatype`` in each of its blocks.

    ``data`` holds the blocks' bytes, one after the other, ``itemsize`` bytes an element: the caller's memory, or a
    packed copy of it.
    """

    data: Bytes
    count: int
    datatype: MPI.Datatype
    itemsize: int
    source: MPI.buffer | None = None
    """The caller's memory, if ``data`` is a copy: as long as the elements' extents."""
    gaps: bool = False
    """Whether the copy has the gaps of the datatype, not packed."""

    def unpack(self) -> None:
        """Bring a copy back into the caller's memory."""
        if self.source is None:
            return
        data: Any = self.data
        if self.gaps:
            data = np.empty(self.datatype.Pack_size(len(data) // self.itemsize, MPI.COMM_SELF), np.uint8)
            self.datatype.Pack(self.data, data, 0, MPI.COMM_SELF)
        self.datatype.Unpack(data, 0, self.source, MPI.COMM_SELF)


_plain_size: dict[int, int] = {}
"""Size of predefined datatypes that are their own bytes, by handle."""
_fast: dict[tuple[str, str], tuple[MPI.Datatype, int]] = {}
"""Datatype and size of the elements of arrays seen before: the way of almost every call."""
_by_dtype: dict[tuple[str, str], MPI.Datatype | None] = {}


def _dtype_key(dtype: np.dtype[Any]) -> tuple[str, str]:
    """What tells dtypes apart as MPI does: equal ones may be two MPI types, as ``long`` and ``long long`` are."""
    return dtype.char, dtype.str


def _of_dtype(dtype: np.dtype[Any]) -> MPI.Datatype | None:
    key = _dtype_key(dtype)
    try:
        return _by_dtype[key]
    except KeyError:
        code = "c" if dtype.str == "|S1" else dtype.char
        found = _of_code(code) if dtype.isnative and (dtype.kind in "biufc" or code == "c") else None
        _by_dtype[key] = found
        return found


def _of_code(code: str) -> MPI.Datatype | None:
    try:
        datatype = MPI.Datatype.fromcode({"Zf": "F", "Zd": "D", "Zg": "G"}.get(code, code))
    except (ValueError, KeyError):
        return None
    return None if datatype == MPI.DATATYPE_NULL else datatype


def _bytes_of(obj: Any, writable: bool) -> Bytes | None:
    """The memory behind a buffer as bytes, or None if there is none that is contiguous and in reach."""
    if isinstance(obj, np.ndarray):
        if writable and not obj.flags.writeable:
            return None
        plain: np.ndarray[Any, Any] = obj.view(np.ndarray)  # else a matrix stays a matrix, a masked array masked
        if plain.flags.c_contiguous:
            return plain.reshape(-1).view(np.uint8)
        return plain.T.reshape(-1).view(np.uint8) if plain.flags.f_contiguous else None
    try:
        memoryview(obj).release()  # memory of a device has none, though mpi4py's buffer would take it
        raw = MPI.buffer.frombuffer(obj, readonly=not writable)
    except (TypeError, ValueError, builtins.BufferError):
        return None
    return np.frombuffer(raw, np.uint8) if raw.nbytes else EMPTY


def _split(spec: Any) -> tuple[Any, Any, Any, Any] | None:
    """(buffer, count, displacement, type) of an argument in any of its forms; None if it is none of them."""
    if not isinstance(spec, (list, tuple)):
        return spec, None, None, None
    if len(spec) == 2:
        buf, second = spec
        if isinstance(second, (MPI.Datatype, str)):
            return buf, None, None, second
        if isinstance(second, (list, tuple)):
            return (buf, *second, None) if len(second) == 2 else None
        return buf, second, None, None
    if len(spec) == 3:
        buf, count, datatype = spec
        if isinstance(count, (list, tuple)):
            return (buf, *count, datatype) if len(count) == 2 else None
        return buf, count, None, datatype
    return tuple(spec) if len(spec) == 4 else None


def _datatype(buf: Any, code: Any) -> MPI.Datatype | None:
    if isinstance(code, MPI.Datatype):
        return code
    if isinstance(code, str):
        return _of_code(code)
    if isinstance(buf, np.ndarray):
        return _of_dtype(buf.dtype)
    try:
        with memoryview(buf) as view:
            return MPI.BYTE if view.format == "B" and isinstance(buf, (bytes, bytearray)) else _of_code(view.format)
    except TypeError:
        return None


def _size(datatype: MPI.Datatype) -> int:
    """Bytes of an element of a datatype that is its own bytes; 0 for any other."""
    size = _plain_size.get(datatype.handle)
    if size is None:
        size = 0
        if datatype != MPI.DATATYPE_NULL and datatype.is_predefined:
            lb, extent = datatype.Get_extent()
            if lb == 0 and extent == datatype.Get_size() > 0:
                size = _plain_size[datatype.handle] = extent
    return size


def parse(spec: Any, blocks: int, writable: bool, name: str, operand: bool = False) -> Buffer | None:
    """Read a buffer argument that holds ``blocks`` blocks; ``operand``: of elements to be reduced.

    Returns None if it is for the MPI library. Raises BufferError, which names the argument by ``name``, if the buffer
    is too short for its count.
    """
    if type(spec) is np.ndarray and blocks == 1 and spec.flags.c_contiguous:
        known = _fast.get(_dtype_key(spec.dtype))
        if known is not None and (not writable or spec.flags.writeable):
            return Buffer(spec.reshape(-1).view(np.uint8), spec.size, *known)
    parts = _split(spec)
    if parts is None:
        return None
    buf, count, displ, code = parts
    if buf is None or buf is MPI.BOTTOM or buf is MPI.IN_PLACE:
        return None
    datatype = _datatype(buf, code)
    memory = _bytes_of(buf, writable) if datatype is not None else None
    if datatype is None or memory is None:
        return None
    itemsize = _size(datatype)
    extent = itemsize or _extent(datatype)
    if extent <= 0 or not _whole_numbers(count, displ):
        return None
    if displ:
        memory = memory[int(displ) * extent :]
    if count is None:
        entries = len(memory) // extent
        if len(memory) % extent or entries % max(blocks, 1):
            raise BufferError(
                f"{name} holds {len(memory)} bytes, which are not {blocks} equal blocks of {extent}-byte elements"
            )
        count = entries // max(blocks, 1)
        if itemsize and isinstance(buf, np.ndarray) and code is None:
            _fast[_dtype_key(buf.dtype)] = datatype, itemsize
    count = int(count)
    needed = count * max(blocks, 1)
    if itemsize:
        if needed * itemsize > len(memory):
            raise BufferError(
                f"{name} holds {len(memory) // itemsize} elements, needs {max(blocks, 1)} × {count} = {needed} "
                "(blocks × count)"
            )
        return Buffer(memory[: needed * itemsize], count, datatype, itemsize)
    return _derived(memory, datatype, count, needed, name, operand)


def _extent(datatype: MPI.Datatype) -> int:
    return 0 if datatype == MPI.DATATYPE_NULL else int(datatype.Get_extent()[1])


def _whole_numbers(*values: Any) -> bool:
    """Whether all are None or whole numbers not below zero."""
    for value in values:
        if value is not None and not (hasattr(value, "__index__") and value.__index__() >= 0):
            return False
    return True


def _derived(memory: Bytes, datatype: MPI.Datatype, count: int, needed: int, name: str, operand: bool) -> Buffer | None:
    """A buffer of a datatype with gaps or in another order: its elements in one piece."""
    extent = _extent(datatype)
    true_lb, true_extent = datatype.Get_true_extent()
    span = (needed - 1) * extent + true_lb + true_extent if needed else 0
    if span > len(memory):
        raise BufferError(f"{name} holds {len(memory)} bytes, needs {span} for {needed} elements of its datatype")
    # the gap after the last element may lie outside of the caller's memory; no byte of it is touched
    source = MPI.buffer.fromaddress(memory.ctypes.data, needed * extent) if needed else None
    if operand:
        if true_lb < 0 or true_lb + true_extent > extent:
            return None
        if datatype.Get_size() == extent:
            return Buffer(memory[:span], count, datatype, extent)
        data = np.zeros(needed * extent, np.uint8)
        data[:span] = memory[:span]
        return Buffer(data, count, datatype, extent, source, gaps=True)
    itemsize = int(datatype.Get_size())
    data = np.empty(max(datatype.Pack_size(needed, MPI.COMM_SELF), needed * itemsize), np.uint8)
    end = datatype.Pack(source, data, 0, MPI.COMM_SELF) if source is not None else 0
    if end != needed * itemsize:
        return None
    return Buffer(data[:end], count, datatype, itemsize, source)
