"""The links of a machine under a placement, and the route of every message: a shortest one, always the same.

Links are numbered; a message's route is a row of link numbers, filled up with :attr:`Network.none`, a link without
limits. Routes are made for many messages at once.

* Trees (kinds ``levels``, ``fat_tree``): up to the innermost common place and down; of parallel links the one that
  the destination's node number picks (d-mod-k).
* Dragonfly: router → gateway of the own group → gateway of the other group → router; the gateway of group g to
  group h is its router h mod (routers of g). One hop inside a group.
* Dragonfly+: leaf → spine → spine of the other group → leaf, spine h mod spines to group h.
* Torus: dimension by dimension, the shorter way round, upwards where both are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import TopologyError
from topocomm.model.machine import PAIRED, Level, Machine
from topocomm.topology import Topology, places_by_label

__all__ = ["Cut", "FloatArray", "Network"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
_Which: TypeAlias = IntArray | slice
_Hop: TypeAlias = tuple[_Which, IntArray]
"""Messages, and the link that each takes."""
_Hops: TypeAlias = Callable[[IntArray, IntArray], list[_Hop]]


@dataclass(frozen=True)
class Cut:
    """A partition of the ranks into places (``column``) and bytes/s that can leave and enter each place."""

    name: str
    column: IntArray
    out: FloatArray
    into: FloatArray


@dataclass
class _Links:
    """Links in the making."""

    capacity: list[FloatArray] = field(default_factory=list)
    latency: list[FloatArray] = field(default_factory=list)
    families: list[tuple[str, int]] = field(default_factory=list)
    count: int = 0

    def add(self, name: str, count: int, speed: float, latency: float) -> int:
        """``count`` links of one kind; returns the number of the first."""
        first = self.count
        self.capacity.append(np.full(count, speed))
        self.latency.append(np.full(count, latency))
        self.families.append((name, first))
        self.count += count
        return first


class Network:
    """Numbered links with ``capacity`` (bytes/s) and ``latency`` (seconds); the last is no link (``none``).

    ``receiving`` is the seconds for which a message occupies its receiver, such as those of combining what came.
    Raises TopologyError if the placement has a level that the machine does not describe, or does not fit its torus.
    """

    def __init__(self, machine: Machine, topology: Topology, receiving: float = 0.0) -> None:
        machine.covers(topology)
        self.machine, self.topology = machine, topology
        self.size, self.overhead, self.receiving = topology.size, machine.overhead, receiving
        self.cuts: list[Cut] = []
        self._links = _Links()
        self._hops: list[_Hops] = []
        columns = _columns(machine, topology)
        names = [level.name for level in machine.levels]
        self._node = columns[names.index("node")] if "node" in names else [*columns, np.arange(topology.size)][-1]
        inner = 0
        if machine.kind == "torus":
            inner = len(machine.dims)
            self._torus(columns)
        elif machine.kind in PAIRED:
            has_routers = len(names) > 1 and names[1] != "node"
            inner = 2 if has_routers else 1
            (self._dragonfly if machine.kind == "dragonfly" else self._dragonfly_plus)(columns, has_routers)
        for level, column in zip(machine.levels[inner:], columns[inner:], strict=True):
            self._tree(level, column)
        self._tree(machine.rank, np.arange(topology.size, dtype=np.int64))
        self.none = self._links.count
        self.capacity = np.concatenate([*self._links.capacity, np.array([np.inf])])
        self.latency = np.concatenate([*self._links.latency, np.array([0.0])])

    def routes(self, source: IntArray, target: IntArray) -> IntArray:
        """The links of every message from ``source[i]`` to ``target[i]``, one row each."""
        hops = [hop for kind in self.hops(source, target) for hop in kind if len(hop[1])]
        out = np.full((max(len(hops), 1), len(source)), self.none, np.int64)
        for row, (which, links) in zip(out, hops, strict=False):
            row[which] = links
        return np.ascontiguousarray(out.T)

    def hops(self, source: IntArray, target: IntArray) -> Iterator[list[_Hop]]:
        """Yield for every kind of links the hops of messages from ``source[i]`` to ``target[i]`` over one of them.

        A hop is the messages that make it and the link of each. No link is of two kinds.
        """
        return (hops(source, target) for hops in self._hops)

    def link_name(self, link: int) -> str:
        """What link number ``link`` is: its family and number therein."""
        name, first = [(n, f) for n, f in self._links.families if f <= link][-1]
        return f"{name} {link - first}"

    @property
    def families(self) -> list[tuple[str, int, int]]:
        """The kinds of links: name, first link, number of links."""
        starts = [first for _, first in self._links.families] + [self.none]
        return [(n, f, stop - f) for (n, f), stop in zip(self._links.families, starts[1:], strict=True) if stop > f]

    # -- wiring ------------------------------------------------------------------------------------------------

    def _tree(self, level: Level, column: IntArray) -> None:
        """Every place has links up and down, used by messages that leave it."""
        places, k, node = int(column.max()) + 1, level.links, self._node
        up = self._links.add(f"{level.name} up", places * k, level.up, level.latency)
        down = self._links.add(f"{level.name} down", places * k, level.down, level.latency)

        ups, downs = up + column * k, down + column * k

        def hop(source: IntArray, target: IntArray) -> list[_Hop]:
            leaves = column[source] != column[target]
            if not leaves.all():
                some: _Which = np.flatnonzero(leaves)
                source, target = source[some], target[some]
            else:
                some = slice(None)
            lane = node[target] % k if k > 1 else 0
            return [(some, ups[source] + lane), (some, downs[target] + lane)]

        self._hops.append(hop)
        ones = np.ones(places)
        self.cuts.append(Cut(level.name, column, ones * k * level.up, ones * k * level.down))

    def _pairs(self, level: Level, group: IntArray) -> _Hops:
        """A link (or ``links`` of them) from every group to every other."""
        groups, k, node = int(group.max()) + 1, level.links, self._node
        speed = min(level.up, level.down)
        first = self._links.add(f"{level.name} pair", groups * groups * k, speed, level.latency)
        out = np.full(groups, max(groups - 1, 1) * k * speed)
        self.cuts.append(Cut(level.name, group, out, out))

        def hop(source: IntArray, target: IntArray) -> list[_Hop]:
            a, b = group[source], group[target]
            return _used(np.where(a != b, first + (a * groups + b) * k + node[target] % k, -1))

        return hop

    def _dragonfly(self, columns: list[IntArray], has_routers: bool) -> None:
        between = self._pairs(self.machine.levels[0], columns[0])
        self._hops.append(between)
        if not has_routers:
            return
        group, router, level = columns[0], columns[1], self.machine.levels[1]
        position, routers = _inside(group, router)
        k, node = level.links, self._node
        first = np.concatenate(([0], np.cumsum(routers**2)))
        base = self._links.add(f"{level.name} pair", int(first[-1]) * k, min(level.up, level.down), level.latency)

        def local(g: IntArray, a: IntArray, b: IntArray, lane: IntArray) -> IntArray:
            return np.where(a != b, base + (first[g] + a * routers[g] + b) * k + lane, -1)

        def hop(source: IntArray, target: IntArray) -> list[_Hop]:
            g, h, a, b = group[source], group[target], position[source], position[target]
            lane, away = node[target] % k, g != h
            leaves = local(g, a, np.where(away, h % routers[g], b), lane)
            return _used(leaves, np.where(away, local(h, g % routers[h], b, lane), -1))

        self._hops.append(hop)

    def _dragonfly_plus(self, columns: list[IntArray], has_routers: bool) -> None:
        self._hops.append(self._pairs(self.machine.levels[0], columns[0]))
        if not has_routers:
            return
        group, leaf, level = columns[0], columns[1], self.machine.levels[1]
        leaves, k, node = int(leaf.max()) + 1, level.links, self._node
        up = self._links.add(f"{level.name} up", leaves * k, level.up, level.latency)
        down = self._links.add(f"{level.name} down", leaves * k, level.down, level.latency)
        ones = np.ones(leaves)
        self.cuts.append(Cut(level.name, leaf, ones * k * level.up, ones * k * level.down))

        def hop(source: IntArray, target: IntArray) -> list[_Hop]:
            g, h, a, b = group[source], group[target], leaf[source], leaf[target]
            near = node[target] % k
            leaves_by, enters_by = np.where(g == h, near, h % k), np.where(g == h, near, g % k)
            return _used(np.where(a != b, up + a * k + leaves_by, -1), np.where(a != b, down + b * k + enters_by, -1))

        self._hops.append(hop)

    def _torus(self, columns: list[IntArray]) -> None:
        dims = self.machine.dims
        where = [_coordinate(self.topology, columns, axis, extent, self.machine) for axis, extent in enumerate(dims)]
        nodes = int(np.prod(dims))
        first = []
        for level in self.machine.levels[: len(dims)]:
            plus = self._links.add(f"{level.name} +", nodes, level.up, level.latency)
            minus = self._links.add(f"{level.name} -", nodes, level.down, level.latency)
            first.append((plus, minus))

        def hop(source: IntArray, target: IntArray) -> list[_Hop]:
            here = [w[source] for w in where]
            out = []
            for axis, extent in enumerate(dims):
                there = where[axis][target]
                ahead = (there - here[axis]) % extent
                upwards = 2 * ahead <= extent
                steps, turn = np.where(upwards, ahead, extent - ahead), np.where(upwards, 1, -1)
                start = np.where(upwards, *first[axis])
                for step in range(extent // 2):
                    at = [*here[:axis], (here[axis] + turn * step) % extent, *here[axis + 1 :]]
                    node = np.ravel_multi_index(tuple(at), dims)
                    out.append(np.where(step < steps, start + node, -1))
                here[axis] = there
            return _used(*out)

        self._hops.append(hop)
        for axis, extent in enumerate(dims):
            self._planes(self.machine.levels[axis], where[axis], extent, nodes // extent)

    def _planes(self, level: Level, where: IntArray, extent: int, lines: int) -> None:
        """The cuts of one dimension: every plane, and every half of the ring of planes."""
        if extent < 2:
            return
        speed = lines * (level.up + level.down if extent > 2 else level.up)
        for thick in {1, extent // 2}:
            for start in range(extent):
                inside = ((where - start) % extent < thick).astype(np.int64)
                self.cuts.append(Cut(f"{level.name} planes", inside, np.full(2, speed), np.full(2, speed)))


def _used(*columns: IntArray) -> list[_Hop]:
    """Return the hops of columns of links, -1 where a message makes none."""
    found = [(np.flatnonzero(column >= 0), column) for column in columns]
    return [(some, column[some]) for some, column in found]


def _columns(machine: Machine, topology: Topology) -> list[IntArray]:
    """The place of every rank at every level of the machine; a level the placement lacks is one place.

    Places are numbered in the order of their labels, whatever the order of the ranks: routes belong to the machine.
    """
    by_label = dict(zip(topology.levels, places_by_label(topology), strict=True))
    out: list[IntArray] = []
    last = np.zeros(topology.size, np.int64)
    for level in machine.levels:
        last = by_label.get(level.name, last)
        out.append(last)
    return out


def _inside(outer: IntArray, inner: IntArray) -> tuple[IntArray, IntArray]:
    """The position of each rank's inner place among those of its outer place, and how many each outer place has."""
    outer_of_inner = np.zeros(int(inner.max()) + 1, np.int64)
    outer_of_inner[inner] = outer
    order = np.argsort(outer_of_inner, kind="stable")
    counts = np.bincount(outer_of_inner)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return position[inner], counts


def _coordinate(topology: Topology, columns: list[IntArray], axis: int, extent: int, machine: Machine) -> IntArray:
    """Each rank's coordinate: the label where all labels are fitting numbers, else the position in the outer place."""
    name = machine.levels[axis].name
    if name not in topology.levels:
        return np.zeros(topology.size, np.int64)
    labels = topology.labels[:, topology.level_index(name)]
    text = [str(label) for label in labels]
    if all(t.isdecimal() and len(t) < 9 and int(t) < extent for t in text):
        return np.array([int(t) for t in text], np.int64)
    outer = columns[axis - 1] if axis else np.zeros(topology.size, np.int64)
    position, counts = _inside(outer, columns[axis])
    if int(counts.max()) > extent:
        raise TopologyError(
            f"machine {machine.source}: the torus has {extent} places in dimension {name!r}, "
            f"the placement {counts.max()}"
        )
    return position
