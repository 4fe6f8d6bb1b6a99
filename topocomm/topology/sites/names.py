"""Host names that say where a node sits: Cray xnames, and patterns of one's own.

An xname such as ``x1000c0s7b1n0`` is cabinet 1000, chassis 0, slot 7, board (node controller) 1, node 0. The text holds
xnames as words or host lists, or a host and its xname a line (``nid000001 x1000c0s0b0n0``). Source: "Component Names
(xnames)" in the documentation of HPE Cray System Management, cray-hpe.github.io/docs-csm.

A pattern is a regular expression with named groups, one a level from the outside in: ``r(?P<rack>\\d+)n\\d+``. It must
match the whole of every host name.
"""

from __future__ import annotations

import re

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.text import Nodes, add_node, fail, lines

__all__ = ["looks", "parse_pattern", "parse_xnames", "place_by_pattern"]

XNAME = re.compile(r"(x[0-9]{1,9})(c[0-9]{1,9})(s[0-9]{1,9})(b[0-9]{1,9})n[0-9]{1,9}")
LEVELS = ("cabinet", "chassis", "slot", "board")


def looks(text: str) -> str | None:
    """Why these cannot be xnames; None if they may be."""
    first = next((content.split()[-1] for _, content in lines(text)), "")
    why = "its first line does not end in an xname such as x1000c0s0b0n0"
    return None if re.match(r"x[0-9\[]", first) and re.search(r"b[0-9\[].*n[0-9\[]", first) else why


def _words(text: str, source: str) -> list[tuple[int, list[str]]]:
    out = []
    for number, content in lines(text):
        try:
            out.append((number, [host for word in content.split() for host in hostlist.expand(word)]))
        except TopologyError as e:
            fail(source, str(e), number)
    return out


def parse_xnames(text: str, source: str = "xnames") -> Placement:
    """The placement by node. Raises TopologyError, naming the line, for a word that is no xname."""
    nodes: Nodes = {}
    for number, words in _words(text, source):
        pair = len(words) == 2 and not XNAME.fullmatch(words[0])
        for xname in words[1:] if pair else words:
            match = XNAME.fullmatch(xname)
            if match is None:
                fail(source, f"{xname!r} is not an xname of a node, such as x1000c0s0b0n0", number)
            add_node(nodes, words[0] if pair else xname, match.groups(), source, number)
    if not nodes:
        fail(source, "holds no xname")
    return Placement(LEVELS, None, nodes, source)


def _compiled(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as e:
        raise TopologyError(f"pattern {pattern!r}: not a regular expression: {e}") from None
    levels = tuple(name for name in compiled.groupindex if name != "node")
    if not levels:
        raise TopologyError(f"pattern {pattern!r}: has no named group such as (?P<rack>[0-9]+) to be a level")
    return compiled, levels


def place_by_pattern(hosts: list[str], pattern: str, source: str = "hosts") -> Placement:
    """The placement of ``hosts`` by the named groups of ``pattern``. Raises TopologyError if one does not match."""
    compiled, levels = _compiled(pattern)
    nodes: Nodes = {}
    for host in hosts:
        match = compiled.fullmatch(host)
        row = tuple(match[level] for level in levels) if match else ()
        if not row or not all(row):
            fail(source, f"host {host!r} does not match the pattern {pattern!r} with all of its levels")
        add_node(nodes, host, row, source)
    if not nodes:
        fail(source, "names no host")
    return Placement(levels, None, nodes, source)


def parse_pattern(text: str, pattern: str, source: str = "hosts") -> Placement:
    """The placement of the hosts in ``text``, words or host lists, by the named groups of ``pattern``."""
    return place_by_pattern([host for _, words in _words(text, source) for host in words], pattern, source)
