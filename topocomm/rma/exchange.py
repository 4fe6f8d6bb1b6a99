"""Repeated exchanges with neighbours, proven safe without a handshake, and the converters that build them.

Each pattern is bound to two alternating sets of memory. A put of round k + 1 goes to the set that its owner read in
round k - 1, and the owner's message of round k, which every partner waits for, left after that. The one thing needed
is that whoever is written to also writes back each round: where a pattern lacks that, a message of no bytes is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from topocomm.rma import errors
from topocomm.rma.context import Context
from topocomm.rma.layout import Array
from topocomm.rma.memory import Memory
from topocomm.rma.plan import Plan
from topocomm.rma.proof import prove_rounds

__all__ = ["Exchange", "Part", "alltoallv", "halo", "neighbour_alltoall", "sendrecv"]

CREDIT = 2**31  # tag of the messages of no bytes


@dataclass(frozen=True)
class Part:
    """One message per round: the peer, a tag both sides agree on, and the index of its elements in the array."""

    rank: int
    tag: int
    index: Any


class Exchange:
    """``sources[k]`` are sent and ``memories[k]`` filled in rounds k, k + 2, ...; collective to make.

    One round is :meth:`start`, then :meth:`wait`, which returns the array that was filled. It may be read until the
    next start. Errors: BlockError if what a peer offers does not match ``sends``; RangeError for sizes and dtypes.
    That no start can overwrite what is being read is proven when it is made (``prove_rounds``).
    """

    def __init__(
        self,
        context: Context,
        sources: Sequence[Array],
        sends: Sequence[Part],
        memories: Sequence[Memory],
        receives: Sequence[Part],
    ) -> None:
        if len(sources) != 2 or len(memories) != 2:
            raise ValueError(f"Exchange: needs two sets, got {len(sources)} sources and {len(memories)} memories")
        self.context = context
        self.memories = tuple(memories)
        self.sources = tuple(sources)
        self.signals = [context.signal() for _ in range(2)]
        self.round = 0
        self._reading = False
        givers = {p.rank for p in receives}
        self.credits = sorted({p.rank for p in sends} - givers)
        offers: dict[int, list[Any]] = {}
        for part in receives:
            for memory, signal in zip(memories, self.signals, strict=True):
                block = memory.block(memory.array[part.index], signal, part.rank, part.tag)
                offers.setdefault(part.rank, []).append(block)
        for rank in self.credits:
            for memory, signal in zip(memories, self.signals, strict=True):
                block = memory.block(memory.array.reshape(-1)[:0], signal, rank, CREDIT)
                offers.setdefault(rank, []).append(block)
        self.plans = self._plans(context.exchange(offers), sends)
        prove_rounds(self.plans, self.signals)

    def _plans(self, targets: dict[int, list[Any]], sends: Sequence[Part]) -> list[Plan]:
        rank = self.context.rank
        places = {(owner, t.tag, i % 2): t for owner, mine in targets.items() for i, t in enumerate(mine)}
        plans = []
        for k in range(2):
            plan = self.context.plan()
            for part in sends:
                target = places.pop((part.rank, part.tag, k), None)
                if target is None:
                    raise errors.BlockError(
                        f"exchange on rank {rank}: rank {part.rank} receives nothing with tag {part.tag} from it"
                    )
                plan.put(self.sources[k][part.index], target)
            for (owner, tag, which), target in sorted(places.items(), key=lambda entry: entry[0]):
                if which == k and tag == CREDIT:
                    plan.put(np.empty(0, target.dtype), target)
                elif which == k:
                    raise errors.BlockError(f"exchange on rank {rank}: sends nothing for rank {owner}'s tag {tag}")
            plans.append(plan)
        return plans

    def start(self) -> None:
        """Ends the reading of the round before, and sends this round's parts."""
        k = self.round % 2
        self.plans[k].start(self.signals[1 - k] if self._reading else None)
        self._reading = False

    def wait(self, timeout: float | None = None) -> Array:
        """The array of this round, complete; what was sent may be changed again."""
        k = self.round % 2
        self.signals[k].wait(timeout)
        self.plans[k].wait(timeout)
        self.round += 1
        self._reading = True
        return self.memories[k].array

    def __call__(self, timeout: float | None = None) -> Array:
        """One whole round."""
        self.start()
        return self.wait(timeout)


def _chunks(peers: Sequence[int], counts: Sequence[int], displacements: Sequence[int] | None) -> list[Part]:
    starts = displacements if displacements is not None else np.concatenate(([0], np.cumsum(counts)[:-1])).tolist()
    if not len(peers) == len(counts) == len(starts):
        raise ValueError(f"{len(peers)} peers, {len(counts)} counts, {len(starts)} displacements do not fit together")
    return [
        Part(peer, 0, slice(int(start), int(start) + int(count)))
        for peer, count, start in zip(peers, counts, starts, strict=True)
        if count
    ]


