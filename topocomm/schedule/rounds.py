"""The schedule of a collective: who sends which slots to whom in which round. Pure data; no bytes, no MPI.

A vector is cut into *blocks*; a rank keeps them in the *slots* of its working buffer. Every rank has a
:class:`RankSchedule`: where its input blocks are loaded, its rounds, and from which slots its output is stored.

What a round means, to the verifier and to every engine alike:

* all sends and receives of a round may overlap; the round ends when all of them are complete;
* a send takes the contents of its slots at the beginning of the round;
* a plain receive must not touch a slot that the same round sends or receives otherwise;
* a combining receive is applied when the round ends, in the order in which the round lists them;
* messages between two ranks match in the order in which they are listed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, overload

import numpy as np

from topocomm.arrays import IntArray

__all__ = [
    "Combine",
    "Exchanges",
    "Item",
    "RankSchedule",
    "Recv",
    "Repeat",
    "Round",
    "Schedule",
    "Send",
    "Slots",
    "exchange",
    "expand",
    "refine",
    "relabel",
    "reverse_rounds",
    "shift_slots",
    "sort_slots",
]

Slots: TypeAlias = range | IntArray
"""Positions in the working buffer: a range where they are regular, an index array where they are not."""


class Combine(enum.Enum):
    """What a receive does with the block that is already in its slot (∘ is the reduction operation)."""

    REPLACE = "replace"
    """The received block takes its place."""
    BEFORE = "before"
    """slot = received ∘ slot: the sender's operands come earlier in the order of ranks."""
    AFTER = "after"
    """slot = slot ∘ received: the sender's operands come later."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``slots`` to ``peer`` as one message."""

    peer: int
    slots: Slots


@dataclass(frozen=True, slots=True)
class Recv:
    """Receive one message from ``peer`` into ``slots``."""

    peer: int
    slots: Slots
    combine: Combine = Combine.REPLACE


