"""mpi4py's buffer arguments, read the way mpi4py reads them.

All forms are understood: a buffer; [buf, type]; [buf, count]; [buf, count, type]; [buf, (count, displ), type];
[buf, count, displ, type]; a type is an ``MPI.Datatype`` or a type code. Memory is read where it is: arrays, all that
has the buffer protocol, DLPack on the host. A datatype that is not its own bytes (a derived one, a pair with a gap) is
packed before and unpacked after; operands of a reduction keep their gaps, and only what the type names goes back.
Everything else that mpi4py takes (``MPI.BOTTOM``, memory of a device, an extent below zero) is read through the MPI
library (:mod:`topocomm.comm.staging`), and what mpi4py refuses is refused with its own exception.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.comm.staging import Caller, error_of, fill, take
from topocomm.errors import BufferError

__all__ = ["EMPTY", "Buffer", "bytes_of", "datatype_of", "nbytes_of", "of_code", "parse", "size_of"]

EMPTY: Bytes = np.empty(0, np.uint8)
_OCTET = np.dtype(np.uint8)


@dataclass(slots=True)
class Buffer:
    """One buffer argument: ``count`` elements of ``datatype`` in each of its blocks.

    ``data`` holds the blocks' bytes, one after the other, ``itemsize`` bytes an element: the caller's memory, or a copy
    of it.
    """

    data: Bytes
    count: int
    datatype: MPI.Datatype
    itemsize: int
    put_back: Callable[[Bytes], None] | None = None
    """Bring a copy back into the caller's memory; None if ``data`` is that memory."""
    foreign: bool = False
    """Elements to be reduced that overlap or begin before their address; ``data`` is empty."""

    @property
    def nbytes(self) -> int:
        """Bytes of a block."""
        return self.count * self.itemsize

    def deliver(self) -> None:
        """Bring a copy back into the caller's memory."""
        if self.put_back is not None:
            self.put_back(self.data)


_plain_size: dict[int, int] = {}
"""Size of predefined datatypes that are their own bytes, by handle."""
_fast: dict[int, tuple[MPI.Datatype, int]] = {}
"""Datatype and size of elements by the identity of NumPy's own dtypes, which live as long as NumPy does."""
_by_dtype: dict[tuple[str, str], MPI.Datatype | None] = {}
_HOST = (1, 3, 11, 13)
"""DLPack's numbers of devices whose memory the host reads: host, pinned for CUDA and ROCm, managed by CUDA."""


def _dtype_key(dtype: np.dtype[Any]) -> tuple[str, str]:
    """What tells dtypes apart as MPI does: equal ones may be two MPI types, as ``long`` and ``long long`` are."""
    return dtype.char, dtype.str


def _of_dtype(dtype: np.dtype[Any]) -> MPI.Datatype | None:
    key = _dtype_key(dtype)
    try:
        return _by_dtype[key]
    except KeyError:
        code = "c" if dtype.str == "|S1" else dtype.char
        found = of_code(code) if dtype.isnative and (dtype.kind in "biufc" or code == "c") else None
        _by_dtype[key] = found
        return found


def of_code(code: str) -> MPI.Datatype | None:
    """Return the datatype of a type code, NumPy's or a buffer's; None if there is none."""
    try:
        datatype = MPI.Datatype.fromcode({"Zf": "F", "Zd": "D", "Zg": "G"}.get(code, code))
    except (ValueError, KeyError):
        return None
    return None if datatype == MPI.DATATYPE_NULL else datatype


def _of_format(code: str) -> MPI.Datatype | None:
    """The datatype of a buffer's format, which may say its byte order as ``ctypes`` arrays do."""
    own = "<" if np.little_endian else ">"
    return of_code(code[1:] if code[:1] in ("@", "=", own) else code)


def _on_host(obj: Any) -> bool:
    device = getattr(obj, "__dlpack_device__", None)
    return device is not None and device()[0] in _HOST


