"""The choice by the model: what every candidate would take on the machine, the MPI library at its best among them.

A candidate's time is that of :func:`topocomm.model.schedule_time` for its schedule, with what the interpreter adds to
every call and message (:mod:`topocomm.engines.costs`); the C code of an MPI library adds none.
What the MPI library would take nobody can know without measuring; it is credited with the fastest of the algorithms
that MPI libraries have (:data:`LIBRARY`), run in C in the order of ranks. So a modelled gain is at least what the
placement gives, and ``native`` is kept wherever an MPI library could be ahead by more than :data:`TIE`.

Sizes are rounded to the nearest half power of two, so that a program with many sizes asks few questions. A rooted
collective is priced with root 0. Everything here depends only on what all ranks know; in a running program rank 0's
answer counts for all, as sums of floating-point numbers need not agree to the last bit between processors.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isqrt, log2, sqrt
from types import MappingProxyType

from topocomm.algorithms.k_trees import TREES
from topocomm.algorithms.pipeline import SEGMENTS
from topocomm.algorithms.table import TABLE
from topocomm.choose.measured import Tuning
from topocomm.collectives import COLLECTIVES
from topocomm.engines import ENGINES
from topocomm.engines.costs import COSTS
from topocomm.model.bulk import transfers
from topocomm.model.explain import candidates_of
from topocomm.model.leveled import MOST_MESSAGES, promising
from topocomm.model.machine import Machine, complete, default_machine
from topocomm.model.network import Network
from topocomm.model.optimum import time_bound
from topocomm.model.time import schedule_time
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, in_label_order

__all__ = ["CLASSES", "K_TREES_UP_TO", "LIBRARY", "MOST_RANKS", "Choice", "Chooser", "ModelCache", "rounded"]

TIE = 0.02
"""Where the MPI library at its best is ahead by no more than this part, ours is taken: it seldom is at its best."""
MOST_RANKS = 2048
"""Beyond, modelling would take longer than calls may."""

LIBRARY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "allreduce": ("recursive_doubling", "textbook_recursive_doubling", "textbook_rabenseifner", "textbook_ring"),
        "allgather": ("textbook_recursive_doubling", "textbook_bruck", "textbook_ring"),
        "reduce_scatter": ("textbook_recursive_halving", "textbook_pairwise"),
        "reduce_scatter_block": ("textbook_recursive_halving", "textbook_pairwise"),
        "alltoall": ("textbook_bruck", "textbook_pairwise"),
        "bcast": ("binomial", "knomial", "textbook_binomial", "textbook_scatter_allgather"),
        "reduce": ("binomial", "knomial", "textbook_binomial", "textbook_rabenseifner"),
        "gather": ("textbook_binomial",),
        "scatter": ("textbook_binomial",),
        "barrier": ("dissemination", "textbook_dissemination"),
    }
)
"""What MPI libraries have, by the names of the table. Small vectors they move node by node: the forms with leaders."""

ORDERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "allreduce": ("textbook_recursive_doubling",),
        "reduce": ("textbook_binomial",),
        "reduce_scatter": ("binomial",),
        "reduce_scatter_block": ("binomial",),
    }
)
"""The same for operations that are not commutative."""

WHOLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{c: tuple(n for n in LIBRARY[c] if TABLE[c][n].whole) for c in ("allreduce", "reduce")},
        **{c: LIBRARY[c] for c in ("reduce_scatter", "reduce_scatter_block")},
    }
)
"""The same for operations that need whole vectors: MPI libraries cut them only where every rank keeps a part anyway."""

RADICES = (3, 4, 8)
"""Of k-nomial trees; binomial ones are a candidate of their own."""
_MOST = {"pipeline": 2 * SEGMENTS, "shuffled": 128, "two_trees": 1024, "k_trees": 512}
"""Candidates left out beyond so many ranks: never the fastest (segments too few for the chain), or slow to model."""
OVERLAPPED, _MOST_OVERLAPPED = 1 << 20, 256
"""From so many bytes on an allreduce may be worth segments that are on different levels at a time; up to so many ranks
that is quick to model."""
MOST_SEGMENTS = 7
"""log2 of the most segments tried."""
MOST_SEGMENTS_OF_K_TREES = 5
"""The same for k trees, which have more messages a segment."""
K_TREES_UP_TO = 1 << 24
"""Bytes beyond which two_trees was faster in SimGrid (64 MiB: by a tenth), although the model says otherwise."""
_MOST_TOPOLOGIES = 16
"""Of so many topologies is remembered what was worked out."""
_MOST_KEPT = 1 << 17
"""Of so many messages (some 100 bytes each) is it remembered who sends them."""


@dataclass(frozen=True)
class Choice:
    """The fastest candidate and the MPI library at its best: names and seconds; the bound in seconds."""

    algorithm: str
    seconds: float
    library: str
    library_seconds: float
    bound: float
    machine: str
    """Where the machine's figures are from."""

    @property
    def is_ours(self) -> bool:
        """Whether our candidate is taken; else the MPI library's call."""
        return self.seconds <= self.library_seconds * (1 + TIE)

    @property
    def why(self) -> str:
        """One sentence."""
        ours, theirs = f"{self.seconds * 1e6:.4g} us", f"{self.library_seconds * 1e6:.4g} us"
        ratio = self.seconds / self.library_seconds if self.library_seconds else 1.0
        best = f"an MPI library at its best ({self.library}, {theirs})"
        share = f", bound {self.bound * 1e6:.4g} us" if self.bound else ""
        return f"{self.algorithm} modelled at {ours}, {ratio:.2f} of {best}{share}; machine: {self.machine}"


