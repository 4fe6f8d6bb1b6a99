"""Reading and writing placement files: one JSON document that says where ranks or nodes sit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from topocomm.errors import TopologyError
from topocomm.topology.documents import load_json, read_text
from topocomm.topology.topology import Topology

__all__ = [
    "FORMAT",
    "VERSION",
    "Placement",
    "dumps_nodes",
    "dumps_placement",
    "parse_placement",
    "read_placement",
]

FORMAT = "topocomm-placement"
VERSION = 1


@dataclass(frozen=True)
class Placement:
    """What a placement file says: a row of places for every rank, or for every node name (then ``ranks`` is None).

    The by-node form serves every job on a machine; its levels lie outside the node, which is added as innermost. A node
    may be called by its full name in the file and by its short one in the job, or the reverse.
    """

    levels: tuple[str, ...]
    ranks: tuple[tuple[str, ...], ...] | None
    nodes: dict[str, tuple[str, ...]] | None
    source: str

    def topology(self, hosts: Sequence[str]) -> Topology:
        """The topology of a communicator whose rank i runs on node ``hosts[i]``.

        Raises TopologyError if the file has another number of ranks, or lacks one of the nodes, or has several that
        may be it.
        """
        if self.ranks is not None:
            if len(self.ranks) != len(hosts):
                raise TopologyError(
                    f"{self.source} places {len(self.ranks)} ranks, but the communicator has {len(hosts)}; "
                    "give one row a rank, or use the by-node form, which fits every job"
                )
            return Topology(self.levels, self.ranks)
        rows = []
        for rank, host in enumerate(hosts):
            node, row = self.place_of(host, rank)
            rows.append((*row, node))
        return Topology((*self.levels, "node"), rows)

    def place_of(self, host: str, rank: int) -> tuple[str, tuple[str, ...]]:
        """Find a node, on which ``rank`` runs, and its places, under the name that it has, or one of which either is
        the other's beginning.

        Raises TopologyError if a by-node placement lacks it, has several that may be it, or places ranks.
        """
        for name in (host, *_shorter(host)):
            if self.nodes is not None and name in self.nodes:
                return name, self.nodes[name]
        longer = self._longer.get(host, [])
        if len(longer) > 1:
            raise TopologyError(
                f"{self.source} places {' and '.join(map(repr, longer[:2]))}, either of which may be node {host!r}, on "
                f"which rank {rank} runs; add {host!r} under 'nodes'"
            )
        if not longer:
            raise TopologyError(
                f"{self.source} does not place node {host!r}, on which rank {rank} runs; add it under 'nodes'"
            )
        return longer[0], (self.nodes or {})[longer[0]]

    @cached_property
    def _longer(self) -> dict[str, list[str]]:
        """The full names of nodes, by every shorter form that is not the name of a node itself."""
        found: dict[str, list[str]] = {}
        for name in self.nodes or ():
            for short in _shorter(name):
                found.setdefault(short, []).append(name)
        return found


def _shorter(host: str) -> list[str]:
    """The beginnings of a host name at its dots, the longest first; none of an address."""
    parts = host.split(".")
    if all(part.isdecimal() for part in parts):
        return []
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def _need(ok: bool, source: str, what: str) -> None:
    if not ok:
        raise TopologyError(f"{source}: {what}")


def _row(value: Any, width: int, source: str, key: str) -> tuple[str, ...]:
    _need(isinstance(value, list), source, f"{key} must be a list of places, found {type(value).__name__}")
    _need(len(value) == width, source, f"{key} has {len(value)} places, needs {width}, one for each level")
    for place in value:
        ok = place != "" and "\x00" not in place if isinstance(place, str) else _is_whole(place)
        _need(ok, source, f"{key} holds {place!r}; a place is a non-empty string (no NUL) or a whole number")
    return tuple(place if isinstance(place, str) else str(int(place)) for place in value)


def _is_whole(value: Any) -> bool:
    """Whether JSON's number is whole: 2.0 is, as in JSON Schema."""
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def _levels(value: Any, source: str) -> tuple[str, ...]:
    _need(isinstance(value, list), source, f"'levels' must be a list of names, outermost first, found {value!r}")
    for name in value:
        _need(isinstance(name, str) and bool(name), source, f"'levels' holds {name!r}; a level is a non-empty string")
    _need(len(set(value)) == len(value), source, f"'levels' names a level twice: {value}")
    return tuple(value)


def parse_placement(text: str, source: str = "placement") -> Placement:
    """Read a placement from JSON text; ``source`` is how errors call it.

    Raises TopologyError, naming line or key and the reason, for anything that is not a valid placement.
    """
    doc = load_json(text, source, "placement")
    _need(isinstance(doc, dict), source, f"the document must be an object, found {type(doc).__name__}")
    _need(doc.get("format") == FORMAT, source, f"'format' must be {FORMAT!r}, found {doc.get('format')!r}")
    version = doc.get("version")
    _need(_is_whole(version) and version == VERSION, source, f"'version' must be {VERSION}, found {version!r}")
    unknown = sorted(set(doc) - {"format", "version", "levels", "ranks", "nodes", "comment"})
    _need(not unknown, source, f"unknown keys {unknown}; known are levels, ranks, nodes, comment")
    _need("levels" in doc, source, "'levels' is missing")
    levels = _levels(doc["levels"], source)
    _need(("ranks" in doc) != ("nodes" in doc), source, "exactly one of 'ranks' and 'nodes' must be given")
    if "ranks" in doc:
        rows = doc["ranks"]
        _need(isinstance(rows, list) and len(rows) > 0, source, "'ranks' must be a non-empty list of rows")
        ranks = tuple(_row(row, len(levels), source, f"'ranks'[{i}]") for i, row in enumerate(rows))
        return Placement(levels, ranks, None, source)
    table = doc["nodes"]
    _need(isinstance(table, dict) and len(table) > 0, source, "'nodes' must be a non-empty object: host name → places")
    _need("node" not in levels, source, "in the by-node form 'levels' must leave out 'node': each host name is one")
    nodes = {host: _row(row, len(levels), source, f"'nodes'[{host!r}]") for host, row in table.items()}
    return Placement(levels, None, nodes, source)


def read_placement(path: str | os.PathLike[str]) -> Placement:
    """Read a placement file. Raises TopologyError if it can't be read or is malformed."""
    return parse_placement(read_text(path), str(path))


def dumps_placement(topology: Topology, comment: str | None = None) -> str:
    """The placement document (by rank) of a topology, one row a line; ``comment`` is for people."""
    rows = [_json([str(label) for label in row]) for row in topology.labels]
    return _head(topology.levels, comment) + ' "ranks": [\n  ' + ",\n  ".join(rows) + "\n]}\n"


def dumps_nodes(placement: Placement, comment: str | None = None) -> str:
    """The placement document of a placement by node, one host a line; ``comment`` is for people.

    Raises TopologyError for a placement by rank.
    """
    if placement.nodes is None:
        raise TopologyError(f"{placement.source} places ranks, not nodes")
    rows = [f"{_json(host)}: {_json(list(row))}" for host, row in placement.nodes.items()]
    return _head(placement.levels, comment) + ' "nodes": {\n  ' + ",\n  ".join(rows) + "\n}}\n"


def _head(levels: Sequence[str], comment: str | None) -> str:
    """The document's beginning up to the levels."""
    remark = f' "comment": {_json(comment)},\n' if comment else ""
    return f'{{"format": "{FORMAT}", "version": {VERSION}, "levels": {_json(list(levels))},\n{remark}'


def _json(value: str | list[str]) -> str:
    import json

    return json.dumps(value)
