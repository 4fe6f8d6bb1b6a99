"""Slurm's ``topology.yaml`` (Slurm 25.05 and later): several named topologies, each a tree of switches or blocks.

    - topology: fabric
      cluster_default: true
      tree:
        switches:
          - {switch: top, children: "s[0-1]"}
          - {switch: s0, nodes: "tux[0-3]"}
          - {switch: s1, nodes: "tux[4-7]"}

The first topology with ``cluster_default: true`` is taken, else the first. Levels are those of ``topology.conf``; see
:mod:`topocomm.topology.sites.slurm_topology`. Needs PyYAML. Source: topology.yaml(5), slurm.schedmd.com.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites.slurm_topology import Entries, parse_entries
from topocomm.topology.sites.text import fail

__all__ = ["looks", "parse"]

_FIRST = re.compile(r"(?m)^[ \t]*-[ \t]*topology[ \t]*:")
_TREE = {"switch": "switchname", "children": "switches", "nodes": "nodes"}
_BLOCK = {"block": "blockname", "nodes": "nodes"}


def looks(text: str) -> str | None:
    """Why this cannot be a topology.yaml; None if it may be one."""
    return None if _FIRST.search(text) else "no line begins with '- topology:'"


def parse(text: str, source: str = "topology.yaml") -> Placement:
    """The placement by node of the cluster's default topology.

    Raises TopologyError, naming the line, for anything malformed, and where PyYAML is missing.
    """
    topologies = [_mapping(node, source) for node in _sequence(_document(text, source), source)]
    for topology in topologies:
        if "topology" not in topology:
            fail(source, "a topology without 'topology', its name")
    default = [t for t in topologies if "cluster_default" in t and _scalar(t["cluster_default"], source) in _YES]
    chosen = (default or topologies or [{}])[0]
    if "tree" in chosen:
        return parse_entries(_tree(chosen["tree"], source), source)
    if "block" in chosen:
        return parse_entries(_block(chosen["block"], source), source)
    fail(source, "the cluster's default topology has neither tree nor block: it places no node")


_YES = ("true", "True", "TRUE")


def _document(text: str, source: str) -> Any:
    """The YAML nodes, which know their lines."""
    try:
        yaml = import_module("yaml")
    except ImportError:
        raise TopologyError(f"{source}: reading YAML needs PyYAML: pip install pyyaml") from None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        fail(source, f"not YAML: {getattr(error, 'problem', None) or error}", mark.line + 1 if mark else None)
    except (RecursionError, ValueError) as error:
        fail(source, f"not YAML: {type(error).__name__}")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _sequence(node: Any, source: str) -> list[Any]:
    if node is None or node.id != "sequence":
        fail(source, "needs a list here (lines that begin with '-')", None if node is None else _line(node))
    return list(node.value)


def _mapping(node: Any, source: str) -> dict[str, Any]:
    if node.id != "mapping":
        fail(source, "needs 'key: value' here", _line(node))
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = _scalar(key, source)
        if name in found:
            fail(source, f"{name} is given twice", _line(key))
        found[name] = value
    return found


def _scalar(node: Any, source: str) -> str:
    if node.id != "scalar" or not str(node.value).strip():
        fail(source, "needs a word or a number here", _line(node))
    return str(node.value)


def _entries(node: Any, names: dict[str, str], source: str) -> Entries:
    """One entry an item of a list, its keys called as in topology.conf."""
    entries = []
    for item in _sequence(node, source):
        keys = _mapping(item, source)
        unknown = sorted(keys.keys() - names.keys())
        if unknown:
            fail(source, f"unknown key {unknown[0]!r}; known are {', '.join(names)}", _line(item))
        entries.append((_line(item), {names[key]: _scalar(value, source) for key, value in keys.items()}))
    return entries


def _tree(node: Any, source: str) -> Entries:
    keys = _mapping(node, source)
    if "switches" not in keys:
        fail(source, "a tree needs 'switches'", _line(node))
    return _entries(keys["switches"], _TREE, source)


def _block(node: Any, source: str) -> Entries:
    keys = _mapping(node, source)
    if "blocks" not in keys:
        fail(source, "a block topology needs 'blocks'", _line(node))
    entries = _entries(keys["blocks"], _BLOCK, source)
    if "block_sizes" not in keys:
        return entries
    sizes = [_scalar(size, source) for size in _sequence(keys["block_sizes"], source)]
    return [*entries, (_line(keys["block_sizes"]), {"blocksizes": ",".join(sizes)})]
