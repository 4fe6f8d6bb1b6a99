"""Price every algorithm of a collective under a placement on a machine, and compare with the least possible.

Figures of one candidate: rounds, time, bytes between the places of every level, and the link that is in use longest.
Each stands beside its bound: :mod:`topocomm.model.bounds` for bytes, :mod:`topocomm.model.optimum` for time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from topocomm.algorithms import TABLE, transfers
from topocomm.collectives import find_collective
from topocomm.errors import AlgorithmError
from topocomm.model.bounds import bytes_between
from topocomm.model.machine import Machine, default_machine
from topocomm.model.network import FloatArray, Network
from topocomm.model.optimum import Optimum, time_bound
from topocomm.model.time import link_loads, schedule_time
from topocomm.model.traffic import Traffic
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["Candidate", "Explanation", "candidates_of", "explain", "pair_loads", "price"]


@dataclass(frozen=True)
class Candidate:
    """One algorithm's figures: seconds and bytes; ratios to a bound are None where the bound is 0."""

    algorithm: str
    rounds: int
    seconds: float
    bytes_between: dict[str, float]
    bytes_over_bound: dict[str, float | None]
    busiest_link: str
    busiest_link_bytes: float
    busiest_over_bound: float | None
    time_over_bound: float | None

    def row(self) -> dict[str, Any]:
        """Return the figures as JSON shows them."""
        return {
            "algorithm": self.algorithm,
            "rounds": self.rounds,
            "time_us": _plain(self.seconds * 1e6, 3),
            "bytes_between": {level: _plain(b, 1) for level, b in self.bytes_between.items()},
            "bytes_over_bound": {level: _plain(b, 4) for level, b in self.bytes_over_bound.items()},
            "busiest_link_bytes": _plain(self.busiest_link_bytes, 1),
            "busiest_over_bound": _plain(self.busiest_over_bound, 4),
            "time_over_bound": _plain(self.time_over_bound, 4),
        }


@dataclass(frozen=True)
class Explanation:
    """All candidates, the fastest first, with the bounds; ``left_out`` names those that were not computed."""

    collective: str
    nbytes: int
    topology: Topology
    machine: Machine
    bound: Optimum
    bound_between: dict[str, float]
    candidates: tuple[Candidate, ...]
    left_out: dict[str, str]

    @property
    def fastest(self) -> Candidate:
        """The candidate with the shortest time."""
        return self.candidates[0]

    def document(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """Make the JSON document; ``chosen`` is the decision, which the model does not take."""
        return {
            "collective": self.collective,
            "bytes": self.nbytes,
            "ranks": self.topology.size,
            "levels": list(self.topology.levels),
            "bound": {
                "time_us": _plain(self.bound.seconds * 1e6, 3),
                "busiest_link_us": _plain(self.bound.bandwidth * 1e6, 3),
                "bytes_between": {level: _plain(b, 1) for level, b in self.bound_between.items()},
            },
            "candidates": [candidate.row() for candidate in self.candidates],
            "chosen": chosen,
        }


def _plain(value: float | None, digits: int) -> float | int | None:
    """Round for people; whole numbers become integers."""
    if value is None:
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _ratio(value: float, bound: float) -> float | None:
    return value / bound if bound > 0 else None


def candidates_of(collective: str, topology: Topology) -> tuple[list[str], dict[str, str]]:
    """List the algorithms that can be priced here, and those that cannot with the reason.

    Raises AlgorithmError for an unknown collective.
    """
    find_collective(collective)
    names, left_out = [], {}
    for name, algorithm in TABLE[collective].items():
        if not algorithm.can_run(topology.size):
            left_out[name] = f"needs {algorithm.requires}"
        elif reason := algorithm.too_many(topology):
            left_out[name] = reason
        else:
            names.append(name)
    return names, left_out


def price(
    collective: str, name: str, network: Network, nbytes: int, bound: Optimum, least: dict[str, float], root: int = 0
) -> Candidate:
    """Work out the figures of one algorithm. Raises AlgorithmError if it is unknown or cannot run here."""
    listed = transfers(collective, name, network.topology, root)
    loads = link_loads(listed, network, nbytes)
    traffic = Traffic(listed.as_messages(), network.topology)
    between = {level: float(traffic.between(level) * nbytes) for level in network.topology.levels}
    seconds = schedule_time(listed, network, nbytes)
    return Candidate(
        name,
        listed.rounds,
        seconds,
        between,
        {level: _ratio(between[level], least[level]) for level in between},
        network.link_name(loads.busiest) if loads.busiest_bytes else "none",
        loads.busiest_bytes,
        _ratio(loads.busiest_seconds, bound.bandwidth),
        _ratio(seconds, bound.seconds),
    )


def explain(
    collective: str, nbytes: int, topology: Topology, machine: Machine | None = None, root: int = 0
) -> Explanation:
    """Price every algorithm of ``collective`` for a vector of ``nbytes`` bytes, counted as ``choose.rule`` does.

    Without ``machine`` that of :func:`default_machine`. Raises AlgorithmError for an unknown collective or size,
    TopologyError if the machine does not fit the placement.
    """
    names, left_out = candidates_of(collective, topology)
    if nbytes < 0 or not 0 <= root < topology.size:
        raise AlgorithmError(f"needs bytes ≥ 0 and a root below {topology.size}, found {nbytes} and {root}")
    used = machine or default_machine(topology)
    network = Network(used, topology)
    bound = time_bound(collective, network, nbytes, root)
    least = {x: float(bytes_between(collective, topology, x, root) * nbytes) for x in topology.levels}
    rows = [price(collective, name, network, nbytes, bound, least, root) for name in names]
    rows.sort(key=lambda row: row.seconds)
    return Explanation(collective, nbytes, topology, used, bound, least, tuple(rows), left_out)


def pair_loads(listed: Transfers, topology: Topology, nbytes: int) -> FloatArray:
    """Sum up the bytes from every place of the outermost level to every other: a matrix."""
    column = topology.places[:, 0] if topology.levels else np.arange(topology.size)
    places = int(column.max()) + 1
    keys = column[listed.source] * places + column[listed.target]
    per_block = nbytes / listed.vector if listed.vector else 0.0
    matrix = np.bincount(keys, weights=listed.blocks * per_block, minlength=places**2).reshape(places, places)
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(matrix, np.float64)
