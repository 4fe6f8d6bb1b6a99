"""The place of nodes as Slurm knows it: told to each task, or in the files of the running configuration.

``SLURM_TOPOLOGY_ADDR`` and ``SLURM_TOPOLOGY_ADDR_PATTERN`` come first (:mod:`topocomm.topology.sites.slurm_addr`). An
environment that a launcher has handed on from one node to all says the same of several nodes, and is refused. Then rank
0 alone reads ``topology.yaml``, or ``topology.conf`` where there is none, in the folder of ``SLURM_CONF``, in
``/run/slurm/conf`` and in ``/etc/slurm``; the first file that places all nodes counts. Nodes are looked up by the names
that Slurm gives them (``SLURMD_NODENAME``), then by their own.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, as_label, only_one_has, quoted

if TYPE_CHECKING:
    from topocomm.topology.files import Placement

__all__ = ["SLURM"]

_ADDR, _PATTERN, _NAME = "SLURM_TOPOLOGY_ADDR", "SLURM_TOPOLOGY_ADDR_PATTERN", "SLURMD_NODENAME"
_VARIABLES = (_ADDR, _PATTERN, _NAME)
_FOLDERS = ("/run/slurm/conf", "/etc/slurm")
_MOST_BYTES = 64 << 20


def _ask(host: Host) -> str:
    """List the variables, one a line; an unset one is empty."""
    values = [host.environment.get(name, "").strip() for name in _VARIABLES]
    for name, value in zip(_VARIABLES, values, strict=True):
        if not value.isprintable():
            raise TopologyError(f"{name} is {quoted(value)}, which is not printable")
    return "\n".join(values) if any(values) else ""


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    try:
        return _by_environment(nodes)
    except TopologyError as e:
        why = [str(e)]
    found = False
    for path in _files(host):
        found = True
        try:
            return _by_file(path, nodes, host)
        except TopologyError as e:
            why.append(str(e))
    raise TopologyError("; ".join(why if found else [*why, "no topology.conf or topology.yaml"]))


def _by_environment(nodes: Sequence[Node]) -> Placed:
    answers = [(node.answer or "\n\n").split("\n") for node in nodes]
    set_on = [Node(node.name, node.rank, answer[0]) for node, answer in zip(nodes, answers, strict=True)]
    all_answered(set_on, f"{_ADDR} is not set")
    owner: dict[str, Node] = {}
    for node in set_on:
        only_one_has(owner, node.answer, node, f"{_ADDR}={quoted(node.answer)}, which a launcher may have handed on")
    from topocomm.topology.sites import slurm_addr  # many files, which few jobs need

    lines = dict.fromkeys(tuple(answer) for answer in answers)
    text = "\n".join(f"{name}={v}" for line in lines for name, v in zip(_VARIABLES, line, strict=True) if v)
    placement = slurm_addr.parse(text, _ADDR)
    if not placement.levels:
        raise TopologyError(f"{_ADDR} names no level above the nodes")
    rows = dict(zip(owner, (placement.nodes or {}).values(), strict=False))
    if len(rows) != len(owner):
        raise TopologyError(f"{_ADDR} gives {len(owner)} nodes {len(rows)} names")
    return Placed(placement.levels, [rows[node.answer] for node in set_on], _ADDR)


def _files(host: Host) -> Iterator[str]:
    """Find the files of the running configuration; as for Slurm, a topology.yaml hides a topology.conf beside it."""
    conf = host.environment.get("SLURM_CONF", "")
    folders = [posixpath.dirname(conf)] if conf.startswith("/") else []
    for folder in dict.fromkeys([*folders, *_FOLDERS]):
        there = host.names(folder)
        name = next((name for name in ("topology.yaml", "topology.conf") if name in there), None)
        if name is not None:
            yield f"{folder}/{name}"


def _by_file(path: str, nodes: Sequence[Node], host: Host) -> Placed:
    from topocomm.topology.sites import slurm_topology, slurm_yaml

    text = host.text(path, _MOST_BYTES)
    if text is None:
        raise TopologyError(f"{path} cannot be read")
    if path.endswith(".yaml"):
        placement = slurm_yaml.parse(text, path)
    else:
        placement = slurm_topology.parse(text, path, host.root / posixpath.dirname(path).lstrip("/"))
    return Placed(placement.levels, _rows(placement, nodes), path)


def _rows(placement: Placement, nodes: Sequence[Node]) -> list[tuple[str, ...]]:
    """The rows of all nodes. Raises TopologyError, naming the first that the file does not place."""
    own = [node.answer.rpartition("\n")[2] for node in nodes]
    times = Counter(own)
    rows: list[tuple[str, ...]] = []
    unknown: list[Node] = []
    for node, name in zip(nodes, own, strict=True):
        row = _row(placement, node, [name] if name and times[name] == 1 else [])
        if row is None:
            unknown.append(node)
        else:
            rows.append(row)
    if unknown:
        raise TopologyError(f"{placement.source} does not place {unknown[0]}; it knows {len(rows)} of {len(nodes)}")
    return rows


def _row(placement: Placement, node: Node, names: list[str]) -> tuple[str, ...] | None:
    for name in (*names, node.name):
        try:
            row = placement.place_of(name, node.rank)[1]
        except TopologyError:
            continue
        return tuple(as_label(label) for label in row)
    return None


SLURM = Source(f"Slurm: {_ADDR}, or topology.yaml or topology.conf", _ask, _place, by_process=True)