@dataclass(frozen=True, slots=True)
class Round:
    """Transfers of one rank that may overlap."""

    sends: tuple[Send, ...] = ()
    recvs: tuple[Recv, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """One round, repeated ``times`` times while its slots move on: those of a ring.

    Repetition i sends and receives the slots of ``round`` moved by i · ``step``, modulo ``modulus``.
    """

    round: Round
    times: int
    step: int
    modulus: int

    def at(self, i: int) -> Round:
        """Return the round of repetition ``i``."""

        def moved(slots: Slots) -> Slots:
            return shift_slots(slots, i * self.step, self.modulus)

        sends = tuple(Send(s.peer, moved(s.slots)) for s in self.round.sends)
        return Round(sends, tuple(Recv(r.peer, moved(r.slots), r.combine) for r in self.round.recvs))


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Many messages of one slot each, as arrays of equal length: those of an all-to-all.

    Exchange i sends slot ``send_slots[i]`` to ``send_peers[i]`` and receives slot ``recv_slots[i]`` from
    ``recv_peers[i]``; ``window`` exchanges in a row are one round.
    """

    send_peers: IntArray
    send_slots: IntArray
    recv_peers: IntArray
    recv_slots: IntArray
    window: int = 1
    combine: Combine = Combine.REPLACE

    def __len__(self) -> int:
        return len(self.send_peers)

    def rounds(self) -> tuple[Round, ...]:
        """Return the same as rounds."""
        to, give, source, take = (
            a.tolist() for a in (self.send_peers, self.send_slots, self.recv_peers, self.recv_slots)
        )
        sends = [Send(peer, range(slot, slot + 1)) for peer, slot in zip(to, give, strict=True)]
        recvs = [Recv(peer, range(slot, slot + 1), self.combine) for peer, slot in zip(source, take, strict=True)]
        starts = range(0, len(sends), self.window)
        return tuple(Round(tuple(sends[i : i + self.window]), tuple(recvs[i : i + self.window])) for i in starts)


Item: TypeAlias = Round | Repeat | Exchanges


def expand(items: Iterable[Item]) -> tuple[Round, ...]:
    """Write repeated rounds and arrays of exchanges out, round by round."""
    rounds: list[Round] = []
    for item in items:
        if isinstance(item, Round):
            rounds.append(item)
        elif isinstance(item, Repeat):
            rounds += [item.at(i) for i in range(item.times)]
        else:
            rounds += item.rounds()
    return tuple(rounds)


@dataclass(frozen=True)
class RankSchedule:
    """One rank's part: input block i is loaded into slot ``load[i]``, output block i is stored from ``store[i]``.

    ``items`` are its rounds, regular ones in short; ``rounds`` writes them out.
    """

    load: Slots
    items: tuple[Item, ...]
    store: Slots

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds one by one."""
        if all(isinstance(item, Round) for item in self.items):
            return self.items  # type: ignore[return-value]
        return expand(self.items)


@dataclass(frozen=True)
class Schedule:
    """A collective's schedule for every rank, made rank by rank on demand.

    ``part(r)`` costs O(size) time and memory and looks at no other rank's part.
    """

    size: int
    nslots: int
    part: Callable[[int], RankSchedule] = field(repr=False)
    root: int = 0
    collective: str = ""
    algorithm: str = ""
    reordering: str = "none"
    """How the reordering permutation is realised: ``none`` where it cancels, ``local``, ``exchange`` or ``direct``."""
    in_order: bool = False
    """Whether operands are combined in the order of ranks, as a non-commutative operation needs."""
    pieces: int = 1
    """Into how many slots, numbered one after the other, each block of an allgather or reduce_scatter is cut."""


def exchange(peer: int, send: Slots, recv: Slots, combine: Combine = Combine.REPLACE) -> Round:
    """The round in which a rank sends to and receives from one peer."""
    return Round((Send(peer, send),), (Recv(peer, recv, combine),))


def sort_slots(slots: Iterable[int] | IntArray) -> Slots:
    """The same set of slots, ascending; as a range where they are contiguous."""
    array = np.sort(np.asarray(slots if isinstance(slots, np.ndarray) else list(slots), np.int64))
    return compact(array)


def compact(array: IntArray) -> Slots:
    """``array`` itself, or the range that equals it if it is an ascending contiguous run."""
    n = len(array)
    if n == 0:
        return range(0)
    first, last = int(array[0]), int(array[-1])
    if last - first == n - 1 and (n < 3 or bool((np.diff(array) == 1).all())):
        return range(first, last + 1)
    return array


def shift_slots(base: Slots, shift: int, modulus: int) -> Slots:
    """Slots ``(base + shift) mod modulus``, ascending: the wrap-around run of rank ``shift`` in a ring of slots."""
    if isinstance(base, range) and base.step == 1:
        if len(base) == 0:
            return base
        first = (base.start + shift) % modulus
        if first + len(base) <= modulus:
            return range(first, first + len(base))
    return compact(np.sort((np.asarray(base, np.int64) + shift) % modulus))


def refine(slots: Slots, pieces: int) -> Slots:
    """The slots of the same blocks where every slot is cut into ``pieces``."""
    if pieces == 1:
        return slots
    if isinstance(slots, range) and slots.step == 1:
        return range(pieces * slots.start, pieces * slots.stop)
    return compact((pieces * np.asarray(slots, np.int64)[:, None] + np.arange(pieces)).reshape(-1))


@overload
def reverse_rounds(items: Iterable[Round]) -> tuple[Round, ...]: ...
@overload
def reverse_rounds(items: Iterable[Item]) -> tuple[Item, ...]: ...
def reverse_rounds(items: Iterable[Item]) -> tuple[Item, ...]:
    """Reverse in time: the last round first, sends become receives and receives sends, nothing is combined.

    It turns a reduction along a tree of messages into the broadcast along the same tree: reduce_scatter into
    allgather, reduce into bcast, gather into scatter.
    """
    return tuple(back for item in reversed(tuple(items)) for back in _reversed(item))


def _reversed(item: Item) -> tuple[Item, ...]:
    if isinstance(item, Repeat):
        return (Repeat(_reversed_round(item.at(item.times - 1)), item.times, -item.step, item.modulus),)
    if isinstance(item, Exchanges) and item.window == 1:
        to, give, source, take = item.recv_peers, item.recv_slots, item.send_peers, item.send_slots
        return (Exchanges(to[::-1], give[::-1], source[::-1], take[::-1]),)
    return tuple(_reversed_round(rnd) for rnd in reversed(expand((item,))))


def _reversed_round(rnd: Round) -> Round:
    return Round(tuple(Send(r.peer, r.slots) for r in rnd.recvs), tuple(Recv(s.peer, s.slots) for s in rnd.sends))


@overload
def relabel(items: Iterable[Round], peers: IntArray | None, slots: IntArray | None) -> tuple[Round, ...]: ...
@overload
def relabel(items: Iterable[Item], peers: IntArray | None, slots: IntArray | None) -> tuple[Item, ...]: ...
def relabel(items: Iterable[Item], peers: IntArray | None, slots: IntArray | None) -> tuple[Item, ...]:
    """Call peer i ``peers[i]`` and slot s ``slots[s]`` (None: unchanged)."""

    def peer(i: int) -> int:
        return i if peers is None else int(peers[i])

    def slot(s: Slots) -> Slots:
        return s if slots is None else compact(slots[np.asarray(s, np.int64)])

    def one(rnd: Round) -> Round:
        sends = tuple(Send(peer(s.peer), slot(s.slots)) for s in rnd.sends)
        return Round(sends, tuple(Recv(peer(r.peer), slot(r.slots), r.combine) for r in rnd.recvs))

    out: list[Item] = []
    for item in items:
        if isinstance(item, Exchanges):
            to, source = (a if peers is None else peers[a] for a in (item.send_peers, item.recv_peers))
            give, take = (a if slots is None else slots[a] for a in (item.send_slots, item.recv_slots))
            out.append(Exchanges(to, give, source, take, item.window, item.combine))
        elif isinstance(item, Repeat):
            if slots is None:
                out.append(Repeat(one(item.round), item.times, item.step, item.modulus))
            else:
                out += [one(rnd) for rnd in expand((item,))]
        else:
            out.append(one(item))
    return tuple(out)