def _first_of(k: int) -> int:
    """The smallest whole number that is nearer to 2 ** (k / 2) than to 2 ** ((k - 1) / 2), by ratio."""
    n = isqrt(isqrt(1 << (2 * k - 1)))
    return n if n**4 >= 1 << (2 * k - 1) else n + 1


CLASSES: tuple[int, ...] = (1, *(_first_of(k) for k in range(1, 126)))
"""The first size in bytes of each class of sizes that :func:`rounded` rounds alike, ascending.

In whole numbers: a logarithm may differ in its last bit between processors, and the class of a size must not.
"""


def rounded(nbytes: int) -> int:
    """Round to the nearest half power of two, computed alike on every processor."""
    k = bisect_right(CLASSES, nbytes) - 1
    if k < 0:
        return 0
    root = isqrt(1 << k)
    return root if (2 * root + 1) ** 2 > 4 << k else root + 1


def _sorts(collective: str, ordered: bool, whole: bool) -> tuple[bool, bool]:
    """Order and wholeness as far as they matter to ``collective``."""
    return ordered and collective in ORDERED, whole and collective in ORDERED


_Question = tuple[str, int, bool, bool]
"""Collective, rounded bytes, operands in the order of ranks, vectors never cut."""


@dataclass
class _Known:
    """What has been worked out for one topology on one machine: depends on nothing else."""

    choices: dict[_Question, Choice] = field(default_factory=dict)
    networks: dict[tuple[float, float], Network] = field(default_factory=dict)
    messages: dict[tuple[str, str], Transfers] = field(default_factory=dict)
    kept: int = 0
    """Messages in ``messages``."""


