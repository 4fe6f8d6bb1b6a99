"""The inside of a node: hwloc's XML, as ``lstopo --of xml`` writes it.

One rank a core: levels ``socket``, ``numa`` (where a node has several) and ``core``. Sockets are objects of type
Package (Socket before hwloc 1.11). A NUMANode encloses its cores in hwloc 1 and stands beside them in hwloc 2: there
the ``cpuset`` attributes say which cores are near it. A machine without Core objects counts its PUs.
Source: hwloc's documentation, "Importing and exporting topologies from/to XML files", and hwloc2.dtd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from topocomm.topology.files import Placement
from topocomm.topology.sites.text import fail

__all__ = ["looks", "parse"]

_WORD = re.compile(r"(0x)?[0-9a-fA-F]{0,16}")
_SOCKETS = ("Package", "Socket")


@dataclass(frozen=True)
class _Object:
    kind: str
    name: str
    cpuset: int | None
    above: tuple[_Object, ...]


def looks(text: str) -> str | None:
    """Why this cannot be hwloc's XML; None if it may be."""
    return None if text.lstrip().startswith("<") and "<topology" in text else "it is not XML with a <topology>"


def parse(text: str, source: str = "lstopo XML") -> Placement:
    """The placement of one rank a core. Raises TopologyError, naming line or object, for anything malformed."""
    if "<!ENTITY" in text:
        fail(source, "declares entities, which no lstopo does")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        fail(source, f"not XML: {e.msg if isinstance(e.msg, str) else e}", e.position[0])
    except (ValueError, RecursionError) as e:
        fail(source, f"not XML: {e}")
    if root.tag != "topology":
        fail(source, f"the document is <{root.tag}>, not <topology>")
    found = list(_objects(root, source))
    cores = [o for o in found if o.kind == "Core"] or [o for o in found if o.kind == "PU"]
    if not cores:
        fail(source, "holds no object of type Core or PU")
    sockets = [o for o in found if o.kind in _SOCKETS]
    numa = [o for o in found if o.kind == "NUMANode"]
    columns = (
        [("socket", sockets), ("numa", numa)] if len(sockets) <= len(numa) else [("numa", numa), ("socket", sockets)]
    )
    columns = [(level, places) for level, places in columns if places and (level == "socket" or len(places) > 1)]
    rows = [(*(_place(core, level, places, source) for level, places in columns), core.name) for core in cores]
    return Placement((*(level for level, _ in columns), "core"), tuple(rows), None, source)


def _objects(root: ElementTree.Element, source: str) -> Iterator[_Object]:
    """All objects with those above them, in the order of the file."""
    stack: list[tuple[ElementTree.Element, tuple[_Object, ...]]] = [(root, ())]
    count = 0
    while stack:
        element, above = stack.pop()
        if element.tag == "object":
            kind = element.get("type")
            if not kind:
                fail(source, f"object {count} has no type")
            index = element.get("os_index") or element.get("gp_index") or f"#{count}"
            here = _Object(kind, index, _cpuset(element.get("cpuset"), kind, source), above)
            count += 1
            yield here
            if kind in (*_SOCKETS, "NUMANode"):
                above = (*above, here)
        stack += [(child, above) for child in reversed(element) if child.tag == "object"]


def _cpuset(value: str | None, kind: str, source: str) -> int | None:
    """A bitmap: hexadecimal words of 32 bits between commas, the most significant first; ``0xf...f`` is infinite."""
    if value is None:
        return None
    bits = 0
    for word in value.removeprefix("0xf...f,").split(","):
        if not _WORD.fullmatch(word):
            fail(source, f"{kind} has cpuset {value[:40]!r}, which is not a bitmap")
        bits = bits << 32 | int(word.removeprefix("0x") or "0", 16)
    return bits


def _place(core: _Object, level: str, places: list[_Object], source: str) -> str:
    """The name of the socket or NUMA node of a core: the one around it, else the one whose cpuset holds its own."""
    around = [o for o in core.above if (o.kind == "NUMANode") == (level == "numa")]
    if not around and core.cpuset:
        around = [o for o in places if o.cpuset is not None and core.cpuset & ~o.cpuset == 0]
    if not around:
        fail(source, f"core {core.name} lies in no {level}")
    return around[-1].name
