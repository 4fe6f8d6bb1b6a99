"""The choice by the model: what every candidate would take on the machine, the MPI library at its best among them.

A candidate's time follows from closed forms (:mod:`topocomm.model.instant`), with what the engine adds to every call
and message (:mod:`topocomm.engines.costs`) to the C code of an MPI library. :meth:`Chooser.simulate` asks a simulation
of every message instead (:func:`topocomm.model.schedule_time`): the referee, which studies and tests compare.
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
from math import isqrt
from types import MappingProxyType

from topocomm.algorithms import TABLE, transfers
from topocomm.algorithms.entry import Algorithm, Case, Patterns
from topocomm.choose.measured import Tuning
from topocomm.collectives import COLLECTIVES
from topocomm.engines import ENGINES
from topocomm.engines.costs import COSTS
from topocomm.model.explain import candidates_of
from topocomm.model.instant import Instant
from topocomm.model.machine import Machine, complete, default_machine
from topocomm.model.network import Network
from topocomm.model.optimum import time_bound
from topocomm.model.time import schedule_time
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology, in_label_order

__all__ = ["CLASSES", "LIBRARY", "Choice", "Chooser", "ModelCache", "rounded"]

TIE = 0.02
"""Part of the time by which the MPI library at its best may be ahead of ours, as it seldom is at its best."""

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
        "scan": ("prefix_doubling", "textbook_prefix_doubling"),
        "exscan": ("textbook_prefix_doubling",),
        "barrier": ("dissemination", "textbook_dissemination"),
    }
)
"""Algorithms of MPI libraries by the names of the table. Small vectors go node by node: the forms with leaders."""

ORDERED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "allreduce": ("textbook_recursive_doubling",),
        "reduce": ("textbook_binomial",),
        "reduce_scatter": ("binomial",),
        "reduce_scatter_block": ("binomial",),
        "scan": ("prefix_doubling", "textbook_prefix_doubling"),
        "exscan": ("textbook_prefix_doubling",),
    }
)
"""Algorithms of MPI libraries for operations that are not commutative."""

WHOLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{c: tuple(n for n in LIBRARY[c] if TABLE[c][n].whole) for c in ("allreduce", "reduce")},
        **{c: LIBRARY[c] for c in ("reduce_scatter", "reduce_scatter_block", "scan", "exscan")},
    }
)
"""Algorithms of MPI libraries for operations that need whole vectors.

MPI libraries cut them only where every rank keeps a part anyway.
"""

_MOST_TOPOLOGIES = 16
"""Topologies for which results are cached, at most."""
_MOST_KEPT = 1 << 17
"""Messages that are cached for one topology, at most; some 100 bytes each."""


@dataclass(frozen=True)
class Choice:
    """The fastest candidate and the MPI library at its best: names and seconds; the bound in seconds, 0 if unasked."""

    algorithm: str
    seconds: float
    library: str
    library_seconds: float
    bound: float
    machine: str
    """Where the machine's figures are from."""
    instant: bool = False
    """Times are those of closed forms, not simulated."""

    @property
    def is_ours(self) -> bool:
        """Whether our candidate is taken; else the MPI library's call."""
        return self.seconds <= self.library_seconds * (1 + TIE)

    @property
    def why(self) -> str:
        """Reasons for the choice, in one sentence."""
        ours, theirs = f"{self.seconds * 1e6:.4g} us", f"{self.library_seconds * 1e6:.4g} us"
        ratio = self.seconds / self.library_seconds if self.library_seconds else 1.0
        best = f"an MPI library at its best ({self.library}, {theirs})"
        share = f", bound {self.bound * 1e6:.4g} us" if self.bound else ""
        how = "in closed form" if self.instant else "by simulation"
        return f"{self.algorithm} modelled at {ours}, {ratio:.2f} of {best}{share}; {how}; machine: {self.machine}"


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
    forms: Instant | None = None
    kept: int = 0
    """Messages in ``messages``."""