def bytes_of(obj: Any, writable: bool) -> Bytes | None:
    """The memory behind a buffer as bytes, or None if there is none that is contiguous and in reach."""
    if isinstance(obj, np.ndarray):
        return _bytes_of_array(obj, writable)
    try:
        view = memoryview(obj)
    except TypeError:
        if not _on_host(obj):
            return None
    else:
        with view:
            if view.f_contiguous and not view.c_contiguous:
                return _bytes_of_array(np.asarray(view), writable)
    try:
        raw = MPI.buffer.frombuffer(obj, readonly=not writable)
    except (TypeError, ValueError, builtins.BufferError):
        return None
    return np.frombuffer(raw, np.uint8) if raw.nbytes else EMPTY


def _bytes_of_array(array: np.ndarray[Any, Any], writable: bool) -> Bytes | None:
    if writable and not array.flags.writeable:
        return None
    plain: np.ndarray[Any, Any] = array.view(np.ndarray)  # else a matrix stays a matrix, a masked array masked
    if plain.flags.c_contiguous:
        return plain.reshape(-1).view(np.uint8)
    return plain.T.reshape(-1).view(np.uint8) if plain.flags.f_contiguous else None


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


def datatype_of(buf: Any, code: Any) -> MPI.Datatype | None:
    """Return the datatype of a buffer's elements, as named or as its memory says; None if neither says it."""
    if isinstance(code, MPI.Datatype):
        return None if code == MPI.DATATYPE_NULL else code
    if isinstance(code, str):
        return of_code(code)
    if isinstance(buf, np.ndarray):
        return _of_dtype(buf.dtype)
    try:
        with memoryview(buf) as view:
            return MPI.BYTE if view.format == "B" and isinstance(buf, (bytes, bytearray)) else _of_format(view.format)
    except TypeError:
        return _described(buf)


def _described(buf: Any) -> MPI.Datatype | None:
    """The datatype of memory without the buffer protocol, from its own description."""
    device = getattr(buf, "__cuda_array_interface__", None)
    try:
        return _of_dtype(np.dtype(device["typestr"]) if device is not None else np.from_dlpack(buf).dtype)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, SystemError, builtins.BufferError):
        return None


def size_of(datatype: MPI.Datatype) -> int:
    """Return the bytes of an element of a datatype that is its own bytes; 0 for any other."""
    size = _plain_size.get(datatype.handle)
    if size is None:
        size = 0
        if datatype.is_predefined:
            lb, extent = datatype.Get_extent()
            if lb == 0 and extent == datatype.Get_size() > 0:
                size = _plain_size[datatype.handle] = extent
    return size


def _usual(spec: Any) -> tuple[np.ndarray[Any, Any], int | None, MPI.Datatype, int] | None:
    """(array, count, datatype, bytes of an element) of the forms that most calls use; None for any other.

    An array in C order, bare or with a datatype that is its own bytes, and maybe a count.
    """
    count = None
    if type(spec) is np.ndarray:
        known = _fast.get(id(spec.dtype))
        if known is None or not spec.flags.c_contiguous:
            return None
        return spec, None, *known
    if type(spec) is not list and type(spec) is not tuple:
        return None
    if len(spec) == 2:
        array, datatype = spec
    elif len(spec) == 3:
        array, count, datatype = spec
        if type(count) is not int or count < 0:
            return None
    else:
        return None
    if type(array) is not np.ndarray or not isinstance(datatype, MPI.Datatype) or not array.flags.c_contiguous:
        return None
    itemsize = _plain_size.get(datatype.handle)
    return (array, count, datatype, itemsize) if itemsize else None


def nbytes_of(spec: Any, blocks: int) -> int | None:
    """Bytes of an argument of ``blocks`` blocks in a usual form, without reading it; None for any other form."""
    usual = _usual(spec)
    if usual is None:
        return None
    array, count, _, itemsize = usual
    return array.nbytes if count is None else count * itemsize * blocks


