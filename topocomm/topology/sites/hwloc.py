"""The inside of a node: hwloc's XML, as ``lstopo --of xml`` writes it.

One rank a core: levels ``socket``, ``die``, ``group``, ``numa`` (each where there are several, the one with fewer
places outside) and ``core``. Sockets are objects of type Package (Socket before hwloc 1.11). Groups are what hwloc
makes of distances or clusters that have no type of their own; nested ones are ``group2`` around ``group``, and so on.
A die that is a whole socket adds nothing, and a level of dies or groups to which some core does not belong is left out.
A NUMANode encloses its cores in hwloc 1 and stands beside them in hwloc 2: there the ``cpuset`` attributes say which
cores are near it. A machine without Core objects counts its PUs.
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
    columns = _columns(found, cores, source)
    rows = [(*(places[k] for _, places in columns), core.name) for k, core in enumerate(cores)]
    return Placement((*(level for level, _ in columns), "core"), tuple(rows), None, source)


def _columns(found: list[_Object], cores: list[_Object], source: str) -> list[tuple[str, list[str]]]:
    """Levels around the cores, outermost first, with the place of every core."""
    kinds = {"socket": [o for o in found if o.kind in _SOCKETS], "die": [o for o in found if o.kind == "Die"]}
    if len(kinds["die"]) == len(kinds["socket"]):
        kinds["die"] = []
    groups = [o for o in found if o.kind == "Group"]
    depths = sorted({_depth(o) for o in groups})
    for above, depth in enumerate(depths):
        number = len(depths) - above
        kinds["group" if number == 1 else f"group{number}"] = [o for o in groups if _depth(o) == depth]
    kinds["numa"] = [o for o in found if o.kind == "NUMANode"]
    columns = []
    for level, places in sorted(kinds.items(), key=lambda item: len(item[1])):  # stable: where equal, as listed above
        if len(places) < (1 if level == "socket" else 2):
            continue
        around = [_around(core, places) for core in cores]
        if None not in around:
            columns.append((level, [o.name for o in around if o is not None]))
        elif level in ("socket", "numa"):
            fail(source, f"core {cores[around.index(None)].name} lies in no {level}")
    return columns


def _depth(group: _Object) -> int:
    """How many groups lie around a group."""
    return sum(o.kind == "Group" for o in group.above)


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
            if kind in (*_SOCKETS, "Die", "Group", "NUMANode"):
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


def _around(core: _Object, places: list[_Object]) -> _Object | None:
    """The one of ``places`` that a core lies in: around it in the file, else with a cpuset that holds its own."""
    inside = [o for o in core.above if any(o is place for place in places)]
    if not inside and core.cpuset:
        inside = [o for o in places if o.cpuset is not None and core.cpuset & ~o.cpuset == 0]
    return inside[-1] if inside else None
