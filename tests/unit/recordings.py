"""Recorded nodes: what their environments and files say, as text, and the choice that is made of it.

[nid001000] 2                        a node, and how many ranks run on it (one)
SLURM_TOPOLOGY_ADDR=...              a variable of all its processes
/etc/cray/xname: x1000c0s0b0n0       a file of one line
[*]                                  what every node before it has besides
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from topocomm.topology.live.choosing import Choice, ask, choose
from topocomm.topology.live.sources import Host, named_sources

FOLDER = Path(__file__).parent / "recorded"


@dataclass
class Recorded:
    """A node of a recording."""

    name: str
    ranks: int
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def recorded(text: str) -> list[Recorded]:
    """Read a recording."""
    nodes: list[Recorded] = []
    now: list[Recorded] = []
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\S+)\]\s*(\d*)", line):
            if match[1] != "*":
                nodes.append(Recorded(match[1], int(match[2] or 1)))
            now = nodes if match[1] == "*" else nodes[-1:]
        elif line.startswith("/"):
            path, _, content = line.partition(": ")
            for node in now:
                node.files[path] = content + "\n"
        elif line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            for node in now:
                node.environment[name] = value
    return nodes


def hosts_of(nodes: Sequence[Recorded], folder: Path) -> list[Host]:
    """Set up the nodes' files below ``folder``; a host a rank, in the order of the nodes."""
    hosts = []
    for number, node in enumerate(nodes):
        root = folder / str(number)
        root.mkdir(parents=True)
        for path, content in node.files.items():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (root / path[1:]).write_text(content)
        hosts += [Host(node.name, node.environment, root)] * node.ranks
    return hosts


def chosen(text: str, folder: Path, sources: str | None = None) -> Choice:
    """Choose as discovery does, every rank asked and rank 0 deciding."""
    return choice_of(hosts_of(recorded(text), folder), sources)


def choice_of(hosts: Sequence[Host], sources: str | None = None) -> Choice:
    """Choose for ranks on these hosts; ranks beside each other with one name are on one node."""
    who = []
    for name, ranks in itertools.groupby(range(len(hosts)), key=lambda rank: hosts[rank].name):
        first, *others = ranks
        who += [(name, first)] * (1 + len(others))
    names = named_sources(sources)
    answers = [ask(host, names, first == rank) for rank, (host, (_, first)) in enumerate(zip(hosts, who, strict=True))]
    return choose(names, who, answers, hosts[0])


def places(choice: Choice) -> list[str]:
    """The row of every node, as text."""
    return [] if choice.placed is None else ["/".join(row) for row in choice.placed.rows]
