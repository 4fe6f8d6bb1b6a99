"""Host names that say where a node sits: Cray xnames, and patterns of one's own.

An xname such as ``x1000c0s7b1n0`` is cabinet 1000, chassis 0, slot 7, board (node controller) 1, node 0. The text holds
xnames as words, host lists or a host file (:mod:`topocomm.topology.sites.hosts`); or a host and its xname a line, in
either order (``nid000001 x1000c0s0b0n0``, also two host lists of one length); or lines of ``/etc/hosts``, of which
those with an xname count: the host is the first other name. Source: "Component Names (xnames)" in the documentation of
HPE Cray System Management, cray-hpe.github.io/docs-csm.

A pattern is a regular expression with named groups, one a level from the outside in: ``r(?P<rack>\\d+)n\\d+``. It must
match the whole of every host name.
"""

from __future__ import annotations

import re

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist, hosts
from topocomm.topology.sites.text import Nodes, add_node, fail, lines

__all__ = ["looks", "parse_pattern", "parse_xnames", "place_by_pattern"]

XNAME = re.compile(r"(x[0-9]{1,9})(c[0-9]{1,9})(s[0-9]{1,9})(b[0-9]{1,9})n[0-9]{1,9}")
_COMPONENT = re.compile(r"x[0-9]+c[0-9]")
_SOMEWHERE = re.compile(r"x[0-9\[].*b[0-9\[].*n[0-9\[].*")
LEVELS = ("cabinet", "chassis", "slot", "board")


def looks(text: str) -> str | None:
    """Tell why these cannot be xnames; None if they may be."""
    words = next((content.split() for _, content in lines(text)), [""])
    if hosts.is_address(words[0]) and len(words) > 1 and not _SOMEWHERE.search(words[-1]):
        words = text.split()
    return None if any(map(_SOMEWHERE.fullmatch, words)) else "its first line has no xname such as x1000c0s0b0n0"


def parse_xnames(text: str, source: str = "xnames") -> Placement:
    """Read the placement by node. Raises TopologyError, naming the line, for a word that is no xname."""
    nodes: Nodes = {}
    host_at: dict[str, str] = {}
    for number, content in lines(text):
        words = content.split()
        try:
            address = hosts.is_address(words[0]) and len(words) > 1
            pairs = _known_as(words[1:]) if address else _pairs(content, words)
        except TopologyError as e:
            fail(source, str(e), number)
        for host, xname in pairs:
            match = XNAME.fullmatch(xname)
            if match is None:
                fail(source, f"{xname!r} is not an xname of a node, such as x1000c0s0b0n0", number)
            if host_at.setdefault(xname, host) == host:
                add_node(nodes, host, match.groups(), source, number)
            elif not address:
                fail(source, f"{xname} is {host_at[xname]!r} already, not {host!r}", number)
    if not nodes:
        fail(source, "holds no xname")
    return Placement(LEVELS, None, nodes, source)


def _known_as(names: list[str]) -> list[tuple[str, str]]:
    """Host and xname of a line of ``/etc/hosts``, of which these are the names; nothing if none is an xname."""
    xnames = [name for name in names if XNAME.fullmatch(name)]
    if len(set(xnames)) > 1:
        raise TopologyError(f"{xnames[0]} and {xnames[1]} are two nodes with one address")
    others = [name for name in names if name not in xnames]
    return [((others or xnames)[0], xnames[0])] if xnames else []


def _pairs(content: str, words: list[str]) -> list[tuple[str, str]]:
    """Host and xname of all nodes of a line."""
    if len(words) == 2 and not any("=" in word or ":" in word for word in words):
        left, right = map(hostlist.expand, words)
        if not any(map(_COMPONENT.match, right)):
            left, right = right, left
        if len(left) == len(right) and not any(map(_COMPONENT.match, left)):
            return list(zip(left, right, strict=True))
    return [(xname, xname) for xname, _ in hosts.hosts_of_line(content)]


def _compiled(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as e:
        raise TopologyError(f"pattern {pattern!r}: not a regular expression: {e}") from None
    levels = tuple(name for name in compiled.groupindex if name != "node")
    if not levels:
        raise TopologyError(f"pattern {pattern!r}: has no named group such as (?P<rack>[0-9]+) to be a level")
    return compiled, levels


def place_by_pattern(names: list[str], pattern: str, source: str = "hosts") -> Placement:
    """Place hosts by the named groups of ``pattern``. Raises TopologyError if one does not match."""
    compiled, levels = _compiled(pattern)
    nodes: Nodes = {}
    for host in names:
        match = compiled.fullmatch(host)
        row = tuple(match[level] for level in levels) if match else ()
        if not row or not all(row):
            fail(source, f"host {host!r} does not match the pattern {pattern!r} with all of its levels")
        add_node(nodes, host, row, source)
    if not nodes:
        fail(source, "names no host")
    return Placement(levels, None, nodes, source)


def parse_pattern(text: str, pattern: str, source: str = "hosts") -> Placement:
    """Place the hosts in ``text``, a host list or host file, by the named groups of ``pattern``."""
    _compiled(pattern)
    return place_by_pattern(hosts.names_of(text, source), pattern, source)