def parse(caller: Caller, spec: Any, blocks: int, writable: bool, name: str, operand: bool = False) -> Buffer:
    """Read a buffer argument that holds ``blocks`` blocks; ``operand``: of elements to be reduced.

    Raises BufferError, which names the argument by ``name``, if the buffer is too short for its count; what mpi4py
    raises if it refuses the argument.
    """
    if type(spec) is np.ndarray and blocks == 1 and spec.flags.c_contiguous:
        known = _fast.get(id(spec.dtype))
        if known is not None and (not writable or spec.flags.writeable):
            datatype, itemsize = known
            data = spec.view(_OCTET) if spec.ndim == 1 else spec.reshape(-1).view(_OCTET)
            return Buffer(data, spec.size, datatype, itemsize)
    usual = _usual(spec)
    if usual is not None and (not writable or usual[0].flags.writeable):
        array, count, datatype, itemsize = usual
        data, block = array.reshape(-1).view(_OCTET), itemsize * blocks
        if count is None and len(data) % block == 0:
            return Buffer(data, len(data) // block, datatype, itemsize)
        if count is not None and count * block <= len(data):
            return Buffer(data[: count * block], count, datatype, itemsize)
    parts = _split(spec)
    if parts is not None and parts[0] is MPI.IN_PLACE:
        raise BufferError(f"{name} is MPI.IN_PLACE, which does not count here; give a buffer")
    if parts is None or not _whole_numbers(parts[1], parts[2]):
        raise _refusal(caller, spec, writable, name)
    found = None
    if parts[0] is not None and parts[0] is not MPI.BOTTOM:
        found = _in_memory(parts, blocks, writable, name, operand, caller)
    return found if found is not None else _through_library(caller, spec, parts, blocks, writable, name, operand)


def _refusal(caller: Caller, spec: Any, writable: bool, name: str) -> Exception:
    """The exception for an argument that mpi4py refuses."""
    error = error_of(caller, spec, writable)
    if error is None:
        return BufferError(f"{name} is no buffer argument: {spec!r:.80}")
    error.add_note(name)
    return error


def _in_memory(
    parts: tuple[Any, Any, Any, Any], blocks: int, writable: bool, name: str, operand: bool, caller: Caller
) -> Buffer | None:
    """A buffer whose memory is in reach; None if it is not, or its datatype cannot be used there."""
    buf, count, displ, code = parts
    datatype = datatype_of(buf, code)
    memory = bytes_of(buf, writable) if datatype is not None else None
    if datatype is None or memory is None:
        return None
    itemsize = size_of(datatype)
    extent = itemsize or int(datatype.Get_extent()[1])
    if extent <= 0:
        return None
    if displ:
        memory = memory[int(displ) * extent :]
    if count is None:
        count = _count(len(memory), extent, blocks, name)
        if itemsize and isinstance(buf, np.ndarray) and code is None and buf.dtype is np.dtype(buf.dtype.char):
            _fast[id(buf.dtype)] = datatype, itemsize
    count = int(count)
    needed = count * max(blocks, 1)
    if not itemsize:
        return _derived(memory, datatype, count, needed, name, operand, caller.comm)
    if needed * itemsize > len(memory):
        raise BufferError(
            f"{name} holds {len(memory) // itemsize} elements, needs {max(blocks, 1)} × {count} = {needed} "
            "(blocks × count)"
        )
    return Buffer(memory[: needed * itemsize], count, datatype, itemsize)


def _count(nbytes: int, extent: int, blocks: int, name: str) -> int:
    """Elements of a block of a buffer whose count nobody gave."""
    entries = nbytes // extent
    if nbytes % extent or entries % max(blocks, 1):
        raise BufferError(f"{name} holds {nbytes} bytes, which are not {blocks} equal blocks of {extent}-byte elements")
    return entries // max(blocks, 1)


def _whole_numbers(*values: Any) -> bool:
    """Whether all are None or whole numbers not below zero."""
    for value in values:
        if value is not None and not (hasattr(value, "__index__") and value.__index__() >= 0):
            return False
    return True


def _derived(
    memory: Bytes, datatype: MPI.Datatype, count: int, needed: int, name: str, operand: bool, comm: MPI.Intracomm
) -> Buffer | None:
    """A buffer of a datatype with gaps or in another order: its elements in one piece."""
    extent = int(datatype.Get_extent()[1])
    true_lb, true_extent = datatype.Get_true_extent()
    span = (needed - 1) * extent + true_lb + true_extent if needed else 0
    if span > len(memory):
        raise BufferError(f"{name} holds {len(memory)} bytes, needs {span} for {needed} elements of its datatype")
    # the gap after the last element may lie outside of the caller's memory; no byte of it is touched
    source = MPI.buffer.fromaddress(memory.ctypes.data, needed * extent) if needed else None
    if operand and _is_foreign(datatype):
        return Buffer(EMPTY, count, datatype, int(datatype.Get_size()), foreign=True)
    if operand and datatype.Get_size() == extent:
        return Buffer(memory[:span], count, datatype, extent)

    def unpack(packed: Bytes) -> None:
        if source is not None:
            datatype.Unpack(packed, 0, source, comm)

    if operand:
        data = np.zeros(needed * extent, np.uint8)
        data[:span] = memory[:span]
        return _with_gaps(data, count, datatype, comm, unpack)
    itemsize = int(datatype.Get_size())
    data = np.empty(max(datatype.Pack_size(needed, comm), needed * itemsize), np.uint8)
    end = datatype.Pack(source, data, 0, comm) if source is not None else 0
    if end != needed * itemsize:
        return None
    return Buffer(data[:end], count, datatype, itemsize, unpack)


def _is_foreign(datatype: MPI.Datatype) -> bool:
    """Whether elements reach beyond their extent, so that they cannot be reduced one beside the other."""
    true_lb, true_extent = datatype.Get_true_extent()
    return true_lb < 0 or true_lb + true_extent > datatype.Get_extent()[1]


def _with_gaps(
    data: Bytes, count: int, datatype: MPI.Datatype, comm: MPI.Intracomm, put_back: Callable[[Bytes], None]
) -> Buffer:
    """Operands in a copy with the gaps of their datatype; ``put_back`` takes what the type names, without gaps."""
    extent = int(datatype.Get_extent()[1])

    def pack(data: Bytes) -> None:
        packed = np.empty(datatype.Pack_size(len(data) // extent, comm), np.uint8)
        put_back(packed[: datatype.Pack(data, packed, 0, comm)])

    return Buffer(data, count, datatype, extent, pack)


def _through_library(
    caller: Caller, spec: Any, parts: tuple[Any, Any, Any, Any], blocks: int, writable: bool, name: str, operand: bool
) -> Buffer:
    """A buffer that only the MPI library can read, in a copy."""
    buf, count, displ, code = parts
    whole = spec if count is None else [buf, int(count) * max(blocks, 1), int(displ or 0), code]
    error = error_of(caller, whole, writable)
    if error is not None:
        error.add_note(name)
        raise error
    datatype = datatype_of(buf, code)
    if operand and datatype is None:
        raise BufferError(f"{name} does not say the type of its elements; give it as [buffer, MPI datatype]")
    if operand and datatype is not None and not size_of(datatype) and _is_foreign(datatype):
        return Buffer(EMPTY, int(count or 0), datatype, int(datatype.Get_size()), foreign=True)
    data = take(caller, whole)
    put_back = lambda data: fill(caller, whole, data)  # noqa: E731
    if not operand or datatype is None:
        return Buffer(data, _count(len(data), 1, blocks, name), MPI.BYTE, 1, put_back)
    found = _count(len(data), max(int(datatype.Get_size()), 1), blocks, name)
    if not size_of(datatype):
        return _spread(data, found, datatype, caller.comm, put_back)
    return Buffer(data, found, datatype, size_of(datatype), put_back)


def _spread(
    packed: Bytes, count: int, datatype: MPI.Datatype, comm: MPI.Intracomm, put_back: Callable[[Bytes], None]
) -> Buffer:
    """Operands that came without gaps, in a copy with the gaps of their datatype."""
    elements = len(packed) // max(int(datatype.Get_size()), 1)
    data = np.zeros(elements * int(datatype.Get_extent()[1]), np.uint8)
    if elements:
        datatype.Unpack(packed, 0, data, comm)
    return _with_gaps(data, count, datatype, comm, put_back)