def alltoallv(
    context: Context,
    source: Array,
    send_counts: Sequence[int],
    receive_counts: Sequence[int],
    send_displacements: Sequence[int] | None = None,
    receive_displacements: Sequence[int] | None = None,
) -> Exchange:
    """``Alltoallv`` of a one-dimensional array, with counts and displacements in elements, one for each rank."""
    ranks = range(context.size)
    sends = _chunks(ranks, send_counts, send_displacements)
    receives = _chunks(ranks, receive_counts, receive_displacements)
    room = max((p.index.stop for p in receives), default=0)
    memories = [context.allocate(room, source.dtype) for _ in range(2)]
    return Exchange(context, [source, source], sends, memories, receives)


def neighbour_alltoall(
    context: Context, source: Array, sources: Sequence[int], destinations: Sequence[int]
) -> Exchange:
    """``Neighbor_alltoall``: row i of ``source`` goes to ``destinations[i]``, row i of the result is ``sources[i]``'s.

    Ranks below zero (``PROC_NULL``) are left out; a rank listed twice gets its rows in order.
    """
    sends = [Part(r, list(destinations[:i]).count(r), i) for i, r in enumerate(destinations) if r >= 0]
    receives = [Part(r, list(sources[:i]).count(r), i) for i, r in enumerate(sources) if r >= 0]
    memories = [context.allocate((len(sources), *source.shape[1:]), source.dtype) for _ in range(2)]
    return Exchange(context, [source, source], sends, memories, receives)


def sendrecv(
    context: Context, source: Array, dest: int, count: int, origin: int, dtype: DTypeLike | None = None
) -> Exchange:
    """``Sendrecv``: ``source`` to ``dest``, ``count`` elements from ``origin``; below zero for nobody."""
    memories = [context.allocate(max(count, 1), dtype or source.dtype) for _ in range(2)]
    sends = [Part(dest, 0, slice(None))] if dest >= 0 else []
    receives = [Part(origin, 0, slice(0, count))] if origin >= 0 else []
    return Exchange(context, [source, source], sends, memories, receives)


def _neighbour(cart: Any, step: Sequence[int]) -> int:
    dims, periods, coords = cart.Get_topo()
    place = [c + s for c, s in zip(coords, step, strict=True)]
    inside = all(p or 0 <= c < d for c, d, p in zip(place, dims, periods, strict=True))
    return int(cart.Get_cart_rank([c % d for c, d in zip(place, dims, strict=True)])) if inside else -1


def _edge(step: Sequence[int], width: int, ghost: bool) -> tuple[slice, ...]:
    """The cells next to, or in, the ghost layer that ``step`` points to; a direction of 0 spans the inside."""
    low = slice(0, width) if ghost else slice(width, 2 * width)
    high = slice(-width, None) if ghost else slice(-2 * width, -width)
    return tuple(slice(width, -width) if s == 0 else high if s > 0 else low for s in step)


def halo(context: Context, memories: Sequence[Memory], cart: Any, width: int = 1, corners: bool = False) -> Exchange:
    """Halo exchange of two alternating arrays over a Cartesian communicator with the same ranks as the context.

    The arrays' leading dimensions are the communicator's, each with ``width`` ghost cells at both ends; ``corners``
    exchanges with diagonal neighbours too. Round k fills the ghost cells of ``memories[k % 2]`` from the neighbours'
    cells of the same array: write to the ghost cells only before this call, later they belong to the neighbours.
    """
    dimensions = len(cart.Get_topo()[0])
    for memory in memories:
        if memory.array.ndim < dimensions or min(memory.array.shape[:dimensions]) < 3 * width:
            raise errors.RangeError(
                f"halo on rank {context.rank}: shape {memory.array.shape} has no room for {width} ghost cells at both "
                f"ends of {dimensions} dimensions"
            )
    sends, receives = [], []
    for number, step in enumerate(product((-1, 0, 1), repeat=dimensions)):
        if not any(step) or (not corners and sum(map(abs, step)) > 1):
            continue
        peer = _neighbour(cart, step)
        if peer < 0:
            continue
        opposite = 3**dimensions - 1 - number
        sends.append(Part(peer, opposite, _edge(step, width, ghost=False)))
        receives.append(Part(peer, number, _edge(step, width, ghost=True)))
    return Exchange(context, [m.array for m in memories], sends, memories, receives)
