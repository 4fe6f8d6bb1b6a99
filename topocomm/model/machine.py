"""A machine: its levels, how fast and how many their links are, and how they are wired. Knows no ranks.

Units: bytes per second, seconds. The five kinds differ in what the links of a level connect:

``levels``      every place has ``links`` links up to its enclosing place, and as many down
``fat_tree``    the same by another name: ``links`` parallel links, picked by destination (d-mod-k)
``dragonfly``   outermost level: a link from every place to every other; next level (unless it is the node): the same
                between the places inside one outermost place; inner levels as in ``levels``
``dragonfly+``  outermost level: a link from every place to every other; next level: every place has one link to each
                of ``links`` spines of its outermost place; inner levels as in ``levels``
``torus``       the first ``dims`` levels: a link in either direction of a dimension at every node; inner ones as above

A placement without one of the levels is taken to have a single place there. :func:`default_machine` says what is
assumed when nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from topocomm.errors import TopologyError
from topocomm.topology import Topology

__all__ = ["KINDS", "Level", "Machine", "complete", "default_machine", "dragonfly", "fat_tree", "levels", "torus"]

KINDS = ("levels", "fat_tree", "dragonfly", "dragonfly+", "torus")
PAIRED = ("dragonfly", "dragonfly+")

NIC = 12.5e9
"""Bytes/s of a node's link if nobody says otherwise: 100 Gbit/s."""
TAPER = 2.0
"""How much less an assumed place outside the node sends than its nodes together."""
OVERHEAD = 0.5e-6
"""Seconds a rank is busy with each message it sends, if nobody says otherwise."""
EAGER = 4096.0
"""Bytes up to which a message leaves without waiting for its receiver, if nobody says otherwise (MPI libraries on
networks: 4 KiB to 256 KiB)."""
LATENCY = 0.25e-6
"""Seconds of one link outside the node, if nobody says otherwise."""
_INNER = {
    "socket": (40e9, 0.1e-6),
    "numa": (25e9, 0.05e-6),
    "cache": (25e9, 0.05e-6),
    "core": (20e9, 0.05e-6),
}
"""Bytes/s and seconds of links inside a node, if nobody says otherwise."""


@dataclass(frozen=True)
class Level:
    """The links of one place of a level: bytes/s of each up (out) and down (in), seconds of each, how many."""

    name: str
    up: float
    down: float
    latency: float = LATENCY
    links: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.up < float("inf") and 0 < self.down < float("inf")):
            raise TopologyError(f"level {self.name!r}: bytes/s must be positive, found {self.up:g} and {self.down:g}")
        if not 0 <= self.latency < float("inf"):
            raise TopologyError(f"level {self.name!r}: latency must be 0 or more seconds, found {self.latency:g}")
        if self.links < 1:
            raise TopologyError(f"level {self.name!r}: needs at least one link, found {self.links}")


RANK = Level("rank", 10e9, 10e9, 0.1e-6)
"""What one rank moves by itself, if nobody says otherwise."""


@dataclass(frozen=True)
class Machine:
    """A machine of one of :data:`KINDS`, levels outermost first.

    ``rank`` is the link of each rank itself, ``overhead`` the seconds for which a message occupies its sender. Messages
    of at most ``eager`` bytes do not wait for their receiver, nor their sender for them (0: all wait, rendezvous).
    Raises TopologyError for an unknown kind, levels that do not fit it, or two of one name.
    """

    kind: str
    levels: tuple[Level, ...]
    rank: Level = RANK
    overhead: float = OVERHEAD
    dims: tuple[int, ...] = field(default=())
    """Torus only: nodes along each dimension."""
    source: str = "built in"
    """Where the figures are from."""
    eager: float = EAGER

    def __post_init__(self) -> None:
        names = [level.name for level in self.levels]
        if self.kind not in KINDS:
            raise TopologyError(f"unknown kind of machine {self.kind!r}; known are {', '.join(KINDS)}")
        if len(set(names)) != len(names):
            raise TopologyError(f"levels {names} name the same level twice; give each level its own name")
        if not 0 <= self.overhead < float("inf"):
            raise TopologyError(f"overhead must be 0 or more seconds, found {self.overhead:g}")
        if not 0 <= self.eager < float("inf"):
            raise TopologyError(f"eager must be 0 (always rendezvous) or more bytes, found {self.eager:g}")
        if self.kind in PAIRED and not self.levels:
            raise TopologyError(f"a {self.kind} needs at least one level, the groups")
        if (self.kind == "torus") != bool(self.dims):
            raise TopologyError("'dims' must be given for a torus, and only for a torus")
        if self.dims and (min(self.dims) < 1 or len(self.dims) > len(self.levels)):
            raise TopologyError(f"torus: dims {list(self.dims)} need positive extents and a level each, found {names}")

    def covers(self, topology: Topology) -> None:
        """Raise TopologyError if the topology has a level that this machine does not describe."""
        known = {level.name for level in self.levels}
        missing = [name for name in topology.levels if name not in known]
        if missing:
            raise TopologyError(
                f"machine {self.source} does not describe level {missing[0]!r} of the placement; "
                f"it has {', '.join(sorted(known)) or 'none'}; add the level, or give the topology it was made for"
            )


