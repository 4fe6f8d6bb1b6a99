"""Slurm's ``topology.conf``: switches of a tree, or blocks.

    SwitchName=s0 Nodes=tux[0-3]                 BlockName=b1 Nodes=node[1-4]
    SwitchName=s1 Nodes=tux[4-7]                 BlockName=b2 Nodes=node[5-8]
    SwitchName=top Switches=s[0-1]               BlockSizes=4,8

Keys are case-insensitive, ``#`` begins a comment, a backslash at the end continues a line; LinkSpeed is read over.
A tree gives one level for each tier, ``switch`` the one at the nodes, ``switch2`` the next; where a branch has fewer
tiers, its top switch stands for the missing ones. Blocks give the level ``block``, and one for each larger entry of
BlockSizes: so many consecutive blocks as make up that size. Source: topology.conf(5), slurm.schedmd.com.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.text import Nodes, add_node, fail, lines

__all__ = ["Entries", "looks", "parse", "parse_entries"]

_FIRST = re.compile(r"(?im)^[ \t]*(SwitchName|BlockName|BlockSizes)[ \t]*=")
_KEYS = {"switchname", "switches", "nodes", "linkspeed", "blockname", "blocksizes"}


Entries = list[tuple[int, dict[str, str]]]
"""What the lines say: line number, and values by key in small letters."""


def looks(text: str) -> str | None:
    """Why this cannot be a topology.conf; None if it may be one."""
    return None if _FIRST.search(text) else "no line begins with SwitchName= or BlockName="


def parse(text: str, source: str = "topology.conf") -> Placement:
    """The placement by node. Raises TopologyError, naming line or switch, for anything malformed."""
    return parse_entries(list(_entries(text, source)), source)


def parse_entries(entries: Entries, source: str) -> Placement:
    """The same from lines that are read already."""
    if not entries:
        fail(source, "defines no switch and no block")
    kinds = {"block" if keys.keys() & {"blockname", "blocksizes"} else "switch" for _, keys in entries}
    if len(kinds) > 1:
        fail(source, "mixes switches and blocks; Slurm takes the one or the other")
    return _blocks(entries, source) if "block" in kinds else _tree(entries, source)


def _entries(text: str, source: str) -> Iterator[tuple[int, dict[str, str]]]:
    joined, held, first = [], "", 0
    for number, line in lines(text):
        first = first or number
        held += line.removesuffix("\\") + " "
        if not line.endswith("\\"):
            joined.append((first, held))
            held, first = "", 0
    if held:
        fail(source, "the last line is continued by a backslash, but nothing follows", first)
    for number, line in joined:
        keys: dict[str, str] = {}
        for word in line.split():
            key, equals, value = word.partition("=")
            if key.lower() not in _KEYS or not equals or not value:
                fail(source, f"{word!r} is not one of SwitchName, Nodes, Switches, LinkSpeed, BlockName, BlockSizes "
                     "with a value", number)  # fmt: skip
            if key.lower() in keys:
                fail(source, f"{key} is given twice", number)
            keys[key.lower()] = value
        yield number, keys


def _hosts(value: str, source: str, line: int) -> list[str]:
    try:
        return hostlist.expand(value)
    except TopologyError as e:
        fail(source, str(e), line)


@dataclass
class _Switches:
    """What the lines of a tree say."""

    line: dict[str, int] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, list[str]] = field(default_factory=dict)

    def enter(self, line: int, keys: dict[str, str], source: str) -> None:
        name = keys.get("switchname")
        if name is None:
            fail(source, "a line without SwitchName", line)
        if name in self.line:
            fail(source, f"switch {name!r} is defined twice, first in line {self.line[name]}", line)
        if ("nodes" in keys) == ("switches" in keys):
            fail(source, f"switch {name!r} needs either Nodes or Switches", line)
        self.line[name] = line
        if "nodes" in keys:
            self.nodes[name] = _hosts(keys["nodes"], source, line)
            return
        for child in _hosts(keys["switches"], source, line):
            if self.parent.setdefault(child, name) != name:
                fail(source, f"switch {child!r} hangs below {self.parent[child]!r} already", line)

    def check(self, source: str) -> None:
        for child, above in self.parent.items():
            if child not in self.line:
                fail(source, f"switch {child!r} below {above!r} is defined nowhere", self.line[above])
        ring = _ring(self.line, self.parent)
        if ring:
            fail(source, f"switch {ring!r} lies below itself", self.line[ring])
        if not self.nodes:
            fail(source, "no switch has Nodes")

    def path(self, switch: str) -> tuple[str, ...]:
        """From the top down to ``switch``."""
        path = [switch]
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        return tuple(reversed(path))


def _ring(switches: Iterable[str], parent: dict[str, str]) -> str | None:
    """A switch that lies below itself."""
    done: set[str] = set()
    for switch in switches:
        trail: set[str] = set()
        at: str | None = switch
        while at is not None and at not in done:
            if at in trail:
                return at
            trail.add(at)
            at = parent.get(at)
        done |= trail
    return None


def _tree(entries: Entries, source: str) -> Placement:
    switches = _Switches()
    for line, keys in entries:
        switches.enter(line, keys, source)
    switches.check(source)
    paths = {leaf: switches.path(leaf) for leaf in switches.nodes}
    depth = max(map(len, paths.values()))
    nodes: Nodes = {}
    for leaf, hosts in switches.nodes.items():
        path = paths[leaf]
        for host in hosts:
            add_node(nodes, host, (path[0],) * (depth - len(path)) + path, source, switches.line[leaf])
    levels = tuple("switch" if tier == 1 else f"switch{tier}" for tier in range(depth, 0, -1))
    return Placement(levels, None, nodes, source)


def _blocks(entries: Entries, source: str) -> Placement:
    blocks: dict[str, tuple[int, list[str]]] = {}
    sizes: list[int] = []
    for line, keys in entries:
        if "blocksizes" in keys:
            if sizes or len(keys) > 1:
                fail(source, "BlockSizes must stand once, on a line of its own", line)
            sizes = _sizes(keys["blocksizes"], source, line)
            continue
        if keys.keys() - {"linkspeed"} != {"blockname", "nodes"}:
            fail(source, "a block needs BlockName and Nodes", line)
        if keys["blockname"] in blocks:
            fail(source, f"block {keys['blockname']!r} is defined twice", line)
        blocks[keys["blockname"]] = line, _hosts(keys["nodes"], source, line)
    if not blocks:
        fail(source, "defines no block")
    larger = sorted(sizes[1:], reverse=True)
    nodes: Nodes = {}
    for i, (name, (line, hosts)) in enumerate(blocks.items()):
        row = (*(f"{size}.{i // (size // sizes[0])}" for size in larger), name)
        for host in hosts:
            add_node(nodes, host, row, source, line)
    return Placement((*(f"block{size}" for size in larger), "block"), None, nodes, source)


def _sizes(value: str, source: str, line: int) -> list[int]:
    words = value.split(",")
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", word) for word in words):
        fail(source, f"BlockSizes={value}: not whole numbers between commas", line)
    sizes = [int(word) for word in words]
    for small, size in itertools.pairwise(sizes):
        ratio, rest = divmod(size, sizes[0])
        if rest or ratio & (ratio - 1) or size <= small:
            fail(source, f"BlockSizes={value}: each must be the first times a power of two, ascending", line)
    return sizes
