"""What all readers share: the file as text, its lines with their numbers, and errors that say where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from topocomm.errors import TopologyError
from topocomm.topology.documents import read_text

__all__ = ["MAX_NODES", "add_node", "fail", "lines", "read_text"]

MAX_NODES = 1_000_000
"""More nodes than any machine has: a range beyond it is a mistake, not a machine."""

Nodes = dict[str, tuple[str, ...]]


def fail(source: str, reason: str, line: int | None = None) -> NoReturn:
    """Raise TopologyError that names the file, the line and the reason."""
    raise TopologyError(f"{source}: {reason}" if line is None else f"{source}: line {line}: {reason}")


def lines(text: str, comment: str = "#") -> Iterator[tuple[int, str]]:
    """Number and content of every line, without comments and surrounding blanks; empty ones left out."""
    for number, line in enumerate(text.split("\n"), 1):
        content = line.partition(comment)[0].strip()
        if content:
            yield number, content


def add_node(nodes: Nodes, host: str, row: tuple[str, ...], source: str, line: int | None = None) -> None:
    """Enter the places of ``host``. Raises TopologyError if it has others already, or if there are too many."""
    if nodes.setdefault(host, row) != row:
        fail(source, f"node {host!r} is placed twice: {'/'.join(nodes[host])} and {'/'.join(row)}", line)
    if len(nodes) > MAX_NODES:
        fail(source, f"more than {MAX_NODES} nodes", line)
