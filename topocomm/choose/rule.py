"""Which algorithm runs a collective, and why. The rule looks only at what all ranks know alike.

The automatic rule, in this order:

0. What the user named, if it can serve the call (:func:`decide`).
1. What was measured: the entry of the tuning file for this topology, MPI library and size
   (:mod:`topocomm.choose.measured`).
2. Ranks of one host, vectors up to a size that was measured: ``shared`` (:mod:`topocomm.choose.shared`).
3. One rank, or a topology without structure (all ranks equally near, one node included): ``native``. The MPI library
   knows its node best, and there is no distance to save.
4. What is modelled: the candidate with the shortest time on the described, calibrated or assumed machine, the MPI
   library at its best among them (:mod:`topocomm.choose.modelled`). What the engine adds to a call and its messages
   leaves the smallest vectors to the MPI library.

An operation of the program's own gets whole vectors unless it is declared elementwise: only algorithms that never cut
come into question. From :data:`WHOLE` bytes on an allreduce or reduce is then not left to the MPI library either,
which may cut.

All sizes of one class (:func:`size_classes`) are decided alike, so that ranks need to agree on a class only once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from topocomm.choose.shared import SHARED, cuts
from topocomm.collectives import COLLECTIVES
from topocomm.engines import ENGINES
from topocomm.errors import AlgorithmError

if TYPE_CHECKING:
    from topocomm.choose.measured import Tuning
    from topocomm.choose.modelled import Chooser
    from topocomm.choose.shared import Host
    from topocomm.model.explain import Explanation

__all__ = ["NATIVE", "Decision", "asks_model", "decide", "native_always", "size_classes"]

NATIVE = "native"

WHOLE = 1 << 13
"""Bytes from which on an MPI library may hand an operation of the program's own a part of the vector.

