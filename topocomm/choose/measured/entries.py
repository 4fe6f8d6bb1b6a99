"""Measured times: one entry a call, size and place, and the choice among the algorithms that were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import isqrt

from topocomm.collectives import COLLECTIVES

__all__ = ["NATIVE", "Entry", "Key", "Timing", "Tuning", "class_of", "merge", "per_rank", "winner"]

NATIVE = "native"

Key = tuple[str, str, str, str, str]
"""Collective, type class, topology signature, MPI library, engine: what must be equal for a measurement to count."""


def class_of(collective: str, commutative: bool = True) -> str:
    """The type class of a call: ``commutative`` or ``ordered`` where operands are combined, else ``plain``."""
    if not COLLECTIVES[collective].reduces:
        return "plain"
    return "commutative" if commutative else "ordered"


def per_rank(collective: str, nbytes: int, ranks: int) -> int:
    """Bytes of one rank's block; of a collective without blocks the whole vector's."""
    return -(-nbytes // ranks) if COLLECTIVES[collective].blocks else nbytes


@dataclass(frozen=True)
class Timing:
    """One algorithm at one size: seconds of the slowest rank, over repetitions."""

    median: float
    repetitions: int
    spread: float
    """Half of the interquartile range, seconds; 0 for fewer than two repetitions."""


@dataclass(frozen=True)
class Entry:
    """What was measured of one call at one size on one topology, all algorithms taking turns; ``native`` is among them.

    ``nbytes`` are those of the whole vector, as `topocomm.choose.rule` counts them; ``measured`` is the time in UTC.
    """

    collective: str
    nbytes: int
    ranks: int
    signature: str
    type_class: str
    library: str
    engine: str
    measured: str
    algorithms: Mapping[str, Timing]
    placement: str = ""
    """The topology in words, for people."""

    @property
    def key(self) -> Key:
        """What must be equal for this entry to count; the size comes on top."""
        return self.collective, self.type_class, self.signature, self.library, self.engine

    @property
    def native(self) -> Timing:
        """The MPI library's own call."""
        return self.algorithms[NATIVE]

    def describe(self) -> str:
        """One line that names the entry."""
        return (
            f"{self.collective} of {self.nbytes} bytes on {self.ranks} ranks ({self.type_class}, topology "
            f"{self.signature}, {self.library}, {self.engine})"
        )


def winner(algorithms: Mapping[str, Timing]) -> str:
    """The algorithm with the smallest median, of equal ones the first by name; native unless it is beaten.

    Beaten means by more than the spread of either: within the noise the MPI library's own call is kept.
    """
    native = algorithms[NATIVE]
    better = [
        (timing.median, name)
        for name, timing in algorithms.items()
        if name != NATIVE and native.median - timing.median > max(native.spread, timing.spread)
    ]
    return min(better)[1] if better else NATIVE


@dataclass(frozen=True)
class Tuning:
    """The entries of a tuning file; no two have the same key and size."""

    entries: tuple[Entry, ...] = ()
    source: str = field(default="tuning", compare=False)

    @cached_property
    def _by_key(self) -> Mapping[Key, Sequence[Entry]]:
        table: dict[Key, list[Entry]] = {}
        for entry in sorted(self.entries, key=lambda e: e.nbytes):
            table.setdefault(entry.key, []).append(entry)
        return table

    def nearest(
        self, collective: str, nbytes: int, signature: str, commutative: bool, library: str, engine: str
    ) -> Entry | None:
        """The entry of the nearest measured size on a log scale, the smaller of two equally near; within a factor 2."""
        key = collective, class_of(collective, commutative), signature, library, engine
        near = [e for e in self._by_key.get(key, ()) if _near(e.nbytes, nbytes)]
        return min(near, key=lambda e: _ratio(e.nbytes, nbytes), default=None)

    def best(
        self, collective: str, nbytes: int, signature: str, commutative: bool, library: str, engine: str
    ) -> tuple[str, str] | None:
        """The measured algorithm for ``nbytes`` bytes of the whole vector, and why; None if nothing near was measured.

        Depends on nothing but the arguments and the entries. Native unless it is beaten by more than the noise.
        """
        entry = self.nearest(collective, nbytes, signature, commutative, library, engine)
        if entry is None:
            return None
        name = winner(entry.algorithms)
        measured = f"measured at {entry.nbytes} bytes ({self.source})"
        own = _amount(entry.native.median)
        if name != NATIVE:
            return name, f"{measured}: {_amount(entry.algorithms[name].median)}, native {own}"
        others = [(t.median, n) for n, t in entry.algorithms.items() if n != NATIVE]
        if not others:
            return NATIVE, f"{measured}: {own}, nothing else can run"
        median, second = min(others)
        return NATIVE, f"{measured}: {own}, best of the others {second} {_amount(median)}"

    def cuts(self, collective: str, signature: str, commutative: bool, library: str, engine: str) -> set[int]:
        """The sizes in bytes from which on :meth:`nearest` may find another entry than one byte below."""
        key = collective, class_of(collective, commutative), signature, library, engine
        sizes = [e.nbytes for e in self._by_key.get(key, ())]
        between = {isqrt(a * b) + 1 for a, b in pairwise(sizes)}
        return between | {-(-n // 2) for n in sizes} | {2 * n + 1 for n in sizes} | {1}

    def with_entry(self, entry: Entry) -> Tuning:
        """The same with one entry more, in place of one of the same key and size."""
        kept = tuple(e for e in self.entries if (e.key, e.nbytes) != (entry.key, entry.nbytes))
        return Tuning((*kept, entry), self.source)


def _ratio(a: int, b: int) -> float:
    return 1.0 if a == b else max(a, b) / max(min(a, b), 1)


def _near(measured: int, wanted: int) -> bool:
    """Whether sizes differ by a factor of at most 2; nothing is near to no bytes but no bytes."""
    return measured == wanted or (min(measured, wanted) > 0 and max(measured, wanted) <= 2 * min(measured, wanted))


def _amount(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def merge(a: Tuning, b: Tuning) -> tuple[Tuning, list[str]]:
    """Both files' entries, and one line for every conflict.

    Where both measured the same call at the same size, one whole entry is taken, as times of different runs cannot be
    compared: the one with more repetitions of native, of equal ones the later, else that of ``a``.
    """
    table = {(e.key, e.nbytes): e for e in a.entries}
    conflicts = []
    for entry in b.entries:
        mine = table.setdefault((entry.key, entry.nbytes), entry)
        if mine == entry:
            continue
        ours, theirs = ((e.native.repetitions, e.measured) for e in (mine, entry))
        taken, source = (entry, b.source) if theirs > ours else (mine, a.source)
        table[entry.key, entry.nbytes] = taken
        rule = "more repetitions" if ours[0] != theirs[0] else "later" if ours != theirs else "equal, the first"
        conflicts.append(f"{entry.describe()}: in {a.source} and in {b.source}; taken from {source} ({rule})")
    return Tuning(tuple(table.values()), a.source), conflicts
