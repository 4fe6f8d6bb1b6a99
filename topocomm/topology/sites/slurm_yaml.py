"""Slurm's ``topology.yaml`` (Slurm 25.05 and later): several named topologies, each a tree, blocks, rings or tori.

    - topology: fabric
      cluster_default: true
      tree:
        switches:
          - {switch: top, children: "s[0-1]"}
          - {switch: s0, nodes: "tux[0-3]"}
          - {switch: s1, nodes: "tux[4-7]"}

A name chooses one; else the first with ``cluster_default: true`` is taken, else the first. Levels are those of
``topology.conf``; see :mod:`topocomm.topology.sites.slurm_topology`, and for tori
:mod:`topocomm.topology.sites.slurm_torus`. Needs PyYAML. Source: topology.yaml(5), slurm.schedmd.com.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.slurm_conf import ConfLine
from topocomm.topology.sites.slurm_topology import parse_entries
from topocomm.topology.sites.slurm_torus import Region, Torus, tori
from topocomm.topology.sites.text import fail

__all__ = ["looks", "parse"]

_FIRST = re.compile(r"(?m)^[ \t]*-[ \t]*topology[ \t]*:")
_LISTS = {
    "tree": ("switches", {"switch": "switchname", "children": "switches", "nodes": "nodes"}),
    "block": ("blocks", {"block": "blockname", "nodes": "nodes"}),
    "ring": ("rings", {"ring": "ringname", "nodes": "nodes"}),
}
"""By kind of topology: the key of its list, and what the keys of an item are called in topology.conf."""
_KINDS = (*_LISTS, "flat", "torus3d")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def looks(text: str) -> str | None:
    """Tell why this cannot be a topology.yaml; None if it may be one."""
    return None if _FIRST.search(text) else "no line begins with '- topology:'"


def parse(text: str, source: str = "topology.yaml", name: str | None = None) -> Placement:
    """Read the placement by node of the topology called ``name``, or of the cluster's default.

    Raises TopologyError, naming the line, for anything malformed, for an unknown name, and where PyYAML is missing.
    """
    topologies: dict[str, dict[str, Any]] = {}
    for node in _sequence(_document(text, source), source):
        topology = _mapping(node, source)
        if "topology" not in topology:
            fail(source, "a topology without 'topology', its name", _line(node))
        if topologies.setdefault(_scalar(topology["topology"], source), topology) is not topology:
            fail(source, f"topology {_scalar(topology['topology'], source)!r} is defined twice", _line(node))
    if name is not None and name not in topologies:
        fail(source, f"has no topology {name!r}; it has {', '.join(map(repr, topologies)) or 'none'}")
    default = [found for found, topology in topologies.items() if _is_default(topology, source)]
    chosen = name or next(iter((*default, *topologies)), None)
    if chosen is None:
        fail(source, "defines no topology")
    return _chosen(topologies[chosen], chosen, source)


def _is_default(topology: dict[str, Any], source: str) -> bool:
    node = topology.get("cluster_default")
    value = "false" if node is None else _scalar(node, source)
    if value.lower() not in _BOOLEANS:
        fail(source, f"cluster_default is {value!r}, not true or false", None if node is None else _line(node))
    return _BOOLEANS[value.lower()]


def _is_no(node: Any) -> bool:
    return node.id == "scalar" and not _BOOLEANS.get(str(node.value).lower(), True)


def _chosen(topology: dict[str, Any], name: str, source: str) -> Placement:
    kinds = [kind for kind in _KINDS if kind in topology and not (kind == "flat" and _is_no(topology[kind]))]
    if len(kinds) != 1:
        fail(source, f"topology {name!r} needs one of {', '.join(_KINDS)}, found {' and '.join(kinds) or 'none'}")
    if kinds[0] == "torus3d":
        return tori(_toruses(topology["torus3d"], source), source)
    if kinds[0] not in _LISTS:
        fail(source, f"topology {name!r} is {kinds[0]}: it places no node at any level; choose another by its name")
    return parse_entries(_lines(kinds[0], topology[kinds[0]], source), source)


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


def _lines(kind: str, node: Any, source: str) -> list[ConfLine]:
    """Read a topology as lines of a topology.conf."""
    keys = _mapping(node, source)
    listed, names = _LISTS[kind]
    if listed not in keys:
        fail(source, f"a {kind} topology needs {listed!r}", _line(node))
    entries = _entries(keys[listed], names, source)
    if kind == "block" and "block_sizes" in keys:
        sizes = [_scalar(size, source) for size in _sequence(keys["block_sizes"], source)]
        entries.append(ConfLine(source, _line(keys["block_sizes"]), {"blocksizes": ",".join(sizes)}))
    return entries


def _entries(node: Any, names: dict[str, str], source: str) -> list[ConfLine]:
    """Read one entry an item of a list, its keys called as in topology.conf."""
    entries = []
    for item in _sequence(node, source):
        keys = _mapping(item, source)
        unknown = sorted(keys.keys() - names.keys())
        if unknown:
            fail(source, f"unknown key {unknown[0]!r}; known are {', '.join(names)}", _line(item))
        first = next(iter(names))
        if first not in keys:
            fail(source, f"an item without {first!r}, its name", _line(item))
        values = {names[key]: _text(value, source) for key, value in keys.items()}
        entries.append(ConfLine(source, _line(item), values))
    return entries


def _toruses(node: Any, source: str) -> list[Torus]:
    """Read the list of tori; how jobs may lie in them (``placements``) is read over."""
    keys = _mapping(node, source)
    if "toruses" not in keys:
        fail(source, "a torus3d topology needs 'toruses'", _line(node))
    return [_torus(item, source) for item in _sequence(keys["toruses"], source)]


def _torus(node: Any, source: str) -> Torus:
    keys = _mapping(node, source)
    if not {"name", "dims"} <= keys.keys() or ("nodes" in keys) == ("regions" in keys):
        fail(source, "a torus needs name, dims, and either nodes or regions", _line(node))
    dims = _triple(keys["dims"], source)
    if "regions" in keys:
        regions = [_region(item, source) for item in _sequence(keys["regions"], source)]
    else:
        regions = [Region((0, 0, 0), dims, _hosts(keys["nodes"], source), _line(keys["nodes"]))]
    return Torus(_scalar(keys["name"], source), dims, regions, _line(node))


def _region(node: Any, source: str) -> Region:
    keys = _mapping(node, source)
    if keys.keys() != {"anchor", "dims", "nodes"}:
        fail(source, "a region needs anchor, dims and nodes", _line(node))
    hosts = _hosts(keys["nodes"], source)
    return Region(_triple(keys["anchor"], source), _triple(keys["dims"], source), hosts, _line(node))


def _triple(node: Any, source: str) -> tuple[int, int, int]:
    keys = _mapping(node, source)
    values = [_scalar(keys[axis], source) for axis in "xyz" if axis in keys]
    if len(keys) != 3 or len(values) != 3 or not all(re.fullmatch(r"[0-9]{1,5}", value) for value in values):
        fail(source, "needs x, y and z, whole numbers of at most five digits", _line(node))
    x, y, z = map(int, values)
    return x, y, z


def _hosts(node: Any, source: str) -> list[str]:
    try:
        return hostlist.expand_slurm(_text(node, source))
    except TopologyError as e:
        fail(source, str(e), _line(node))


def _text(node: Any, source: str) -> str:
    """A word or a number, or nothing: ``nodes:`` places none."""
    if node.id != "scalar":
        fail(source, "needs a word or a number here", _line(node))
    return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value).strip()
