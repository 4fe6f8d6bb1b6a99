"""Operations of reductions: may their vectors be cut, must operands keep the order of ranks, what are they called.

An operation that a program made gets whole vectors: MPI lets a library hand it pieces, but programs rely on what
libraries do, and an operation such as "minima in the first half, maxima in the second" is wrong on pieces.
:func:`elementwise` says of an operation that it works on every element by itself, so that faster algorithms may cut.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

__all__ = [
    "PLAIN",
    "PREDEFINED",
    "Traits",
    "combines",
    "elementwise",
    "known_plain",
    "op_name",
    "reducible",
    "traits_of",
    "type_name",
]


class Traits(NamedTuple):
    """The facts about a reduction's operation and type on which its algorithm depends; equal on all ranks."""

    commutative: bool = True
    whole: bool = False
    """The operation gets whole vectors, never pieces."""
    foreign: bool = False
    """The elements overlap or begin before their address: only the MPI library can reduce them."""
    own: bool = False
    """The operation is the program's own."""


PLAIN = Traits()
_NAMES = ("SUM", "MAX", "MIN", "PROD", "LAND", "LOR", "LXOR", "BAND", "BOR", "BXOR", "MAXLOC", "MINLOC")
PREDEFINED: tuple[MPI.Op, ...] = tuple(getattr(MPI, name) for name in _NAMES)
"""MPI's own operations: commutative, and elementwise."""

_elementwise: dict[int, weakref.ref[MPI.Op]] = {}
"""Operations declared so, by the identity of the object: handles are used again when an operation is freed."""
_reduces: dict[tuple[int, int], bool] = {}
"""Whether the library reduces a predefined type with a predefined operation, by handles."""


def elementwise(op: MPI.Op) -> MPI.Op:
    """Declare that ``op`` works on every element by itself, so that vectors may be cut; returns ``op``.

    Say it on every rank, of the object that is passed to the reductions. MPI's own operations are elementwise already.
    Raises TypeError if ``op`` is no operation.
    """
    if not isinstance(op, MPI.Op):
        raise TypeError(f"elementwise needs an MPI.Op, found {type(op).__name__}")
    key = id(op)
    _elementwise[key] = weakref.ref(op, lambda _: _elementwise.pop(key, None))
    return op


def known_plain(op: MPI.Op, datatype: MPI.Datatype) -> bool:
    """Whether MPI's own ``op`` is known to reduce a predefined type: what most calls do, told at once."""
    return isinstance(op, MPI.Op) and _reduces.get((op.handle, datatype.handle), False)


def traits_of(op: MPI.Op) -> Traits:
    """The traits of an operation on elements that lie side by side."""
    if op is MPI.SUM or op.is_predefined:
        return PLAIN
    declared = _elementwise.get(id(op))
    return Traits(op.Is_commutative(), declared is None or declared() is not op, own=True)


def reducible(op: MPI.Op, datatype: MPI.Datatype) -> bool:
    """Whether the MPI library reduces this type with this operation."""
    if not isinstance(op, MPI.Op) or op in (MPI.OP_NULL, MPI.REPLACE, MPI.NO_OP):
        return False
    if not op.is_predefined:
        return True
    key = op.handle, datatype.handle
    found = _reduces.get(key)
    if found is None:
        found = _tried(op, datatype)
        if datatype.is_predefined:
            _reduces[key] = found
    return found


def combines() -> bool:
    """Return False where ``MPI_Reduce_local`` crashes: in Open MPI until MPI_Init is called (Sessions)."""
    return MPI.Is_initialized() or MPI.get_vendor()[0] != "Open MPI"


def _tried(op: MPI.Op, datatype: MPI.Datatype) -> bool:
    if not combines():  # the MPI library reduces, and says so if it cannot
        return True
    one, two = np.zeros((2, max(datatype.Get_extent()[1], 1)), np.uint8)
    try:
        op.Reduce_local([one, 1, datatype], [two, 1, datatype])
    except MPI.Exception:
        return False
    return True


def type_name(datatype: MPI.Datatype, itemsize: int) -> str:
    """The name that all ranks must have for a type: ``long`` and ``long long`` of equal size are alike."""
    if not datatype.is_predefined:
        return f"derived type of {itemsize} bytes"
    code = datatype.typestr
    return datatype.name if code.startswith("V") else code


def op_name(op: MPI.Op) -> str:
    """The name that all ranks must have for an operation."""
    if op.is_predefined:
        return next((name for name, known in zip(_NAMES, PREDEFINED, strict=True) if known == op), "operation")
    traits = traits_of(op)
    words = ["user operation", *["not commutative"] * (not traits.commutative), *["elementwise"] * (not traits.whole)]
    return ", ".join(words)
