"""Modelled times of many sizes and algorithms under one placement: what is alike for all sizes is made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from topocomm.algorithms import transfers
from topocomm.errors import AlgorithmError
from topocomm.model.machine import Machine
from topocomm.model.network import Network
from topocomm.model.optimum import time_bound
from topocomm.model.time import schedule_time
from topocomm.topology import Topology

__all__ = ["SweepPoint", "sweep"]


@dataclass(frozen=True)
class SweepPoint:
    """One size under one placement: seconds of every algorithm, and the bound."""

    nbytes: int
    bound: float
    seconds: dict[str, float]
    ranks: int
    placement: str = ""
    order: str = "given"
    chosen: str = ""

    @property
    def fastest(self) -> str:
        """The algorithm with the shortest time."""
        return min(self.seconds, key=lambda name: self.seconds[name])

    def at(self, placement: str, order: str, chosen: str) -> SweepPoint:
        """The same with where it is, and what the decision would be."""
        return replace(self, placement=placement, order=order, chosen=chosen)

    def row(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "placement": self.placement,
            "order": self.order,
            "ranks": self.ranks,
            "bytes": self.nbytes,
            "bound_us": round(self.bound * 1e6, 3),
            "time_us": {name: round(seconds * 1e6, 3) for name, seconds in self.seconds.items()},
            "fastest": self.fastest,
            "chosen": self.chosen,
        }


def sweep(
    collective: str, sizes: Sequence[int], names: Sequence[str], topology: Topology, machine: Machine, root: int = 0
) -> list[SweepPoint]:
    """Price ``names`` at every size. Raises AlgorithmError if one is unknown or none is left, TopologyError if the
    machine does not fit."""
    if not names:
        raise AlgorithmError(f"no algorithm of {collective} can run on {topology.size} ranks here")
    network = Network(machine, topology)
    seconds: dict[int, dict[str, float]] = {size: {} for size in sizes}
    for name in names:
        listed = transfers(collective, name, topology, root)
        for size in sizes:
            seconds[size][name] = schedule_time(listed, network, size)
    bounds = {size: time_bound(collective, network, size, root).seconds for size in sizes}
    return [SweepPoint(size, bounds[size], seconds[size], topology.size) for size in sizes]
