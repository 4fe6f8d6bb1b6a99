"""Who combines the operands of a reduction in C: a kernel, ``MPI_Reduce_local``, or Python.

A kernel is used when its results had the bits of the MPI library's on operands that show the differences (zeros of
both signs, infinities, not-a-numbers, overflows), the first time that an operation and a type meet. Whatever else the
library predefines is combined by ``MPI_Reduce_local``, called from C; operations of the user by ``Op.Reduce_local``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes
from topocomm.library import handle
from topocomm.rma._core import ffi, lib

__all__ = ["combiner", "numbers"]

_OPERATIONS = ["SUM", "PROD", "MIN", "MAX", "LAND", "LOR", "LXOR", "BAND", "BOR", "BXOR", "MINLOC", "MAXLOC"]
_SIGNED = [
    *("SIGNED_CHAR", "SHORT", "INT", "LONG", "LONG_LONG", "INT8_T", "INT16_T", "INT32_T", "INT64_T"),
    *("AINT", "OFFSET", "COUNT", "INTEGER"),
]
_UNSIGNED = [
    *("UNSIGNED_CHAR", "UNSIGNED_SHORT", "UNSIGNED", "UNSIGNED_LONG", "UNSIGNED_LONG_LONG"),
    *("UINT8_T", "UINT16_T", "UINT32_T", "UINT64_T", "BYTE"),
]
_LOGICAL = ["C_BOOL", "CXX_BOOL"]
_OTHERS = {
    "FLOAT": ("FLOAT", "f"),
    "REAL": ("FLOAT", "f"),
    "DOUBLE": ("DOUBLE", "d"),
    "DOUBLE_PRECISION": ("DOUBLE", "d"),
    "LONG_DOUBLE": ("LONG_DOUBLE", "g"),
    "C_FLOAT_COMPLEX": ("COMPLEX_FLOAT", "F"),
    "CXX_FLOAT_COMPLEX": ("COMPLEX_FLOAT", "F"),
    "COMPLEX": ("COMPLEX_FLOAT", "F"),
    "C_DOUBLE_COMPLEX": ("COMPLEX_DOUBLE", "D"),
    "CXX_DOUBLE_COMPLEX": ("COMPLEX_DOUBLE", "D"),
    "DOUBLE_COMPLEX": ("COMPLEX_DOUBLE", "D"),
    "FLOAT_INT": ("PAIR_FLOAT", "f,i"),
    "DOUBLE_INT": ("PAIR_DOUBLE", "d,i"),
    "LONG_INT": ("PAIR_LONG", "l,i"),
    "TWOINT": ("PAIR_INT", "i,i"),
    "SHORT_INT": ("PAIR_SHORT", "h,i"),
    "LONG_DOUBLE_INT": ("PAIR_LONG_DOUBLE", "g,i"),
}
_REAL = (0.0, -0.0, 1.0, -1.5, 3.7, 1e30, -1e-30, 1e-310, np.inf, -np.inf, np.nan)

_choices: dict[tuple[int, int], Any] = {}


def combiner(op: MPI.Op, datatype: MPI.Datatype) -> Any:
    """Return who combines, as C's ``tc_operation_choice``."""
    if op == MPI.OP_NULL or not (op.is_predefined and datatype.is_predefined):
        return ffi.new("tc_operation_choice *", {"by": lib.TC_BY_CALLER})
    key = handle(op), handle(datatype)
    if key not in _choices:
        choice: dict[str, int] = {"by": lib.TC_BY_MPI, "op": key[0], "type": key[1]}
        found = _kernel(op, datatype)
        if found is not None:
            choice |= {"by": lib.TC_BY_KERNEL, "operation": found[0], "element": found[1]}
        _choices[key] = ffi.new("tc_operation_choice *", choice)
    return _choices[key]


