"""Calls that are answered in C: what the recogniser must know about mpi4py, NumPy and MPI, and what it may remember.

The recogniser (csrc/python) lies below :class:`topocomm.Comm`. Calls that the Python path has completed are remembered
by what the MPI library sees of them: collective, datatype, bytes, operation, root, ``MPI.IN_PLACE``, and whether the
input lies in the receive buffer. What serves them is the MPI library's own function, for a range of sizes, or a program
of the engine ``c``. Only plain arguments are recognised: arrays in one piece, bare, as ``[array, datatype]`` or as
``[array, count, datatype]``, predefined datatypes and operations. Everything else, and every mistake, takes the
Python path.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from mpi4py import MPI

from topocomm.comm._recogniser import know
from topocomm.comm.buffers import of_code, size_of
from topocomm.comm.call import Read
from topocomm.comm.operations import PREDEFINED

if TYPE_CHECKING:
    from topocomm.engines import c
    from topocomm.engines.node import LargeCall, NodeCall
    from topocomm.engines.walk import Sized

    Native = tuple[int, int]
    """First number of bytes that the MPI library serves, and the first one that it does not."""
    Program = tuple[int, int, c.Bound | NodeCall, bool]
    """Addresses of a function in C and of its first argument, what keeps that, and whether the input is in place."""

__all__ = ["Native", "Program", "Served", "can_recognise"]

_METHODS = (
    *("Allgather", "Alltoall", "Allreduce", "Reduce_scatter_block", "Bcast", "Reduce", "Gather", "Scatter", "Barrier"),
    "Reduce_scatter",
)
"""In the order of csrc/python/memo.h."""
_CODES = "dflibDFqhBLIHQ?gG"
"""Of NumPy's types that MPI has, the usual ones first."""


class Served(NamedTuple):
    """A call that a program has served."""

    sized: Sized | c.Sized | NodeCall | LargeCall
    read: Read

    def bind(self) -> Program | None:
        """Return what serves such calls in C; None if only the Python path can."""
        from topocomm.engines import c
        from topocomm.engines.node import NodeCall

        sized, read = self.sized, self.read
        if read.call.collective == "reduce_scatter":
            return None  # the program is that of these counts, and counts are not remembered
        copied = not read.recv.flags.writeable or (read.result is not None and read.result.put_back is not None)
        if isinstance(sized, NodeCall) and not copied:
            return sized.address, sized.state, sized, read.in_place
        if copied or not isinstance(sized, c.Sized):
            return None
        bound = c.Bound(sized, read.op, read.datatype)
        return bound.call, bound.state, bound, read.in_place


@cache
def can_recognise() -> bool:
    """Return True if calls can be recognised here, after giving the recogniser its facts.

    False where the MPI library does not show its functions, or handles have several widths.
    """
    from topocomm.library import address, handle

    functions = [address(f"MPI_{name}") for name in _METHODS]
    widths = {MPI._sizeof(kind) for kind in (MPI.Comm, MPI.Datatype, MPI.Op)}
    if None in functions or widths - {4, 8} or len(widths) > 1:
        return False
    arrays = {code: handle(found) for code in _CODES if (found := of_code(code)) is not None}
    know(
        (np.ndarray, MPI.Datatype, MPI.Op, MPI.IN_PLACE, MPI.Exception),
        (widths.pop(), _place(MPI.COMM_SELF), _place(MPI.BYTE), _place(MPI.SUM)),
        tuple(at for at in functions if at is not None),
        int(MPI.IN_PLACE) % (1 << 64),
        handle(MPI.SUM),
        tuple(handle(op) for op in PREDEFINED),
        _types(),
        tuple((np.dtype(code), number) for code, number in arrays.items()),
        {f"Z{code.lower()}" if code in "FDG" else code: number for code, number in arrays.items()},
    )
    return True


def _place(obj: MPI.Comm | MPI.Datatype | MPI.Op) -> int:
    """Return the bytes from the beginning of an object of mpi4py's to its handle."""
    return int(MPI._addressof(obj)) - id(obj)


def _types() -> tuple[tuple[int, int], ...]:
    """Return the handles and bytes of the predefined datatypes that are their own bytes; those of arrays come first."""
    from topocomm.library import handle

    of_arrays = [of_code(code) for code in _CODES]
    named = [value for value in vars(MPI).values() if isinstance(value, MPI.Datatype)]
    found = [datatype for datatype in (*of_arrays, *named) if datatype is not None and datatype]
    sizes = {handle(datatype): _bytes_of(datatype) for datatype in found}
    return tuple((number, size) for number, size in sizes.items() if size)


def _bytes_of(datatype: MPI.Datatype) -> int:
    """Return the bytes of an element as :func:`size_of` does; 0 for a type that mpi4py names and the library lacks."""
    try:
        return size_of(datatype)
    except MPI.Exception:
        return 0