MPICH never does in an allreduce or reduce; Open MPI 5 does for some number of ranks.
"""


@dataclass(frozen=True)
class Decision:
    """What runs a collective and why; ``reordering`` is filled in when the schedule is made."""

    collective: str
    nbytes: int | None
    """Bytes of the whole vector; None if the decision is for any."""
    algorithm: str
    engine: str
    why: str
    reordering: str = "none"
    root: int = field(default=0, compare=False)
    chooser: Chooser | None = field(default=None, repr=False, compare=False)
    """What decided, with the topology and machine it knows."""
    sources: tuple[str, ...] = field(default=(), compare=False)
    """What says where the ranks sit, then why other sources do not; empty where nobody was asked."""
    carried: str = field(default="", compare=False)
    """What carries messages to the other ranks, in words, as far as it is known; empty where no program ran in C."""
    arrivals: str = field(default="", compare=False)
    """How many messages come to this rank, and into what they are received, in words; empty where no program runs."""

    def __str__(self) -> str:
        ours = f"{self.algorithm} on engine {self.engine}, reordering {self.reordering}"
        what = "the MPI library's own" if self.algorithm == NATIVE else ours
        size = "any size" if self.nbytes is None else f"{self.nbytes} bytes"
        by = f"; levels from {self.sources[0]}" if self.sources else ""
        said = [text for text in (self.arrivals, self.carried) if text and self.algorithm != NATIVE]
        return "; ".join([f"{self.collective}, {size}: {what}; {self.why}{by}", *said])

    @cached_property
    def figures(self) -> Explanation:
        """Rounds, modelled time, bytes per level and busiest link of every candidate, beside the bounds.

        A second or two for 1024 ranks. Raises AlgorithmError where the decision is for any size.
        """
        from topocomm.model.explain import explain

        if self.chooser is None or self.nbytes is None:
            raise AlgorithmError(f"{self.collective}: figures need a number of bytes")
        return explain(self.collective, self.nbytes, self.chooser.topology, self.chooser.machine, self.root)

    @property
    def chosen(self) -> dict[str, Any]:
        """The decision as the JSON document has it; under ``model`` the fastest schedule where that is another one."""
        choice: dict[str, Any] = {"algorithm": self.algorithm, "why": self.why}
        fastest = self.figures.fastest
        if fastest.algorithm != self.algorithm:
            mine = next((c for c in self.figures.candidates if c.algorithm == self.algorithm), None)
            why = f"shortest time without what the engine adds, {fastest.seconds * 1e6:.1f} us"
            if mine and fastest.seconds:
                why += f"; {self.algorithm} takes {mine.seconds / fastest.seconds:.2f} times as long"
            choice["model"] = {"algorithm": fastest.algorithm, "why": why}
        return choice

    def document(self) -> dict[str, Any]:
        """What ``python -m topocomm explain --json`` prints."""
        return {**self.figures.document(self.chosen), "sources": list(self.sources)}


def size_classes(collective: str, chooser: Chooser, commutative: bool = True, shared: bool = False) -> tuple[int, ...]:
    """The sizes in bytes of the whole vector at which a class begins, ascending; class 0 is what is below the first.

    :func:`decide` gives the same algorithm for all sizes of a class, on a common host too if ``shared``.
    """
    from topocomm.choose.modelled import CLASSES

    if shared and chooser.tuning is None and not chooser.topology.has_distance:
        return tuple(sorted(cuts(collective, chooser.topology.size)))
    found = {WHOLE, *CLASSES}
    if chooser.tuning is not None:
        place = chooser.topology.signature, commutative, chooser.library, chooser.engine
        found |= chooser.tuning.cuts(collective, *place)
    return tuple(sorted(found | cuts(collective, chooser.topology.size) if shared else found))


def asks_model(
    collective: str, nbytes: int, chooser: Chooser, named: str | None, commutative: bool, whole: bool = False
) -> bool:
    """Whether the model decides: nobody named an algorithm, none was measured, and there is something to weigh."""
    return (
        named is None
        and chooser.topology.has_distance
        and _measured(collective, nbytes, chooser, commutative, whole) is None
    )


def _measured(collective: str, nbytes: int, chooser: Chooser, commutative: bool, whole: bool) -> tuple[str, str] | None:
    """The fastest algorithm measured, and why; None if none was, or it may cut a vector that must stay whole."""
    from topocomm.algorithms.table import find

    found = chooser.measured(collective, nbytes, commutative)
    if found is None or not whole:
        return found
    name = found[0]
    if name == NATIVE:
        return None if _library_may_cut(collective, nbytes) else found
    return found if find(collective, name)[0].whole else None


def _library_may_cut(collective: str, nbytes: int) -> bool:
    facts = COLLECTIVES[collective]
    return facts.reduces and not (facts.blocks or facts.prefix) and nbytes >= WHOLE


def decide(
    collective: str,
    nbytes: int,
    chooser: Chooser,
    *,
    named: str | None = None,
    named_by: str = "",
    commutative: bool = True,
    whole: bool = False,
    root: int = 0,
    engine: str = ENGINES[0],
    host: Host | None = None,
) -> Decision:
    """Choose the algorithm for a vector of ``nbytes`` bytes on the chooser's topology and machine.

    The vector is that of an allreduce, bcast or reduce; of an allgather or gather the result; of a reduce_scatter,
    scatter or all-to-all what a rank (the root) sends. ``named`` is the user's word and ``named_by`` where it was said;
    it is taken or refused, never replaced. ``whole``: the operation needs whole vectors; ``engine`` runs what is not
    native; ``host`` if the ranks share one and the call may go through its memory. Raises AlgorithmError if the named
    algorithm is unknown, cannot run here, or cuts vectors that must stay whole.
    """
    from topocomm.algorithms.table import check_ranks, check_whole, find

    topology = chooser.topology
    decision = partial(Decision, collective, nbytes, root=root, chooser=chooser)
    if named == NATIVE:
        return decision(NATIVE, NATIVE, f"named by {named_by}")
    if named == SHARED:
        return decision(SHARED, engine, f"named by {named_by}")
    if named is not None:
        algorithm = find(collective, named)[0]
        check_ranks(algorithm, topology.size)
        if whole:
            check_whole(algorithm)
        return decision(named, engine, f"named by {named_by}")
    reason = "automatic" + ("" if commutative else ", not commutative") + (", whole vectors" if whole else "")
    measured = _measured(collective, nbytes, chooser, commutative, whole)
    if measured is not None:
        name, why = measured
        return decision(name, NATIVE if name == NATIVE else engine, f"{reason}: {why}")
    if host is not None and nbytes <= host.up_to(collective):
        return decision(SHARED, engine, f"{reason}: {host.why}")
    name, why = _without_measurement(collective, nbytes, chooser, commutative, whole)
    if chooser.tuning is not None:
        why += f"; {chooser.tuning.source} has nothing for this size, topology and MPI library"
    return decision(name, NATIVE if name == NATIVE else engine, f"{reason}: {why}")


def native_always(
    collective: str, size: int, distance: bool, tuning: Tuning | None, named: str | None, named_by: str, shared: bool
) -> Decision | None:
    """Return the decision for any call of ``collective`` by ``size`` ranks where all sizes go to the MPI library.

    ``distance`` as of the topology (:attr:`~topocomm.topology.Topology.has_distance`); ``shared``: calls may go
    through memory of a common host. None where the size decides.
    """
    if named is not None:
        why = f"named by {named_by}" if named == NATIVE else None
    else:
        why = f"automatic: {_no_distance(size)}" if tuning is None and not distance and not shared else None
    return None if why is None else Decision(collective, None, NATIVE, NATIVE, why)


def _no_distance(size: int) -> str:
    what = "one rank" if size == 1 else f"{size} ranks that are equally near or on one node"
    return f"{what}, no distance to save"


def _without_measurement(
    collective: str, nbytes: int, chooser: Chooser, commutative: bool, whole: bool
) -> tuple[str, str]:
    """Return the algorithm, and why, where nobody named one and nothing was measured."""
    if not chooser.topology.has_distance:
        return NATIVE, _no_distance(chooser.topology.size)
    choice = chooser.choose(collective, nbytes, ordered=not commutative, whole=whole)
    if whole and not choice.is_ours and _library_may_cut(collective, nbytes):
        return choice.algorithm, f"{choice.why}; the MPI library may cut vectors"
    return choice.algorithm if choice.is_ours else NATIVE, choice.why