class ModelCache:
    """What choosers on one machine remember together, for the last few topologies."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Known] = {}

    def of(self, key: tuple[object, ...]) -> _Known:
        """Return what is known of a topology, on a machine and with an engine (:attr:`Chooser.identity`)."""
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
        self._known = (memory or ModelCache()).of(self.identity)
        self._choices: dict[_Question, Choice] = {}

    @property
    def identity(self) -> tuple[object, ...]:
        """All that choices depend on beside the code: machine, engine and its costs, MPI library, places, labels."""
        labels: tuple[str, ...] = ()
        if self.machine.kind == "torus":  # they are coordinates
            labels = tuple(map(str, self.topology.labels.ravel()))
        places = self.topology.signature, in_label_order(self.topology).signature
        return self.machine, self.engine, self.costs, self.library, *places, labels

    def candidates(self, collective: str, ordered: bool, whole: bool) -> tuple[list[str], list[str]]:
        """List the names, without options, of our candidates and of those of an MPI library."""
        ours = [entry.name for entry in self._entries(collective, *_sorts(collective, ordered, whole))]
        return ours, self._library(collective, *_sorts(collective, ordered, whole))

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
        place = self.topology.signature, commutative, self.library, self.engine
        return self.tuning.best(collective, nbytes, *place)

    def _choose(self, collective: str, nbytes: int, ordered: bool, whole: bool) -> Choice:
        """Choose by closed forms."""
        forms, names = self._forms(collective), self._library(collective, ordered, whole)
        plain, added = self._costs(collective, False), self._costs(collective, True)
        case = self._case(collective, nbytes, lambda most: forms.patterns(collective, nbytes, *added, most))
        entries = self._entries(collective, ordered, whole)
        fixed = self._named([entry for entry in entries if not entry.levels], case, ordered)
        forms.prepare(collective, [*names, *fixed], patterns=any(entry.levels for entry in entries))
        ours = self._named(entries, case, ordered)
        forms.prepare(collective, ours)
        theirs = {name: forms.seconds(collective, name, nbytes, *plain) for name in names}
        mine = {name: self.costs.call + forms.seconds(collective, name, nbytes, *added) for name in ours}
        return self._least(collective, nbytes, mine, theirs, True)

    def simulate(self, collective: str, nbytes: int, ordered: bool = False, whole: bool = False) -> Choice:
        """Choose as :meth:`choose`, by simulations of all candidates: the referee. Takes a second for 1000 ranks."""
        plain = self._network(0.0)
        theirs = {
            name: self._seconds(collective, name, nbytes, plain) for name in self._library(collective, ordered, whole)
        }
        ours = {
            name: self.simulated(collective, name, nbytes)
            for name in self._candidates(collective, nbytes, ordered, whole)
        }
        return self._least(collective, nbytes, ours, theirs, False)

    def simulated(self, collective: str, name: str, nbytes: int) -> float:
        """Return the simulated time of one of our algorithms, with what the engine adds."""
        return self.costs.call + self._seconds(collective, name, nbytes, self._interpreted(collective))

    def _least(
        self, collective: str, nbytes: int, ours: dict[str, float], theirs: dict[str, float], instant: bool
    ) -> Choice:
        best, fastest = min(theirs, key=theirs.__getitem__), min(ours, key=ours.__getitem__)
        bound = 0.0 if instant else time_bound(collective, self._network(0.0), nbytes).seconds
        return Choice(fastest, ours[fastest], best, theirs[best], bound, self.machine.source, instant)

    def _library(self, collective: str, ordered: bool, whole: bool) -> list[str]:
        names = (ORDERED if ordered else WHOLE if whole else LIBRARY)[collective]
        return [name for name in names if TABLE[collective][name].can_run(self.topology.size)]

    def _costs(self, collective: str, ours: bool) -> tuple[float, float]:
        """Return the seconds that a message keeps its sender busy, and a combined one its receiver."""
        if not ours:
            return self.machine.overhead, 0.0
        more = self.costs.reduced - self.costs.message if COLLECTIVES[collective].reduces else 0.0
        return self.machine.overhead + self.costs.message, more

    def _forms(self, collective: str) -> Instant:
        if self._known.forms is None:
            self._known.forms = Instant(self._network(0.0))
        return self._known.forms

    def _candidates(self, collective: str, nbytes: int, ordered: bool, whole: bool) -> list[str]:
        """List ours with their options, patterns of ``leveled`` as the simulation of every level finds them."""
        return self._named(self._entries(collective, ordered, whole), self._case(collective, nbytes, None), ordered)

    def _entries(self, collective: str, ordered: bool, whole: bool) -> list[Algorithm]:
        """List ours: what follows the topology, or what keeps the order of operands in the order of ranks."""
        able = [TABLE[collective][name] for name in candidates_of(collective, self.topology)[0]]
        able = [entry for entry in able if entry.whole or not whole]
        if ordered:
            in_place = self.topology.is_sorted or collective.startswith("reduce_scatter")
            return [entry for entry in able if entry.in_order and (in_place or entry.baseline)]
        return [entry for entry in able if not entry.baseline]

    @staticmethod
    def _named(entries: list[Algorithm], case: Case, ordered: bool) -> list[str]:
        """Name entries with the options that a case asks for; without any where operands keep their order."""
        tried = ((entry, option) for entry in entries for option in ([""] if ordered else entry.trials(case)))
        return [f"{entry.name}:{option}" if option else entry.name for entry, option in tried]

    def _case(self, collective: str, nbytes: int, patterns: Patterns | None) -> Case:
        added = self.costs.reduced if COLLECTIVES[collective].reduces else self.costs.message
        return Case(
            collective,
            self.topology,
            nbytes,
            sending=self.machine.overhead + self.costs.message,
            receiving=self.machine.overhead + added,
            latency=self._latency(),
            speed=self._speed(),
            seconds=lambda messages: schedule_time(messages, self._interpreted(collective), nbytes),
            patterns=patterns,
        )

    def _latency(self) -> float:
        """Estimate the seconds of latency on the longest route."""
        levels = self.machine.levels or (self.machine.rank,)
        return 2 * (levels[0].latency + levels[-1].latency)

    def _speed(self) -> float:
        """Estimate the bytes a second that a rank can send."""
        return min(level.up for level in (*self.machine.levels[-1:], self.machine.rank))

    def _interpreted(self, collective: str) -> Network:
        """Return the network with what the engine adds to every message of ours."""
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
        """List the messages of an algorithm, once for all sizes."""
        known, what = self._known, (collective, name)
        listed = known.messages.get(what)
        if listed is None:
            listed = transfers(collective, name, self.topology)
            if known.kept + len(listed) <= _MOST_KEPT:
                known.messages[what] = listed
                known.kept += len(listed)
        return listed
