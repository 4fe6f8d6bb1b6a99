"""Tables of a machine's nodes and of its jobs, tab-separated, with a heading that names the columns.

    # node  group  rack  switch        # first_node  last_node  group       # job     nodes  node_ids
    1       1      1     10100         1000          1255       1000        14697375  8      3545,3696-3702

The first places single nodes, at as many levels as it has further columns, outermost first; the second ranges of
nodes; the third lists jobs. Nodes are numbers; a host format such as ``nid{:06d}`` makes host names of them. These
are the forms of the placements of Leonardo and LUMI in bench/placements (from HLC-Lab/pico).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.text import MAX_NODES, Nodes, add_node, fail

__all__ = ["Job", "looks_like_nodes", "looks_like_ranges", "parse_jobs", "parse_nodes", "parse_ranges"]

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Job:
    """A job and the numbers of its nodes, in the order of the list."""

    name: str
    nodes: tuple[int, ...]


def _heading(text: str) -> list[str]:
    return text.split("\n", 1)[0].lstrip("# ").rstrip().split("\t")


def looks_like_nodes(text: str) -> str | None:
    """Why this cannot be a table of nodes; None if it may be one."""
    head = _heading(text)
    return None if head[0] == "node" and len(head) > 1 else "its heading is not 'node', tab and names of levels"


def looks_like_ranges(text: str) -> str | None:
    """Why this cannot be a table of ranges; None if it may be one."""
    head = _heading(text)
    good = head[:2] == ["first_node", "last_node"] and len(head) > 2
    return None if good else "its heading is not 'first_node', 'last_node' and names of levels"


def _rows(text: str, width: int, source: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n")[1:], 2):
        if line.strip() and not line.startswith("#"):
            row = [cell.strip() for cell in line.split("\t")]
            if len(row) != width or not all(row):
                fail(source, f"has {len(row)} columns, the heading {width}; none may be empty", number)
            yield number, row


def _number(cell: str, source: str, line: int) -> int:
    if not _NUMBER.fullmatch(cell):
        fail(source, f"{cell!r} is not the number of a node", line)
    return int(cell)


def _levels(names: list[str], source: str) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(names) or "node" in names:
        fail(source, f"the heading must name each level once, and none 'node': {names}", 1)
    return tuple(names)


def _host(form: str, node: int) -> str:
    try:
        host = form.format(node)
    except (ValueError, IndexError, KeyError, AttributeError, TypeError, OverflowError, MemoryError) as e:
        raise TopologyError(f"host format {form!r}: {e}; write it like 'nid{{:06d}}'") from None
    if not host or len(host) > 255 or host == form:
        raise TopologyError(f"host format {form!r} does not make host names; write it like 'nid{{:06d}}'")
    return host


def parse_nodes(text: str, source: str = "nodes", host: str = "{}") -> Placement:
    """The placement by node of a table of nodes; ``host`` makes names of their numbers."""
    if (why := looks_like_nodes(text)) is not None:
        fail(source, why, 1)
    levels = _levels(_heading(text)[1:], source)
    nodes: Nodes = {}
    for line, (node, *row) in _rows(text, len(levels) + 1, source):
        add_node(nodes, _host(host, _number(node, source, line)), tuple(row), source, line)
    return _by_node(levels, nodes, source)


def parse_ranges(text: str, source: str = "ranges", host: str = "{}") -> Placement:
    """The placement by node of a table of ranges; ``host`` makes names of their numbers."""
    if (why := looks_like_ranges(text)) is not None:
        fail(source, why, 1)
    levels = _levels(_heading(text)[2:], source)
    nodes: Nodes = {}
    for line, (low, high, *row) in _rows(text, len(levels) + 2, source):
        first, last = _number(low, source, line), _number(high, source, line)
        if last < first:
            fail(source, f"the range {first} to {last} runs backwards", line)
        if last - first >= MAX_NODES:
            fail(source, f"the range {first} to {last} holds more than {MAX_NODES} nodes", line)
        for node in range(first, last + 1):
            add_node(nodes, _host(host, node), tuple(row), source, line)
    return _by_node(levels, nodes, source)


def _by_node(levels: tuple[str, ...], nodes: Nodes, source: str) -> Placement:
    if not nodes:
        fail(source, "places no node")
    return Placement(levels, None, nodes, source)


def parse_jobs(text: str, source: str = "jobs") -> list[Job]:
    """The jobs of a list. Raises TopologyError, naming the line, if one is malformed or its count is wrong."""
    if _heading(text) != ["job", "nodes", "node_ids"]:
        fail(source, "its heading is not 'job', 'nodes', 'node_ids'", 1)
    jobs = []
    for line, (name, count, ids) in _rows(text, 3, source):
        try:
            nodes = tuple(int(n) for n in hostlist.expand(f"[{ids}]"))
        except TopologyError as e:
            fail(source, str(e), line)
        if _number(count, source, line) != len(nodes):
            fail(source, f"job {name} has {len(nodes)} nodes, not {count}", line)
        if len(set(nodes)) != len(nodes):
            fail(source, f"job {name} names a node twice", line)
        jobs.append(Job(name, nodes))
    return jobs
