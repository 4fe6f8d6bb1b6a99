"""Common ground of the sources: a host that is asked, nodes with their answers, and the places made of them. No MPI."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from topocomm.errors import TopologyError

__all__ = ["MOST", "Host", "Node", "Placed", "Source", "all_answered", "as_label", "only_one_has", "quoted"]

MOST = 4096
"""Characters that a node may answer, and bytes that are read of a file on every node."""
_MOST_LABEL = 200
K = TypeVar("K")
_WITHIN = ("node", "socket", "numa", "cache", "core")
"""Levels that every topology has of its own."""


@dataclass(frozen=True)
class Host:
    """A host as one process sees it: its name, its environment, and its files below ``root``."""

    name: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = Path("/")

    def text(self, path: str, most: int = MOST) -> str | None:
        """Read a regular file, stripped; None if there is none, or none that can be read.

        Raises TopologyError for a file of more than ``most`` bytes, and for one that is not text.
        """
        file = self.root / path.lstrip("/")
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
                return None
            with file.open("rb") as stream:
                data = stream.read(most + 1)
        except (OSError, ValueError):
            return None
        if len(data) > most:
            raise TopologyError(f"{file} has more than {most} bytes")
        try:
            return data.decode("utf-8-sig").strip()
        except UnicodeDecodeError as e:
            raise TopologyError(f"{file} is not UTF-8 text: byte {e.start}") from None

    def names(self, folder: str) -> list[str]:
        """List what a folder holds, sorted; nothing if there is none."""
        try:
            return sorted(os.listdir(self.root / folder.lstrip("/")))
        except OSError:
            return []


class Node(NamedTuple):
    """A node of the job: its name, the lowest rank on it, and its answer; empty if it has none."""

    name: str
    rank: int
    answer: str

    def __str__(self) -> str:
        return f"node {quoted(self.name)} (rank {self.rank})"


@dataclass(frozen=True)
class Placed:
    """The places of all nodes: names of levels, outermost first, and a row of labels a node, in the nodes' order.

    Raises TopologyError for names of levels that repeat, or that are those of levels within a node.
    """

    levels: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: str
    """What said it, for people: a variable, a file."""

    def __post_init__(self) -> None:
        odd = [level for level in self.levels if level in _WITHIN or self.levels.count(level) > 1]
        if odd:
            raise TopologyError(f"calls a level {odd[0]!r}, which another is called already")


@dataclass(frozen=True)
class Source:
    """One way to learn where nodes sit.

    ``ask(host)`` is called on the host itself: by one process a node, or by all if ``by_process``, as for what stands
    in the environment. It gives a short answer, empty if there is none, and raises TopologyError for what it refuses.
    ``place(nodes, host)`` is called on rank 0, which runs on ``host``, with the answers of all nodes. It raises
    TopologyError, with the reason, if it cannot place all of them.
    """

    summary: str
    ask: Callable[[Host], str]
    place: Callable[[Sequence[Node], Host], Placed]
    by_process: bool = False
    unasked: bool = True
    """Whether it is tried where nobody names it."""


def quoted(text: str) -> str:
    """Quote a text for a message, in ASCII and cut to 60 characters."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def as_label(text: str) -> str:
    """Return ``text`` if it can be the label of a place: 1 to 200 printable characters. Raises TopologyError."""
    if not 0 < len(text) <= _MOST_LABEL or not text.isprintable():
        raise TopologyError(f"{quoted(text)} is no name of a place: needs 1 to {_MOST_LABEL} printable characters")
    return text


def all_answered(nodes: Sequence[Node], missing: str) -> None:
    """Raise TopologyError unless all nodes have an answer; ``missing`` says, of one, what it has not."""
    silent = [node for node in nodes if not node.answer]
    if len(silent) == len(nodes):
        raise TopologyError(f"{missing} on any node")
    if silent:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        raise TopologyError(f"{missing} on {silent[0]}{more} of {len(nodes)} nodes")


def only_one_has(owner: dict[K, Node], key: K, node: Node, words: str) -> None:
    """Note that ``node`` has ``key``, which ``words`` names. Raises TopologyError if another node has it already.

    Nodes of one name may: a launcher that starts twice on a host makes two of it.
    """
    if owner.setdefault(key, node).name != node.name:
        raise TopologyError(f"{owner[key]} and {node} both have {words}")