def numbers(op: MPI.Op, datatype: MPI.Datatype) -> tuple[int, int]:
    """Return the numbers of an operation and an element, that of no element if there is no kernel for the type."""
    name = next((name for name in _OPERATIONS if op == getattr(MPI, name)), "OPERATIONS")
    element = _element(datatype)
    return getattr(lib, f"TC_{name}"), getattr(lib, f"TC_{element[0]}") if element is not None else lib.TC_ELEMENTS


def _kernel(op: MPI.Op, datatype: MPI.Datatype) -> tuple[int, int] | None:
    """Return the numbers of the kernel that gives the library's bits, or None."""
    name = next((name for name in _OPERATIONS if op == getattr(MPI, name)), None)
    element = _element(datatype)
    if name is None or element is None:
        return None
    operation, number = getattr(lib, f"TC_{name}"), getattr(lib, f"TC_{element[0]}")
    for before in (1, 0):
        landed, held = _operands(element[1])
        wanted = _by_library(op, datatype, landed, held) if before else _by_library(op, datatype, held, landed)
        n = len(landed)
        if wanted is None:
            return None
        if lib.tc_reduce(operation, number, before, ffi.from_buffer(landed), ffi.from_buffer(held), n) != 0:
            return None
        if held.tobytes() != wanted.tobytes():
            return None
    return operation, number


def _element(datatype: MPI.Datatype) -> tuple[str, np.dtype[Any]] | None:
    """Return the kernels' name of a type, and how NumPy reads it."""
    size = datatype.Get_extent()[1]
    for names, prefix, kind in ((_SIGNED, "INT", "i"), (_UNSIGNED, "UINT", "u"), (_LOGICAL, "UINT", "?")):
        if _is_one_of(datatype, names):
            return f"{prefix}{8 * size}", np.dtype(kind if kind == "?" else f"{kind}{size}")
    for name, (element, code) in _OTHERS.items():
        if _is_one_of(datatype, [name]):
            dtype = np.dtype(code, align=True)
            return (element, dtype) if dtype.itemsize == size else None
    return None


def _is_one_of(datatype: MPI.Datatype, names: list[str]) -> bool:
    known = (getattr(MPI, name, MPI.DATATYPE_NULL) for name in names)
    return any(datatype == other for other in known if other != MPI.DATATYPE_NULL)


def _operands(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return two arrays in which every special value meets every other, at every place of a vector register."""
    values = _values(dtype if dtype.names is None else dtype[0])
    n = len(values)
    left, right = np.tile(np.repeat(values, n), 3), np.tile(np.tile(values, n), 3)
    shift = np.arange(len(left)) % 7  # so that the tail of a vector loop sees other values than its body
    left, right = (np.concatenate([a, a[shift.argsort(kind="stable")]]) for a in (left, right))
    if dtype.names is None:
        return left, right
    pairs = np.zeros(len(left), dtype), np.zeros(len(left), dtype)
    for pair, column, step in zip(pairs, (left, right), (3, 5), strict=True):
        pair["f0"] = column
        pair["f1"] = np.arange(len(left)) * step % 4
    return pairs


def _values(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([0, 1, 2, 3, 5, 77, info.max, info.max - 1, info.min, info.min // 2 + 1], dtype)
    with np.errstate(over="ignore"):
        if dtype.kind == "f":
            return np.array(_REAL, dtype)
        short = _REAL[:4] + _REAL[5:6] + _REAL[8:]
        return np.array([complex(re, im) for re in short for im in short], dtype)


def _by_library(op: MPI.Op, datatype: MPI.Datatype, earlier: Any, later: Any) -> Any | None:
    """Return earlier ∘ later as the MPI library has it; None if it refuses."""
    out = _bytes(later).copy().view(later.dtype)  # with the gaps in its elements
    try:
        op.Reduce_local([_bytes(earlier), len(out), datatype], [_bytes(out), len(out), datatype])
    except MPI.Exception:
        return None
    return out


def _bytes(array: Any) -> Bytes:
    out: Bytes = array.view(np.uint8)
    return out
