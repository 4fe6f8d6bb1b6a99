"""Reading and writing machine files: one JSON document with links, capacities and latencies (machine.schema.json)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from topocomm.errors import TopologyError
from topocomm.model.machine import EAGER, LATENCY, OVERHEAD, RANK, Level, Machine
from topocomm.topology.documents import load_json, read_text

__all__ = ["FORMAT", "VERSION", "dumps_machine", "parse_machine", "read_machine"]

FORMAT = "topocomm-machine"
VERSION = 1
_KEYS = {"format", "version", "comment", "kind", "levels", "rank", "overhead", "eager", "dims"}
_LEVEL_KEYS = {"name", "up", "down", "latency", "links"}


def _need(ok: bool, source: str, what: str) -> None:
    if not ok:
        raise TopologyError(f"{source}: {what}")


def _number(doc: dict[str, Any], key: str, default: float, source: str) -> float:
    value = doc.get(key, default)
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    _need(ok, source, f"{key!r} must be a number, found {value!r}")
    return float(value)


def _level(doc: Any, source: str, name: str | None = None) -> Level:
    _need(isinstance(doc, dict), source, f"a level must be an object, found {type(doc).__name__}")
    allowed = _LEVEL_KEYS - ({"name"} if name else set())
    unknown = sorted(set(doc) - allowed)
    _need(not unknown, source, f"unknown keys {unknown} in a level; known are {', '.join(sorted(allowed))}")
    called = name or doc.get("name")
    _need(isinstance(called, str) and bool(called), source, f"a level's 'name' must be a string, found {called!r}")
    at = f"{source}: level {called!r}"
    _need("up" in doc, at, "'up' (bytes/s) is missing")
    links = doc.get("links", 1)
    _need(type(links) is int and 1 <= links <= 65536, at, f"'links' must be 1 to 65536, found {links!r}")
    up = _number(doc, "up", 0, at)
    level_source = up, _number(doc, "down", up, at), _number(doc, "latency", LATENCY, at)
    try:
        return Level(str(called), *level_source, links)
    except TopologyError as e:
        raise TopologyError(f"{source}: {e}") from None


def parse_machine(text: str, source: str = "machine") -> Machine:
    """Read a machine from JSON text; ``source`` is how errors call it. Raises TopologyError for anything malformed."""
    doc = load_json(text, source, "machine")
    _need(isinstance(doc, dict), source, f"the document must be an object, found {type(doc).__name__}")
    _need(doc.get("format") == FORMAT, source, f"'format' must be {FORMAT!r}, found {doc.get('format')!r}")
    version = doc.get("version")
    _need(type(version) is int and version == VERSION, source, f"'version' must be {VERSION}, found {version!r}")
    unknown = sorted(set(doc) - _KEYS)
    _need(not unknown, source, f"unknown keys {unknown}; known are {', '.join(sorted(_KEYS))}")
    kind, rows = doc.get("kind", "levels"), doc.get("levels")
    _need(isinstance(kind, str), source, f"'kind' must be a string, found {kind!r}")
    _need(isinstance(rows, list), source, f"'levels' must be a list of levels, outermost first, found {rows!r}")
    dims = doc.get("dims", [])
    _need(isinstance(dims, list), source, f"'dims' must be a list of extents, found {dims!r}")
    for extent in dims:
        _need(type(extent) is int and 1 <= extent <= 2**20, source, f"'dims' holds {extent!r}; needs whole numbers ≥ 1")
    rank = _level(doc["rank"], source, "rank") if "rank" in doc else RANK
    overhead, eager = _number(doc, "overhead", OVERHEAD, source), _number(doc, "eager", EAGER, source)
    try:
        return Machine(kind, tuple(_level(row, source) for row in rows), rank, overhead, tuple(dims), source, eager)
    except TopologyError as e:
        text = str(e)
        raise TopologyError(text if text.startswith(source) else f"{source}: {text}") from None


def read_machine(path: str | Path) -> Machine:
    """Read a machine file. Raises TopologyError if it can't be read or is malformed."""
    return parse_machine(read_text(path), str(path))


def dumps_machine(machine: Machine, comment: str | None = None) -> str:
    """The machine document of a machine; ``comment`` is for people."""
    doc: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    if comment:
        doc["comment"] = comment
    doc["kind"] = machine.kind
    doc["levels"] = [vars(level) for level in machine.levels]
    doc["rank"] = {key: value for key, value in vars(machine.rank).items() if key != "name"}
    doc["overhead"] = machine.overhead
    doc["eager"] = machine.eager
    if machine.dims:
        doc["dims"] = list(machine.dims)
    return json.dumps(doc, indent=1) + "\n"
