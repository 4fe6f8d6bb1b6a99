"""What a measured discovery found: where everybody sits, how sure that is, and how it was measured. No MPI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topocomm.arrays import IntArray
from topocomm.topology.files import Placement, dumps_nodes, dumps_placement
from topocomm.topology.live.levels import Found, level_names
from topocomm.topology.topology import Topology

__all__ = ["MEASURED", "Effort", "Measured", "placement_of"]

MEASURED = "measured"
"""The word that asks for measured discovery where a placement file could be named."""

UNITS = {"latency": "latency", "exchange": "time of an exchange while all pairs exchange"}
"""The kinds of distance that are probed."""


@dataclass(frozen=True)
class Effort:
    """What the probing cost.

    ``ends`` took part as ends of messages, ``sampled`` of them each with every other, in ``repetitions`` tournaments
    of ``rounds`` rounds; ``message`` bytes were exchanged each way, ``seconds`` it took in all. ``medians`` of all
    distances, in seconds, by kind.
    """

    ends: int
    sampled: int
    repetitions: int
    rounds: int
    message: int
    seconds: float
    medians: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """The result of a measured discovery.

    ``confidence``
        Between 0 and 1; what it means is said at :class:`topocomm.topology.live.levels.FoundLevel`. 1 where there was
        nothing to tell apart: fewer than three ends.
    ``ends``
        What was told apart: ``"hosts"`` (one rank of each probed) or ``"ranks"``.
    ``names``
        How host names were used, for people.
    """

    placement: Placement
    topology: Topology
    confidence: float
    ends: str
    names: str
    found: Found
    effort: Effort

    @property
    def flat(self) -> bool:
        """Whether no level was found between the ends that were probed."""
        return not self.found.levels

    def describe(self) -> str:
        """Lines for people: what was found, by what, how sure, at what cost."""
        e = self.effort
        lines = ["flat: all equally near" if self.flat else self.topology.describe()]
        for name, level in zip(level_names(len(self.found.levels)), self.found.levels, strict=True):
            sizes = sorted((int((level.places == k).sum()) for k in range(int(level.places.max()) + 1)), reverse=True)
            shown = ", ".join(map(str, sizes[:16])) + (", …" if len(sizes) > 16 else "")
            lines.append(
                f"{name}: {len(sizes)} places of {shown} {self.ends}; {UNITS.get(level.kind, level.kind)} "
                f"{_time(level.inside)} inside, {_time(level.across)} across; confidence {level.confidence:.2f}"
            )
        lines += [f"left out: {reason}" for reason in self.found.dropped]
        lines.append(f"confidence {self.confidence:.2f}; {self.names}")
        few = "" if e.sampled == e.ends else f", the others placed by probing leaders of places of {e.sampled}"
        lines.append(
            f"{e.ends} {self.ends}, {e.repetitions} tournaments of {e.rounds} rounds, messages of {e.message} bytes, "
            f"{e.seconds:.1f} s{few}"
        )
        return "\n".join(lines)

    def dumps(self) -> str:
        """The placement document, with confidence and cost as its comment."""
        comment = f"measured: confidence {self.confidence:.2f}; {self.names}"
        if self.placement.nodes is None:
            return dumps_placement(self.topology, comment)
        return dumps_nodes(self.placement, comment)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def placement_of(rows: IntArray, ends: Sequence[int], hosts: Sequence[str], by_node: bool) -> Placement:
    """The placement of ranks: rank i belongs to end ``ends[i]``, whose places are ``rows[ends[i]]``, outermost first.

    By node (host ``hosts[i]`` of rank i, as a file that serves every job on these hosts) or by rank.
    """
    levels = level_names(rows.shape[1])
    labels = [tuple(map(str, row)) for row in rows.tolist()]
    if not by_node:
        return Placement(levels, tuple(labels[end] for end in ends), None, MEASURED)
    return Placement(levels, None, {host: labels[end] for host, end in zip(hosts, ends, strict=True)}, MEASURED)
