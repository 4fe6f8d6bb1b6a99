"""The three-dimensional tori that Slurm describes (topology/torus3d).

Levels ``torus``, ``z`` and ``y``: nodes of one plane, and in it of one line along x, are near. Hosts are listed with x
varying fastest, then y, then z, for the whole torus or for each of its regions. Around a torus the first plane is as
near to the last as to the second; nested places do not say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from topocomm.topology.files import Placement
from topocomm.topology.sites.text import MAX_NODES, Nodes, add_node, fail

__all__ = ["LEVELS", "Region", "Torus", "tori"]

LEVELS = ("torus", "z", "y")
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """A box in a torus: its corner of lowest coordinates, its extents along x, y and z, and its hosts."""

    anchor: Triple
    dims: Triple
    hosts: list[str]
    line: int

    def places(self) -> Iterator[tuple[str, Triple]]:
        """Every host with its coordinates x, y and z."""
        x, y, _ = self.dims
        for k, host in enumerate(self.hosts):
            yield host, (self.anchor[0] + k % x, self.anchor[1] + k // x % y, self.anchor[2] + k // (x * y))


@dataclass(frozen=True)
class Torus:
    """A torus: its name, its extents along x, y and z, and the regions that have hosts."""

    name: str
    dims: Triple
    regions: list[Region]
    line: int


def tori(found: list[Torus], source: str) -> Placement:
    """Read the placement by node. Raises TopologyError, naming the line, if hosts and extents do not fit."""
    nodes: Nodes = {}
    names: set[str] = set()
    for torus in found:
        if torus.name in names:
            fail(source, f"torus {torus.name!r} is defined twice", torus.line)
        names.add(torus.name)
        _enter(nodes, torus, source)
    if not nodes:
        fail(source, "places no node: no torus has nodes")
    return Placement(LEVELS, None, nodes, source)


def _enter(nodes: Nodes, torus: Torus, source: str) -> None:
    """Add the hosts of a torus."""
    taken: dict[Triple, str] = {}
    for region in torus.regions:
        _check(region, torus, source)
        for host, at in region.places():
            if taken.setdefault(at, host) != host:
                fail(source, f"{host!r} and {taken[at]!r} are both at {at} of torus {torus.name!r}", region.line)
            add_node(nodes, host, (torus.name, str(at[2]), str(at[1])), source, region.line)


def _check(region: Region, torus: Torus, source: str) -> None:
    """Raise TopologyError if a region reaches out of its torus, or has another number of hosts than places."""
    x, y, z = region.dims
    if not 0 < x * y * z <= MAX_NODES:
        fail(source, f"{x} x {y} x {z} places: needs 1 to {MAX_NODES}", region.line)
    if any(a + d > most for a, d, most in zip(region.anchor, region.dims, torus.dims, strict=True)):
        fail(source, f"a region reaches out of torus {torus.name!r}", region.line)
    if len(region.hosts) != x * y * z:
        fail(source, f"{x} x {y} x {z} places, but {len(region.hosts)} hosts", region.line)
