"""Repeated exchanges with neighbours, proven safe without a handshake.

Each pattern is bound to two alternating sets of memory. A put of round k + 1 goes to the set that its owner read in
round k - 1, and the owner's message of round k, which every partner waits for, left after that. The one thing needed
is that whoever is written to also writes back each round: where a pattern lacks that, a message of no bytes is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from topocomm.rma import errors
from topocomm.rma._lib import ffi
from topocomm.rma.context import Context
from topocomm.rma.memory import Block, BlockHandle, Memory, Target
from topocomm.rma.plan import Plan
from topocomm.rma.proof import prove_rounds
from topocomm.rma.signal import Signal
from topocomm.rma.strides import Array
from topocomm.rma.together import together

__all__ = ["Exchange", "Part"]

CREDIT = 2**31  # tag of the messages of no bytes
IDLE, STARTED, FREED = range(3)


@dataclass(frozen=True)
class Part:
    """One message per round: the peer, a tag both sides agree on, and the index of its elements in the array."""

    rank: int
    tag: int
    index: Any


class Exchange:
    """``sources[k]`` are sent and ``memories[k]`` filled in rounds k, k + 2, ...; collective to make.

    One round is :meth:`start`, then :meth:`wait`, which returns the array that was filled. It may be read until the
    next start. That no start can overwrite what is being read is proven when it is made (``prove_rounds``).

    Errors, alike on every rank and naming the rank at fault: BlockError if what a peer offers does not match
    ``sends``; RangeError for sizes, dtypes, and memories that share bytes; ValueError for peers and tags; LimitError.
    """

    def __init__(
        self,
        context: Context,
        sources: Sequence[Array],
        sends: Sequence[Part],
        memories: Sequence[Memory],
        receives: Sequence[Part],
        *,
        owned: bool = False,
    ) -> None:
        """``owned``: the memories are the exchange's own, and :meth:`free` frees them."""
        self.context = context
        self.memories = tuple(memories)
        self.sources = tuple(sources)
        self.signals: list[Signal] = []
        self.plans: list[Plan] = []
        self.credits = sorted({p.rank for p in sends} - {p.rank for p in receives})
        self.round = 0
        self._state = IDLE
        self._reading = False
        self._owned = owned
        self._blocks: list[Block] = []
        self._targets: list[Target] = []
        try:
            tickets = together(context, lambda: self._offer(sends, receives))
            offered = context.comm.alltoall(tickets)
            together(context, lambda: self._bind(offered, sends))
            prove_rounds(self.plans, self.signals)
        except BaseException:
            self._release()
            raise

    def _offer(self, sends: Sequence[Part], receives: Sequence[Part]) -> list[list[BlockHandle]]:
        """Issue the blocks of both sets, and of the messages of no bytes; returns the tickets for each rank."""
        who = f"exchange on rank {self.context.rank}"
        self._check(who)
        _check_parts(sends, self.context.size, f"{who}, sends")
        _check_parts(receives, self.context.size, f"{who}, receives")
        for _ in range(2):
            self.signals.append(self.context.signal())
        tickets: list[list[BlockHandle]] = [[] for _ in range(self.context.size)]
        for part in (*receives, *(Part(rank, CREDIT, None) for rank in self.credits)):
            for memory, signal in zip(self.memories, self.signals, strict=True):
                view = memory.array.reshape(-1)[:0] if part.tag == CREDIT else memory.array[part.index]
                self._blocks.append(memory.block(view, signal, part.rank, part.tag))
                tickets[part.rank].append(self._blocks[-1].ticket)
        return tickets

    def _check(self, who: str) -> None:
        if len(self.sources) != 2 or len(self.memories) != 2:
            raise errors.RangeError(
                f"{who}: needs two sets, got {len(self.sources)} sources, {len(self.memories)} memories"
            )
        for memory in self.memories:
            if not isinstance(memory, Memory):
                raise errors.KindError(
                    f"{who}: needs memories made by Context.allocate or Context.register, got {type(memory).__name__}"
                )
            if memory.context is not self.context:
                raise errors.RangeError(f"{who}: a memory belongs to another context")
        if np.may_share_memory(self.memories[0].array, self.memories[1].array):
            raise errors.RangeError(
                f"{who}: the two memories share bytes, so that a message of the next round would overwrite what is "
                "being read; alternate between two arrays"
            )

    def _bind(self, offered: Sequence[Sequence[BlockHandle]], sends: Sequence[Part]) -> None:
        rank = self.context.rank
        places: dict[tuple[int, int, int], Target] = {}
        for owner, mine in enumerate(offered):
            for i, ticket in enumerate(mine):
                target = self.context.open(ticket)
                self._targets.append(target)
                places[owner, target.tag, i % 2] = target
        for k in range(2):
            plan = self.context.plan()
            self.plans.append(plan)
            for part in sends:
                place = (part.rank, part.tag, k)
                if place not in places:
                    raise errors.BlockError(
                        f"exchange on rank {rank}: rank {part.rank} receives nothing with tag {part.tag} from it"
                    )
                plan.put(self.sources[k][part.index], places.pop(place))
            for (owner, tag, which), target in sorted(places.items(), key=lambda entry: entry[0]):
                if which == k and tag == CREDIT:
                    plan.put(np.empty(0, target.dtype), target)
                elif which == k:
                    raise errors.BlockError(f"exchange on rank {rank}: sends nothing for rank {owner}'s tag {tag}")

    def start(self) -> None:
        """End the reading of the round before, and send this round's parts. Errors: BusyError without a wait."""
        if self._state:
            raise self._misused("start")
        k = self.round % 2
        try:
            self.plans[k].start(self.signals[1 - k] if self._reading else None)
        finally:
            self._reading = False
        self._state = STARTED

    def wait(self, timeout: float | None = None) -> Array:
        """Wait for this round's array and return it; data sent may be changed. Errors: BusyError without a start."""
        if self._state != STARTED:
            raise self._misused("wait")
        k = self.round % 2
        self.signals[k].wait(timeout)
        self.plans[k].wait(timeout)
        self.round += 1
        self._reading = True
        self._state = IDLE
        return self.memories[k].array

    def __call__(self, timeout: float | None = None) -> Array:
        """Run one round, start and wait, and return the array that it filled."""
        self.start()
        return self.wait(timeout)

    def free(self) -> None:
        """Free signals, blocks and plans, and memory that a converter allocated: copy data to keep before.

        Not collective, but every rank frees it after the same round. Errors: BusyError while a round is under way.
        """
        if self._state == STARTED:
            raise self._misused("free")
        if self._state == IDLE:
            self._state = FREED
            self._release()

    def _release(self) -> None:
        for plan in self.plans:
            plan.free()
        for target in self._targets:
            target.close()
        for block in self._blocks:
            block.free()
        for signal in self.signals:
            signal.free()
        for memory in self.memories if self._owned else ():
            memory.free()
        for things in (self.plans, self._targets, self._blocks, self.signals):
            cast("list[Any]", things).clear()

    def _misused(self, what: str) -> errors.RmaError:
        who = f"{what} of an exchange on rank {self.context.rank}, round {self.round}"
        if self._state == FREED:
            return errors.FreedError(f"{who}: the exchange was freed")
        without = "start() was called without wait()" if self._state == STARTED else "wait() was called without start()"
        return errors.BusyError(f"{who}: {without}")

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.context.handle != ffi.NULL:
            self.free()


def _check_parts(parts: Sequence[Part], size: int, who: str) -> None:
    seen: set[tuple[int, int]] = set()
    for part in parts:
        if not 0 <= part.rank < size:
            raise errors.RangeError(f"{who}: rank {part.rank}, the communicator has {size}")
        if not 0 <= part.tag < CREDIT:
            raise errors.RangeError(f"{who}: tag {part.tag}, must be from 0 to {CREDIT - 1}")
        if (part.rank, part.tag) in seen:
            raise errors.RangeError(
                f"{who}: two parts with tag {part.tag} for rank {part.rank}; give each a tag of its own"
            )
        seen.add((part.rank, part.tag))
