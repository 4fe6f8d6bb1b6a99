"""The place of nodes as Slurm tells each task: ``SLURM_TOPOLOGY_ADDR`` and ``SLURM_TOPOLOGY_ADDR_PATTERN``.

    SLURM_TOPOLOGY_ADDR=root.cell1.leaf4.node386
    SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.switch.node

The address names the switches from the top down and then the node, parted by dots; the pattern says which is which.
The text holds the variables of all nodes of a job, as ``srun --ntasks-per-node=1 env | grep SLURM_TOPOLOGY`` prints
them; ``export``, quotes and the labels of ``srun --label`` may stand around them. Levels are called as in
:mod:`topocomm.topology.sites.slurm_topology`. Source: sbatch(1) and srun(1), OUTPUT ENVIRONMENT VARIABLES.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from topocomm.topology.files import Placement
from topocomm.topology.sites.text import Nodes, add_node, fail, lines

__all__ = ["looks", "parse", "parse_environment"]

_LINE = re.compile(r"(?:\d+:\s*)?(?:export\s+)?(SLURM_TOPOLOGY_ADDR(?:_PATTERN)?)=(.*)")


def looks(text: str) -> str | None:
    """Why these cannot be Slurm's variables; None if they may be."""
    return None if "SLURM_TOPOLOGY_ADDR=" in text else "it does not set SLURM_TOPOLOGY_ADDR"


def parse(text: str, source: str = "SLURM_TOPOLOGY_ADDR") -> Placement:
    """The placement by node. Other lines are read over. Raises TopologyError for anything that does not fit."""
    addresses: list[tuple[int, str]] = []
    pattern: str | None = None
    for number, line in lines(text, comment="\0"):
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        value = match[2].strip().strip("\"'")
        if match[1] == "SLURM_TOPOLOGY_ADDR":
            addresses.append((number, value))
        elif pattern in (None, value):
            pattern = value
        else:
            fail(source, f"the pattern {value!r} differs from {pattern!r} before it", number)
    if not addresses:
        fail(source, "SLURM_TOPOLOGY_ADDR is not set anywhere")
    if pattern is None:
        fail(source, "SLURM_TOPOLOGY_ADDR_PATTERN is not set anywhere")
    levels = _levels(pattern, source)
    nodes: Nodes = {}
    for number, address in addresses:
        parts = address.split(".", len(levels))
        if len(parts) != len(levels) + 1 or not all(parts):
            fail(source, f"address {address!r} does not have the {len(levels) + 1} parts of {pattern!r}", number)
        add_node(nodes, parts[-1], tuple(parts[:-1]), source, number)
    return Placement(levels, None, nodes, source)


def _levels(pattern: str, source: str) -> tuple[str, ...]:
    kinds = pattern.split(".")
    if kinds[-1] != "node" or "node" in kinds[:-1] or not all(kinds):
        fail(source, f"the pattern {pattern!r} must be levels parted by dots, and end with 'node'")
    levels: list[str] = []
    for i, kind in enumerate(kinds[:-1]):
        tier = kinds[i:-1].count(kind)
        levels.append(kind if tier == 1 else f"{kind}{tier}")
    if len(set(levels)) != len(levels):
        fail(source, f"the pattern {pattern!r} gives two levels the same name")
    return tuple(levels)


def parse_environment(environment: Mapping[str, str], source: str = "environment") -> Placement:
    """The place of this node, from its environment. Raises TopologyError if Slurm did not tell."""
    names = ("SLURM_TOPOLOGY_ADDR", "SLURM_TOPOLOGY_ADDR_PATTERN")
    return parse("\n".join(f"{name}={environment[name]}" for name in names if name in environment), source)
