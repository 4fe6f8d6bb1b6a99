"""Lower bounds on time: what no schedule can beat on a network, whatever it does.

Bandwidth: for every cut that the network offers (each rank, node, switch and group; planes of a torus) the bytes that
must leave or enter it, over what its links carry; and per level the bytes between all places together, over all links
out of them. Latency: whoever has a message is busy for an overhead with each copy it sends, so at most twice as many
know after an overhead as before: ⌈lg p⌉ overheads until all do; and one message must cross the outermost level.
The bound is the larger of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topocomm.arrays import IntArray
from topocomm.model.bounds import bytes_across, bytes_between
from topocomm.model.network import Cut, FloatArray, Network
from topocomm.topology import Topology

__all__ = ["Optimum", "time_bound"]

_TO_ROOT = ("gather", "reduce")


@dataclass(frozen=True)
class Optimum:
    """Seconds that bytes alone need (at ``where``), that messages alone need, and the larger of the two."""

    bandwidth: float
    where: str
    latency: float

    @property
    def seconds(self) -> float:
        """The bound."""
        return max(self.bandwidth, self.latency)


def _needs(collective: str, column: IntArray, root: int) -> tuple[FloatArray, FloatArray]:
    """Per place the part of the vector that must leave it and that must enter it. One count for places alike."""
    members = np.bincount(column)
    kind = members * 2 + (np.arange(len(members)) == column[root])
    out, into = np.zeros(len(members)), np.zeros(len(members))
    for k in np.unique(kind):
        alike = kind == k
        mask = column == int(np.argmax(alike))
        leaving, entering = bytes_across(collective, mask, root)
        out[alike], into[alike] = float(leaving), float(entering)
    return out, into


def _cut_seconds(collective: str, cut: Cut, root: int) -> float:
    out, into = _needs(collective, cut.column, root)
    places = len(out)
    return float(max((out / cut.out[:places]).max(), (into / cut.into[:places]).max()))


def time_bound(collective: str, network: Network, nbytes: float, root: int = 0) -> Optimum:
    """The bound for a vector of ``nbytes`` bytes. Raises AlgorithmError for an unknown collective."""
    topology = network.topology
    found: list[tuple[float, str]] = [(0.0, "nothing")]
    for cut in network.cuts:
        found.append((nbytes * _cut_seconds(collective, cut, root), f"one {cut.name}"))
        if cut.name in (*topology.levels, network.machine.rank.name):
            places = Topology((cut.name,), cut.column[:, None])
            least = float(bytes_between(collective, places, cut.name, root))
            speed = float(cut.out[: int(cut.column.max()) + 1].sum())
            found.append((nbytes * least / speed, f"all {cut.name}s together"))
    bandwidth, where = max(found, key=lambda pair: pair[0])
    return Optimum(bandwidth, where, _latency(collective, network))


def _latency(collective: str, network: Network) -> float:
    p = network.size
    if p == 1:
        return 0.0
    places = network.topology.places
    outer = places[:, 0] if places.shape[1] else np.arange(p)
    far = np.flatnonzero(outer != outer[0])
    target = far[:64] if len(far) else np.arange(1, min(p, 64))
    routes = network.routes(np.zeros(len(target), np.int64), target.astype(np.int64))
    nearest = float(network.latency[routes].sum(axis=1).min())
    if not len(far) or network.machine.kind not in ("levels", "fat_tree"):
        nearest = 2 * float(network.latency[network.none - 1])
    rounds = 1 if collective in _TO_ROOT else (p - 1).bit_length()
    return max(rounds * network.overhead, network.overhead + nearest)
