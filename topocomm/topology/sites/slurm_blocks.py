"""The blocks of nodes that Slurm describes.

The level ``block``, and one for each larger entry of BlockSizes (``block8``): as many consecutive blocks as make up
that size. Blocks without nodes are counted, too: they keep a place free. ``scontrol show topology`` lists the larger
ones itself (AggregatedBlock), and repeats their nodes, which must agree; a block in none of a size stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.slurm_conf import ConfLine
from topocomm.topology.sites.text import Nodes, add_node, fail

__all__ = ["blocks"]

_SIZE = re.compile(r"[1-9][0-9]{0,8}")
Larger = dict[int, dict[str, str]]
"""The larger block of every block that lies in one, by size."""


def blocks(entries: list[ConfLine], source: str) -> Placement:
    """Read the placement by node from lines of blocks. Raises TopologyError, naming the line, for malformed ones."""
    found = _blocks(entries)
    if not found:
        fail(source, "defines no block")
    sizes = [entry for entry in entries if "blocksizes" in entry.values]
    shown = [entry for entry in entries if "aggregatedblock" in entry.values]
    if sizes and shown:
        shown[0].fail("AggregatedBlock and BlockSizes do not stand in one file")
    larger = _counted(sizes, list(found)) if sizes else _shown(shown, found)
    nodes: Nodes = {}
    for name, entry in found.items():
        row = (*(larger[size].get(name, name) for size in sorted(larger, reverse=True)), name)
        for host in entry.names("nodes"):
            add_node(nodes, host, row, entry.source, entry.line)
    if not nodes:
        fail(source, "places no node: no block has Nodes")
    return Placement((*(f"block{size}" for size in sorted(larger, reverse=True)), "block"), None, nodes, source)


def _blocks(entries: list[ConfLine]) -> dict[str, ConfLine]:
    found: dict[str, ConfLine] = {}
    for entry in entries:
        if "blockname" not in entry.values:
            continue
        name = entry.values["blockname"]
        if not name or entry.values.keys() & {"aggregatedblock", "blocksizes"}:
            entry.fail("BlockName needs a name and a line of its own")
        if name in found:
            entry.fail(f"block {name!r} is defined twice")
        found[name] = entry
    return found


def _counted(lines: list[ConfLine], names: list[str]) -> Larger:
    """The larger blocks that BlockSizes makes of consecutive ones."""
    if len(lines) > 1 or len(lines[0].values) > 1:
        lines[-1].fail("BlockSizes must stand once, on a line of its own")
    smallest, *others = _sizes(lines[0])
    return {size: {name: f"{size}.{i * smallest // size}" for i, name in enumerate(names)} for size in others}


def _sizes(line: ConfLine) -> list[int]:
    """The sizes, ascending; the first is that of a block."""
    value = line.values["blocksizes"]
    words = [word.strip() for word in value.split(",")]
    if not all(_SIZE.fullmatch(word) for word in words):
        line.fail(f"BlockSizes={value}: not whole numbers between commas")
    sizes = [int(word) for word in words]
    for size in sizes:
        ratio, rest = divmod(size, sizes[0])
        if rest or ratio & (ratio - 1):
            line.fail(f"BlockSizes={value}: each must be the first times a power of two")
    return sorted(set(sizes))


def _shown(lines: list[ConfLine], found: Mapping[str, ConfLine]) -> Larger:
    """The larger blocks as they are listed."""
    larger: Larger = {}
    for line in lines:
        size = line.values.get("blocksize", "")
        if not _SIZE.fullmatch(size):
            line.fail("AggregatedBlock needs BlockSize, a whole number above 0")
        places = larger.setdefault(int(size), {})
        label = f"{size}.{len(set(places.values()))}"
        inside = _members(line, found)
        for name in inside:
            if places.setdefault(name, label) != label:
                line.fail(f"block {name!r} lies in two blocks of {size} nodes")
        if line.names("nodes") and set(line.names("nodes")) != {
            n for name in inside for n in found[name].names("nodes")
        }:
            line.fail("repeats other nodes than its blocks have")
    _check_nested(larger, lines)
    return larger


def _check_nested(larger: Larger, lines: list[ConfLine]) -> None:
    """Raise TopologyError where a larger block lies in two of the next size."""
    for inner, outer in zip(sorted(larger), sorted(larger)[1:], strict=False):
        around: dict[str, str | None] = {}
        for name, label in larger[inner].items():
            if around.setdefault(label, larger[outer].get(name)) != larger[outer].get(name):
                lines[0].fail(f"a block of {inner} nodes lies in two of {outer}")


def _members(line: ConfLine, found: Mapping[str, ConfLine]) -> list[str]:
    try:
        names = hostlist.expand_slurm(line.values["aggregatedblock"])
    except TopologyError as e:
        line.fail(str(e))
    for name in names:
        if name not in found:
            line.fail(f"block {name!r} is defined nowhere")
    return names
