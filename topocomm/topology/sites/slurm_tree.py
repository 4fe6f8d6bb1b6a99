"""The tree of switches that Slurm describes.

One level for each tier: ``switch`` the one at the nodes, ``switch2`` the next. As in Slurm, a switch stands one tier
above the highest of its children. Where a branch lacks a tier, the switch below stands for it, so that nodes share
places exactly where they share switches. Switches that hang over the same children (the spines of a fat tree, listed
one by one) are one place, called by their host list. Leaves may be empty. ``scontrol show topology`` repeats all nodes
of a switch's children; they must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.slurm_conf import ConfLine
from topocomm.topology.sites.text import Nodes, add_node, fail

__all__ = ["tree", "tree_levels", "without_gaps"]


@dataclass(frozen=True)
class _Switch:
    entry: ConfLine
    nodes: list[str]
    below: list[str]


def tree(entries: list[ConfLine], source: str) -> Placement:
    """Read the placement by node from lines of switches. Raises TopologyError, naming the line, if they are no tree."""
    switches = _switches(entries)
    heights = _heights(switches)
    places, above = _places(switches, heights)
    leaves = {name: switch for name, switch in switches.items() if switch.nodes and not switch.below}
    if not leaves:
        fail(source, "places no node: no switch has Nodes")
    _check_repeated(switches, leaves, heights)
    paths = {name: _path(name, above) for name in leaves}
    depth = 1 + max(heights[path[-1]] for path in paths.values())
    nodes: Nodes = {}
    for name, switch in leaves.items():
        tiers = dict.fromkeys(range(depth - 1, -1, -1), "")
        tiers.update({heights[at]: at for at in paths[name]})
        row = without_gaps([_label(at, places) if at else "" for at in tiers.values()], name)
        for host in switch.nodes:
            add_node(nodes, host, row, switch.entry.source, switch.entry.line)
    return Placement(tree_levels("switch", depth), None, nodes, source)


def tree_levels(kind: str, depth: int) -> tuple[str, ...]:
    """Names of the tiers of a tree, outermost first: the innermost is ``kind``, the next ``kind2``, and so on."""
    return tuple(kind if tier == 1 else f"{kind}{tier}" for tier in range(depth, 0, -1))


def without_gaps(tiers: list[str], innermost: str) -> tuple[str, ...]:
    """Fill every empty tier, outermost first, with the one below it, the lowest with ``innermost``."""
    row: list[str] = []
    for name in reversed(tiers):
        innermost = name or innermost
        row.append(innermost)
    return tuple(reversed(row))


def _switches(entries: list[ConfLine]) -> dict[str, _Switch]:
    switches: dict[str, _Switch] = {}
    for entry in entries:
        name = entry.values["switchname"]
        if not name:
            entry.fail("SwitchName is empty")
        if name in switches:
            entry.fail(f"switch {name!r} is defined twice, first in line {switches[name].entry.line}")
        found = _Switch(entry, entry.names("nodes"), entry.names("switches"))
        if found.nodes and found.below and "level" not in entry.values:
            entry.fail(f"switch {name!r} has both Nodes and Switches; it needs either")
        switches[name] = found
    for name, switch in switches.items():
        for child in switch.below:
            if child not in switches:
                switch.entry.fail(f"switch {child!r} below {name!r} is defined nowhere")
    return switches


def _heights(switches: Mapping[str, _Switch]) -> dict[str, int]:
    """The tier of every switch, 0 at the nodes."""
    heights: dict[str, int] = {}
    try:
        for name in TopologicalSorter({name: switch.below for name, switch in switches.items()}).static_order():
            heights[name] = 1 + max((heights[child] for child in switches[name].below), default=-1)
    except CycleError as e:
        ring = e.args[1][0]
        switches[ring].entry.fail(f"switch {ring!r} lies below itself")
    return heights


def _places(switches: Mapping[str, _Switch], heights: Mapping[str, int]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Group switches over the same children: all members by the first of them, and who hangs below whom."""
    members: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    over: dict[frozenset[str], str] = {}
    above: dict[str, str] = {}
    for name in sorted(switches, key=heights.__getitem__):
        children = frozenset(first[child] for child in switches[name].below)
        first[name] = over.setdefault(children, name) if children else name
        members.setdefault(first[name], []).append(name)
        for child in children:
            if above.setdefault(child, first[name]) != first[name]:
                switches[name].entry.fail(
                    f"switch {child!r} hangs below {above[child]!r} already, which has other children than {name!r}"
                )
    return members, above


def _path(leaf: str, above: Mapping[str, str]) -> list[str]:
    """The switches from a leaf to the top."""
    path = [leaf]
    while path[-1] in above:
        path.append(above[path[-1]])
    return path


def _label(name: str, places: Mapping[str, list[str]]) -> str:
    return name if len(places[name]) == 1 else hostlist.compress(places[name])


def _check_repeated(switches: Mapping[str, _Switch], leaves: Mapping[str, _Switch], heights: Mapping[str, int]) -> None:
    """Raise TopologyError where a switch over others repeats other nodes than lie below it."""
    under = {name: set(switch.nodes) for name, switch in leaves.items()}
    for name in sorted(switches, key=heights.__getitem__):
        switch = switches[name]
        if not switch.below:
            continue
        under[name] = set().union(*(under.get(child, set()) for child in switch.below))
        if switch.nodes and (odd := sorted(under[name] ^ set(switch.nodes))):
            switch.entry.fail(f"switch {name!r} and those below it disagree about node {odd[0]!r}")