def levels(*described: Level, overhead: float = OVERHEAD, rank: Level = RANK) -> Machine:
    """A tree of levels, outermost first."""
    return Machine("levels", described, rank, overhead)


def fat_tree(
    switches: int, nodes: int, *, nic: float = NIC, oversubscription: float = 1.0, latency: float = LATENCY
) -> Machine:
    """Pods of ``switches`` leaf switches of ``nodes`` nodes; each tier has 1/oversubscription of the links below."""
    if min(switches, nodes) < 1 or oversubscription <= 0:
        raise TopologyError(f"fat tree: extents and oversubscription must be positive, found {switches}, {nodes}")
    leaf = max(1, round(nodes / oversubscription))
    pod = max(1, round(switches * leaf / oversubscription))
    return Machine(
        "fat_tree",
        (
            Level("pod", nic, nic, latency, pod),
            Level("switch", nic, nic, latency, leaf),
            Level("node", nic, nic, latency),
        ),
    )


def dragonfly(
    *,
    nic: float = NIC,
    local: float = NIC,
    between: float = 2 * NIC,
    latency: float = LATENCY,
    far: float = 1e-6,
    spines: int = 0,
) -> Machine:
    """Groups, routers (leaf switches if ``spines`` > 0: a dragonfly+) and nodes.

    ``between`` bytes/s join each pair of groups (latency ``far``), ``local`` each pair of routers, or leaf and spine.
    """
    return Machine(
        "dragonfly+" if spines else "dragonfly",
        (
            Level("group", between, between, far),
            Level("router", local, local, latency, max(1, spines)),
            Level("node", nic, nic, latency),
        ),
    )


def torus(dims: Sequence[int], *, link: float = NIC, latency: float = LATENCY) -> Machine:
    """A torus with links of ``link`` bytes/s, dimension-ordered shortest routes."""
    names = [f"dim{i}" for i in range(len(dims) - 1)] + ["node"]
    return Machine("torus", tuple(Level(name, link, link, latency) for name in names), dims=tuple(dims))


def default_machine(topology: Topology) -> Machine:
    """What is assumed where no machine is described.

    A node sends and receives 100 Gbit/s. A place around nodes sends half of what its nodes can (2:1 taper), counted
    for the largest such place of the placement. Links outside the node take 0.25 µs, each message 0.5 µs of its
    sender; sockets move 40 GB/s, NUMA domains and caches 25 GB/s, cores 20 GB/s, each rank 10 GB/s.
    """
    known = topology.levels
    inner = known.index("node") if "node" in known else len([n for n in known if n not in _INNER])
    described = []
    for depth, name in enumerate(known):
        if depth < inner:
            below = topology.places[:, inner] if inner < len(known) else np.arange(topology.size)
            outer = np.empty(int(below.max()) + 1, np.int64)
            outer[below] = topology.places[:, depth]
            speed = max(NIC, NIC * int(np.bincount(outer).max()) / TAPER)
            described.append(Level(name, speed, speed))
        elif depth == inner:
            described.append(Level(name, NIC, NIC) if name not in _INNER else _inner(name))
        else:
            described.append(_inner(name))
    return Machine("levels", tuple(described), source="assumed (no machine file)")


def complete(machine: Machine, topology: Topology) -> Machine:
    """The machine with what is assumed for levels inside the node that the topology has and it lacks."""
    known = {level.name for level in machine.levels}
    missing = [name for name in topology.levels if name in _INNER and name not in known]
    if any(name not in _INNER and name not in known for name in topology.levels):
        machine.covers(topology)
    if not missing:
        return machine
    source = f"{machine.source}, {' and '.join(missing)} assumed"
    return replace(machine, levels=machine.levels + tuple(_inner(name) for name in missing), source=source)


def _inner(name: str) -> Level:
    speed, latency = _INNER.get(name, _INNER["core"])
    return Level(name, speed, speed, latency)
