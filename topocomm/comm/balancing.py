"""Skewed blocks: a vector of which few ranks hold most is cut into equal parts for the time of a schedule.

Schedules move blocks whole, so one that is much larger than the others would go through every rank by itself. All ranks
know all counts. So the blocks of an allgatherv first become equal parts, by direct messages to the ranks where the
parts lie, and these are gathered; what a reduce_scatter leaves in equal parts goes to the ranks that want it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI

from topocomm.arrays import Bytes, IntArray
from topocomm.comm.call import Call, Read
from topocomm.comm.exchanging import Block

__all__ = ["even", "is_skewed", "moves", "parts"]

SKEW = 2
"""From this number of times the mean on, the largest block makes a vector skewed."""
_LEAST = 4096
"""Bytes of the whole vector below which a further round of messages costs more than large blocks."""


def is_skewed(call: Call) -> bool:
    """Tell whether a call's blocks are to become equal parts first; alike on all ranks."""
    counts = call.counts
    if not isinstance(counts, tuple) or call.traits.whole or not call.traits.commutative:
        return False
    total = sum(counts)
    return total * call.itemsize >= _LEAST and max(counts) * len(counts) > SKEW * total


def parts(call: Call) -> tuple[int, ...]:
    """Return the elements of nearly equal parts of a call's vector, one a rank."""
    from topocomm.schedule.blocks import block_cuts

    assert isinstance(call.counts, tuple)
    return tuple(np.diff(block_cuts(sum(call.counts), len(call.counts))).tolist())


def even(read: Read, rank: int, whole: Bytes) -> Read:
    """Return the call on equal parts that stands in for a skewed one.

    ``whole``: the vector, of an allgather; of a reduce_scatter a part's memory, which gets the result.
    """
    counts = parts(read.call)
    call = read.call._replace(counts=counts)
    if call.collective != "allgather":
        return read._replace(call=call, in_place=False, recv=whole, result=None)
    begin = sum(counts[:rank]) * call.itemsize
    return read._replace(call=call, in_place=True, send=whole[begin:][: counts[rank] * call.itemsize], recv=whole)


def moves(
    give: Sequence[int], take: Sequence[int], rank: int, source: Bytes, target: Bytes, itemsize: int
) -> tuple[list[Block], list[Block]]:
    """Return what a rank sends and receives where a vector in blocks of ``give`` elements becomes one of ``take``.

    ``source``: this rank's block of before; ``target``: its block of after.
    """
    before, after = (np.concatenate(([0], np.cumsum(c))) * itemsize for c in (give, take))
    sends = _overlaps(int(before[rank]), int(before[rank + 1]), after, source)
    return sends, _overlaps(int(after[rank]), int(after[rank + 1]), before, target)


def _overlaps(begin: int, end: int, cuts: IntArray, memory: Bytes) -> list[Block]:
    """Return the pieces between each two cuts of the bytes from ``begin`` to ``end``, which are in ``memory``."""
    low, high = np.maximum(cuts[:-1], begin), np.minimum(cuts[1:], end)
    address = memory.ctypes.data - begin
    pairs = zip(low.tolist(), high.tolist(), strict=True)
    return [Block(address + a, b - a, MPI.BYTE) if b > a else Block(0, 0, MPI.BYTE) for a, b in pairs]
