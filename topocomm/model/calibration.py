"""From what was measured between ranks to a machine: latencies and capacities of the links of every level. No MPI.

A small message between ranks that part at a level passes the links of this level and of all further in, twice (up and
down): measured latencies are differences of such sums (:mod:`topocomm.model.time` adds them up again). Capacities are
measured as they are: what all ranks of one place send out of it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topocomm.model.machine import Level, Machine
from topocomm.topology import Topology

__all__ = ["Crossing", "LevelFigures", "crossings", "fit"]

PARALLEL = 1.5
"""A place that moves so many times more than one pair may have several links."""
SLOWER = 0.8
"""One pair so much slower than the links further in allow is held up by a link of this level."""
FILLED = 0.9
"""A place that moves this share of what its inner links allow together was perhaps not filled: more may be possible."""


@dataclass(frozen=True)
class Crossing:
    """A place of a level to measure: its ranks, and ranks beside it inside the same outer place to send to."""

    inside: tuple[int, ...]
    outside: tuple[int, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """(inside, outside) for every rank inside, spread over the ranks outside."""
        return [(rank, self.outside[k % len(self.outside)]) for k, rank in enumerate(self.inside)]


@dataclass(frozen=True)
class LevelFigures:
    """What was measured of a level. Bytes/s, seconds; medians over the places measured.

    ``pair``: one pair that parts at this level; ``up``, ``down``: all ranks of one place at once, ``ways`` of them
    from inner places (or ranks) of their own; ``latency``: one way of a small message. All but ``ways`` are None where
    the job has no two places to part at this level.
    """

    name: str
    pair: float | None = None
    up: float | None = None
    down: float | None = None
    latency: float | None = None
    ways: int = 0


def crossings(topology: Topology, level: str, most: int) -> list[Crossing]:
    """At most ``most`` places of ``level`` to measure, those with most ranks first; none if no two places part there.

    Ranks outside are dealt from the other places in turn, so that no single one of them has to take all.
    """
    depth = topology.level_index(level)
    column = topology.places[:, depth]
    outer = topology.places[:, depth - 1] if depth else np.zeros(topology.size, np.int64)
    found = []
    for place in np.argsort(-np.bincount(column), kind="stable"):
        inside = np.flatnonzero(column == place)
        beside = np.flatnonzero((outer == outer[inside[0]]) & (column != place))
        if len(beside):
            found.append(Crossing(tuple(inside.tolist()), tuple(_dealt(beside, column))))
    return found[:most]


def _dealt(
    ranks: np.ndarray[tuple[int], np.dtype[np.int64]], column: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> list[int]:
    """Ranks of different places in turn."""
    turn: dict[int, int] = {}
    keyed = []
    for rank in ranks.tolist():
        place = int(column[rank])
        keyed.append((turn.get(place, 0), place, rank))
        turn[place] = turn.get(place, 0) + 1
    return [rank for _, _, rank in sorted(keyed)]


def fit(
    figures: Sequence[LevelFigures], rank_speed: float, near: float | None, overhead: float
) -> tuple[Machine, dict[str, str]]:
    """The machine that shows these figures, levels outermost first, and remarks by level.

    ``rank_speed`` is what one rank moves by itself (bytes/s), ``near`` the latency between two ranks of one innermost
    place (None if there are no such two: then nothing of the latency is the rank's own), ``overhead`` the seconds for
    which a small message occupies its sender.

    A level has several links only if one pair is held up by it (it is slower than the links further in allow), while
    a whole place moves more. A level that nothing crossed is given what its inner links move together: no limit.
    """
    remarks: dict[str, str] = {}
    below = max(overhead, near if near is not None else overhead)
    rank = Level("rank", rank_speed, rank_speed, (below - overhead) / 2)
    fitted: list[Level] = []
    pair_limit, inner = rank_speed, rank
    for figure in reversed(figures):
        if figure.up is None or figure.down is None or figure.pair is None or figure.latency is None:
            remarks[figure.name] = "not measured: only one place; taken as no limit"
            together = inner.links * max(1, figure.ways)
            level = Level(figure.name, inner.up * together, inner.down * together, 0.0)
        else:
            latency = max(0.0, figure.latency - below) / 2
            below = max(below, figure.latency)
            links = _links(figure, pair_limit)
            level = Level(figure.name, figure.up / links, figure.down / links, latency, links)
            if figure.up >= FILLED * figure.ways * min(inner.up * inner.links, pair_limit) and figure.ways > 1:
                remarks[figure.name] = "at least: what is inside sent no more"
            pair_limit = min(pair_limit, figure.pair)
        fitted.insert(0, level)
        inner = level
    return Machine("levels", tuple(fitted), rank, overhead, source="measured"), remarks


def _links(figure: LevelFigures, pair_limit: float) -> int:
    assert figure.up is not None
    assert figure.pair is not None
    held_up = figure.pair < SLOWER * pair_limit
    return max(1, round(figure.up / figure.pair)) if held_up and figure.up >= PARALLEL * figure.pair else 1
