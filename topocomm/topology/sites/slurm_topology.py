"""Slurm's ``topology.conf``, and what ``scontrol show topology`` prints: switches of a tree, blocks, rings, or tori.

    SwitchName=s0 Nodes=tux[0-3]         BlockName=b1 Nodes=node[1-4]         RingName=r0 Nodes=node[1-8]
    SwitchName=s1 Nodes=tux[4-7]         BlockName=b2 Nodes=node[5-8]         RingName=r1 Nodes=node[9-16]
    SwitchName=top Switches=s[0-1]       BlockSizes=4,8

Lines are read as in :mod:`topocomm.topology.sites.slurm_conf`. A tree gives one level for each tier
(:mod:`~topocomm.topology.sites.slurm_tree`), blocks one for each size (:mod:`~topocomm.topology.sites.slurm_blocks`),
rings the level ``ring``; tori, which stand in no topology.conf, but are shown without coordinates, the level ``torus``.
Source: topology.conf(5) and scontrol(1), slurm.schedmd.com.
"""

from __future__ import annotations

import re
from pathlib import Path

from topocomm.topology.files import Placement
from topocomm.topology.sites.slurm_blocks import blocks
from topocomm.topology.sites.slurm_conf import ConfLine, entries
from topocomm.topology.sites.slurm_tree import tree
from topocomm.topology.sites.text import Nodes, add_node, fail

__all__ = ["looks", "parse", "parse_entries"]

_FIRST = re.compile(r"(?im)^[ \t]*(SwitchName|BlockName|BlockSizes|AggregatedBlock|RingName|TorusName)[ \t]*=")
_INCLUDE = re.compile(r"(?i)(?:[ \t]*(?:#.*)?\n)*[ \t]*include[ \t]+\S+[ \t]*(?:#.*)?(?:\n|$)")
_KINDS = {
    "switch": (("SwitchName",), ("Switches", "Nodes", "LinkSpeed", "Level")),
    "block": (("BlockName", "BlockSizes", "AggregatedBlock"), ("Nodes", "LinkSpeed", "BlockSize", "BlockIndex")),
    "ring": (("RingName",), ("Nodes", "RingSize")),
    "torus": (("TorusName",), ("Nodes", "Dims", "PlacementDims", "Anchors")),
}
"""By kind of line: the keys of which it has one, and its other keys."""
_KEYS = tuple(dict.fromkeys(key for kind in _KINDS.values() for keys in kind for key in keys))


def looks(text: str) -> str | None:
    """Tell why this cannot be a topology.conf; None if it may be one."""
    found = _FIRST.search(text) or _INCLUDE.match(text)
    return None if found else "no line begins with SwitchName=, BlockName=, RingName= or TorusName="


def parse(text: str, source: str = "topology.conf", folder: Path | None = None) -> Placement:
    """Read the placement by node; ``folder`` holds the files that are included.

    Raises TopologyError, naming line or switch, for anything malformed.
    """
    return parse_entries(list(entries(text, source, _KEYS, folder)), source)


def parse_entries(found: list[ConfLine], source: str) -> Placement:
    """Read the placement from lines that are read already. Raises TopologyError for anything malformed."""
    if not found:
        fail(source, "defines no switch and no block")
    kinds = {_kind(entry) for entry in found}
    if len(kinds) > 1:
        fail(source, f"mixes {' and '.join(sorted(kinds))} lines; Slurm takes one kind")
    reader = {"switch": tree, "block": blocks, "ring": _rings, "torus": _tori}[kinds.pop()]
    return reader(found, source)


def _kind(entry: ConfLine) -> str:
    """Tell which kind of line this is. Raises TopologyError if it is none, or of several."""
    present = entry.values.keys()
    for kind, (first, others) in _KINDS.items():
        if present & {key.lower() for key in first}:
            if alien := sorted(present - {key.lower() for key in (*first, *others)}):
                entry.fail(f"{alien[0]} does not belong on the line of a {kind}")
            return kind
    entry.fail("a line without SwitchName, BlockName, BlockSizes, RingName or TorusName")


def _rings(found: list[ConfLine], source: str) -> Placement:
    nodes: Nodes = {}
    names: set[str] = set()
    for entry in found:
        name = entry.values["ringname"]
        if name in names:
            entry.fail(f"ring {name!r} is defined twice")
        names.add(name)
        for host in entry.names("nodes"):
            add_node(nodes, host, (name,), entry.source, entry.line)
    if not nodes:
        fail(source, "places no node: no ring has Nodes")
    return Placement(("ring",), None, nodes, source)


def _tori(found: list[ConfLine], source: str) -> Placement:
    """Tori as scontrol shows them: their hosts, but not where each is; and a line for every shape of a job, without."""
    nodes: Nodes = {}
    for entry in found:
        for host in entry.names("nodes"):
            add_node(nodes, host, (entry.values["torusname"],), entry.source, entry.line)
    if not nodes:
        fail(source, "places no node: no torus has Nodes")
    return Placement(("torus",), None, nodes, source)