class ModelCache:
    """What choosers on one machine remember together, for the last few topologies."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Known] = {}

    def of(self, topology: Topology, machine: Machine, engine: str) -> _Known:
        """Return what is known of a topology, on this machine and with this engine."""
        labels = () if machine.kind != "torus" else tuple(map(str, topology.labels.ravel()))  # they are coordinates
        key = machine, engine, topology.signature, in_label_order(topology).signature, labels
        known = self._known.pop(key, None) or _Known()
        while len(self._known) >= _MOST_TOPOLOGIES:
            self._known.pop(next(iter(self._known)))
        self._known[key] = known
        return known


class Chooser:
    """Chooses on one topology and machine (None: assumed), and remembers.

    ``tuning`` holds what was measured, ``library`` is the MPI library and ``engine`` the engine it must have been
    measured with; what others with the same ``memory`` have worked out is not worked out again.
    Raises TopologyError if the machine does not fit.
    """

    def __init__(
        self,
        topology: Topology,
        machine: Machine | None = None,
        tuning: Tuning | None = None,
        library: str = "",
        memory: ModelCache | None = None,
        engine: str = ENGINES[0],
    ) -> None:
        self.engine, self.costs = engine, COSTS[engine]
        self.topology = topology
        self.tuning = tuning
        self.library = library
        self.machine = complete(machine, topology) if machine else default_machine(topology)
        self.machine.covers(topology)
        self._known = (memory or ModelCache()).of(topology, self.machine, engine)
        self._choices: dict[_Question, Choice] = {}

    def choose(self, collective: str, nbytes: int, ordered: bool = False, whole: bool = False) -> Choice:
        """Choose for a vector of about ``nbytes`` bytes.

        ``ordered``: operands combine in the order of ranks; ``whole``: they are never cut.
        Raises AlgorithmError for an unknown collective.
        """
        key = collective, rounded(nbytes), *_sorts(collective, ordered, whole)
        if key not in self._choices:
            choice = self._known.choices.get(key) or self._choose(*key)
            self._choices[key] = self._known.choices.setdefault(key, choice)
        return self._choices[key]

    def adopt(self, collective: str, nbytes: int, ordered: bool, choice: Choice, whole: bool = False) -> None:
        """Take somebody else's choice for a vector of about ``nbytes`` bytes.

        It counts here; others with the same memory take it unless they know another.
        """
        key = collective, rounded(nbytes), *_sorts(collective, ordered, whole)
        self._choices[key] = choice
        self._known.choices.setdefault(key, choice)

    def measured(self, collective: str, nbytes: int, commutative: bool) -> tuple[str, str] | None:
        """The fastest algorithm that was measured here, and why; None if none was."""
        if self.tuning is None:
            return None
        where = self.topology.signature, commutative, self.library, self.engine
        return self.tuning.best(collective, nbytes, *where)

    def _choose(self, collective: str, nbytes: int, ordered: bool, whole: bool) -> Choice:
        plain, ours_on = self._network(0.0), self._interpreted(collective)
        bound = time_bound(collective, plain, nbytes).seconds
        library = (ORDERED if ordered else WHOLE if whole else LIBRARY)[collective]
        library = tuple(n for n in library if self._can(collective, n))
        theirs = {name: self._seconds(collective, name, nbytes, plain) for name in library}
        best = min(theirs, key=theirs.__getitem__)
        ours = {
            name: self.costs.call + self._seconds(collective, name, nbytes, ours_on)
            for name in self._candidates(collective, nbytes, ordered, whole)
        }
        fastest = min(ours, key=ours.__getitem__)
        return Choice(fastest, ours[fastest], best, theirs[best], bound, self.machine.source)

    def _can(self, collective: str, name: str) -> bool:
        return not (TABLE[collective][name].power_of_two and self.topology.size & (self.topology.size - 1))

    def _candidates(self, collective: str, nbytes: int, ordered: bool, whole: bool) -> list[str]:
        """Ours: what follows the topology, or what keeps the order of operands in the order of ranks."""
        p, entries = self.topology.size, TABLE[collective]
        able = [n for n in candidates_of(collective, self.topology)[0] if entries[n].whole or not whole]
        if ordered:
            in_place = self.topology.is_sorted or collective.startswith("reduce_scatter")
            return [n for n in able if entries[n].in_order and (in_place or n.startswith("textbook_"))]
        able = [n for n in able if not n.startswith("textbook_") and p <= _MOST.get(n, p)]
        outer = len(self.topology.nesting) > 1 and int(self.topology.nesting[1][-1]) + 1
        if p * outer > MOST_MESSAGES and collective != "alltoall":
            able = [n for n in able if n not in ("direct", "pairwise")]
        if "leveled" in able:
            able.remove("leveled")
            patterns = promising(collective, self._interpreted(collective), nbytes, 2)
            able += patterns
            if collective == "allreduce" and nbytes >= OVERLAPPED and p <= _MOST_OVERLAPPED:
                able.append(f"{patterns[0]},segments=4")
        if "knomial" in able:
            able.remove("knomial")
            able += [f"knomial:radix={k}" for k in RADICES]
        if "two_trees" in able:
            able.remove("two_trees")
            able.append(f"two_trees:segments={self._segments(nbytes)}")
        if "k_trees" in able:
            able.remove("k_trees")
            added = self.costs.reduced if COLLECTIVES[collective].reduces else self.costs.message
            if nbytes <= K_TREES_UP_TO:
                able.append(f"k_trees:segments={self._segments_of_k_trees(nbytes, added)}")
        return able

    def _segments(self, nbytes: int) -> int:
        """Segments of half a vector that go down two trees soonest, as a power of two.

        With S of them in rounds of a message up and one down, (S + 2 lg p) (α + n / 2 S β) is least at
        S² = lg p · n β / α.
        """
        alpha = 2 * (self.machine.overhead + self.costs.message) + self._latency()
        best = sqrt(max(self.topology.size - 1, 1).bit_length() * nbytes / self._speed() / alpha)
        return int(2 ** min(max(round(log2(max(best, 1.0))), 0), MOST_SEGMENTS))

    def _segments_of_k_trees(self, nbytes: int, added: float) -> int:
        """The same for k trees: (S + D - 1) (α + n / S β) is least at S² = (D - 1) n β / α; but the overheads of a
        round's k messages must pass within n / S β."""
        once, whole = self.machine.overhead + added, nbytes / self._speed()
        levels = 1 + log2(max(self.topology.size, 2)) / log2(TREES)
        best = min(sqrt(levels * whole / (once + self._latency())), whole / (TREES * once))
        return int(2 ** min(max(round(log2(max(best, 1.0))), 0), MOST_SEGMENTS_OF_K_TREES))

    def _latency(self) -> float:
        """Seconds of the longest way, about."""
        levels = self.machine.levels or (self.machine.rank,)
        return 2 * (levels[0].latency + levels[-1].latency)

    def _speed(self) -> float:
        """Bytes/s that a rank can send, about."""
        return min(level.up for level in (*self.machine.levels[-1:], self.machine.rank))

    def _interpreted(self, collective: str) -> Network:
        """The network with what the interpreter adds to every message of ours."""
        receiving = self.costs.reduced - self.costs.message if COLLECTIVES[collective].reduces else 0.0
        return self._network(self.costs.message, receiving)

    def _network(self, added: float, receiving: float = 0.0) -> Network:
        networks, key = self._known.networks, (added, receiving)
        if key not in networks:
            machine = replace(self.machine, overhead=self.machine.overhead + added)
            networks[key] = Network(machine, self.topology, receiving)
        return networks[key]

    def _seconds(self, collective: str, name: str, nbytes: int, network: Network) -> float:
        return schedule_time(self._messages(collective, name), network, nbytes)

    def _messages(self, collective: str, name: str) -> Transfers:
        """The messages of an algorithm: the same for every size."""
        known, what = self._known, (collective, name)
        listed = known.messages.get(what)
        if listed is None:
            listed = transfers(collective, name, self.topology)
            if known.kept + len(listed) <= _MOST_KEPT:
                known.messages[what] = listed
                known.kept += len(listed)
        return listed
