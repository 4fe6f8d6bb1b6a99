"""Terms of closed forms: a round that is repeated, a tree, a stream of segments; each gives its seconds at any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from topocomm.model.instant.rounds import Key, Rounds

__all__ = ["At", "Overlap", "Step", "Stream", "Term", "Tree"]


class At(NamedTuple):
    """A size and what a message costs: all that a term needs to know beside the priced rounds."""

    nbytes: float
    """Bytes of the vector."""
    overhead: float
    """Seconds that a message keeps its sender busy, those of the engine included."""
    receiving: float
    """Seconds that a combined message keeps its receiver busy."""
    eager: float
    """Bytes of the largest message that does not wait for its receiver."""


class Term(Protocol):
    """A part of a schedule, done before the next one begins."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The rounds that must have been priced."""

    def seconds(self, rounds: Rounds, at: At) -> float:
        """Return the time of the part."""


@dataclass(frozen=True)
class Step:
    """A round, ``times`` times, in which a rank sends the ``part``-th part of what it has of the vector."""

    key: Key
    part: float = 1.0
    times: int = 1
    combines: bool = False
    members: int = 1
    """Ranks that share the vector."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The round."""
        return (self.key,)

    def seconds(self, rounds: Rounds, at: At) -> float:
        """Return overheads and latency of each repetition, and the bytes of all."""
        price, nbytes = rounds[self.key], at.nbytes * self.part
        k = price.messages
        if not k:
            return 0.0
        latency, shared = price.latency, price.shared
        if nbytes <= at.eager * self.members:  # nobody waits for the slowest of a round, only for those on its way
            if self.key.pattern == "s":  # in a butterfly who is late holds up all others
                latency = price.usual if self.times > 1 else (price.latency + price.usual) / 2
            shared = (price.shared + price.single) / 2 if self.times > 1 else shared
        once = max(k * at.overhead + nbytes * price.single, at.overhead + nbytes * shared) + latency
        return self.times * (once + (k * at.receiving if self.combines else 0.0))


@dataclass(frozen=True)
class Tree:
    """A tree of radix k over ``count`` places, towards its root or away from it: whole vectors, or the blocks below."""

    places: tuple[Key, ...]
    """The round of each digit, lowest first."""
    count: int
    radix: int
    share: float
    """The part of the vector that belongs to a place; 0: everything is sent whole."""
    combines: bool = False
    up: bool = False
    """Towards the root: who has several messages in a round receives them."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The rounds of all digits."""
        return self.places

    def seconds(self, rounds: Rounds, at: At) -> float:
        """Return the time of the longest way between the root and a leaf."""
        return self._longest(rounds, at, self.count, len(self.places) - 1)

    def _weight(self, digit: int) -> int:
        return int(self.radix**digit)

    def _longest(self, rounds: Rounds, at: At, count: int, digit: int) -> float:
        while digit >= 0 and self._weight(digit) >= count:
            digit -= 1
        if digit < 0:
            return 0.0
        weight, price = self._weight(digit), rounds[self.places[digit]]
        children = -(-count // weight) - 1
        last = count - children * weight
        nbytes = at.nbytes * ((count - weight) / children * self.share if self.share else 1.0)
        most = min(self.radix, -(-self.count // weight)) - 1  # children in the priced round
        part = children / most
        o, together = at.overhead, nbytes * price.shared * part
        taking = children * at.receiving if self.combines else 0.0
        alone = (1 if self.up else children) * o + nbytes * price.single * min(1.0, part * most)
        family = max(alone, o + together) + (price.usual + price.latency) / 2 + taking
        stays = max(0.0 if self.up else children * o, together) + taking if nbytes <= at.eager else family
        inner = self._longest(rounds, at, weight, digit - 1)
        if last == weight:
            return family + inner
        partial = family + self._longest(rounds, at, last, digit - 1)
        return max(stays + inner, partial, (family + inner) if children > 1 else 0.0)


@dataclass(frozen=True)
class Stream:
    """Segments that follow each other along ways of ``depth`` hops; in a round a rank sends ``messages`` of them."""

    cuts: tuple[tuple[Key, float], ...]
    """Links on the way: the round that uses them, and the part of the vector that passes each in all rounds."""
    segments: int
    depth: float
    messages: int
    combines: bool = False
    up: bool = False
    """Towards the root."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The rounds that use the links."""
        return tuple(key for key, _ in self.cuts)

    def seconds(self, rounds: Rounds, at: At) -> float:
        """Return the time until the last segment is through."""
        k, nbytes = self.messages, at.nbytes / self.segments
        carried = nbytes * max(part * rounds[key].shared for key, part in self.cuts)
        alone = nbytes / k * max(rounds[key].single for key, _ in self.cuts)
        latency = max(rounds[key].usual for key, _ in self.cuts)
        taking = k * at.receiving if self.combines else 0.0
        by_ranks = nbytes * self.cuts[-1][1] * rounds[self.cuts[-1][0]].shared
        filling = (carried + by_ranks) / 2  # while segments come in not all links are busy
        through = max(k * at.overhead + alone, at.overhead + carried)
        small = nbytes / k <= at.eager
        waits = max(k * at.overhead, carried) if small else through + latency
        first = max(k * at.overhead + alone, at.overhead + filling)
        hop = max(at.overhead + alone, filling) if small and self.up else first  # who is near the root sends little
        return (self.segments - 1) * (waits + taking) + first + (self.depth - 1) * hop + self.depth * (latency + taking)


@dataclass(frozen=True)
class Overlap:
    """Rounds on several levels, in segments that follow each other a round apart: links of all levels are busy."""

    steps: tuple[Term, ...]
    segments: int

    @property
    def keys(self) -> tuple[Key, ...]:
        """The rounds."""
        return tuple(key for step in self.steps for key in step.keys)

    def seconds(self, rounds: Rounds, at: At) -> float:
        """Return the time of all rounds; in each a level's links carry all that is on it, a rank all that it sends."""
        each = at._replace(nbytes=at.nbytes / self.segments)
        steps = [step for step in self.steps if isinstance(step, Step) for _ in range(step.times)]
        total = 0.0
        for t in range(len(steps) + self.segments - 1):
            now = steps[max(0, t - self.segments + 1) : t + 1]
            total += self._together(now, rounds, each)
        return total

    @staticmethod
    def _together(now: list[Step], rounds: Rounds, at: At) -> float:
        carried: dict[tuple[str, int], float] = {}
        busy = alone = taking = latency = 0.0
        for step in now:
            price, level = rounds[step.key], (step.key.nest, step.key.outer)
            carried[level] = carried.get(level, 0.0) + at.nbytes * step.part * price.shared
            busy += price.messages * at.overhead
            alone += at.nbytes * step.part * price.own
            taking += price.messages * at.receiving if step.combines else 0.0
            latency = max(latency, price.latency)
        return max(busy + alone, at.overhead + max(carried.values(), default=0.0)) + latency + taking
