"""The inside of a node: hwloc's XML, as ``lstopo --of xml`` writes it.

One rank a core: levels ``socket``, ``die``, ``group``, ``numa`` (each where there are several, the one with fewer
places outside) and ``core``. Sockets are objects of type Package (Socket before hwloc 1.11). Groups are what hwloc
makes of distances or clusters that have no type of their own; nested ones are ``group2`` around ``group``, and so on.
A die that is a whole socket adds nothing, and a level of dies, groups or NUMA nodes to which some core does not belong
is left out. A NUMANode encloses its cores in hwloc 1 and stands beside them in hwloc 2: there the ``cpuset`` attributes
say which cores are near it, and of several the one near the fewest counts. PUs without a core count as cores.

An object is itself, whatever its os_index: where two in one place share it, those in that place are called by their
positions in the file (``#5``). Cores none of whose PUs is online and allowed (``allowed_cpuset``, ``online_cpuset``)
are not there.
Source: hwloc's documentation, "Importing and exporting topologies from/to XML files", and hwloc2.dtd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from topocomm.topology.files import Placement
from topocomm.topology.sites.text import fail

__all__ = ["looks", "parse"]

_WORD = re.compile(r"(0x)?[0-9a-fA-F]*")
_INFINITE = "0xf...f"
_SOCKETS = ("Package", "Socket")
_AROUND = (*_SOCKETS, "Die", "Group", "NUMANode")
_ALL = -1


@dataclass(frozen=True, eq=False)
class _Object:
    """An object of the file. Bitmaps are integers, infinite ones negative; ``usable`` are the PUs that may run."""

    kind: str
    name: str
    number: int
    cpuset: int | None
    usable: int
    above: tuple[_Object, ...]


def looks(text: str) -> str | None:
    """Tell why this cannot be hwloc's XML; None if it may be."""
    return None if text.lstrip().startswith("<") and "<topology" in text else "it is not XML with a <topology>"


def parse(text: str, source: str = "lstopo XML") -> Placement:
    """Read the placement of one rank a core. Raises TopologyError, naming line or object, for anything malformed."""
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
    cores = _cores(found, source)
    columns = _columns(found, cores, source)
    levels = (*columns, "core")
    return Placement(levels, _rows([*columns.values(), cores], len(cores)), None, source)


def _cores(found: list[_Object], source: str) -> list[_Object]:
    """The cores, and the PUs that are in none, of which some PU may run."""
    cores = [o for o in found if o.kind == "Core" or (o.kind == "PU" and not any(c.kind == "Core" for c in o.above))]
    if not cores:
        fail(source, "holds no object of type Core or PU")
    usable = [o for o in cores if o.cpuset is None or o.usable == _ALL or o.cpuset & o.usable]
    if not usable:
        fail(source, "allows no core: none has a PU that is in allowed_cpuset and online_cpuset")
    return usable


def _columns(found: list[_Object], cores: list[_Object], source: str) -> dict[str, list[_Object]]:
    """Levels around the cores, outermost first, with the object around every core."""
    kinds = {"socket": [o for o in found if o.kind in _SOCKETS], "die": [o for o in found if o.kind == "Die"]}
    groups = [o for o in found if o.kind == "Group"]
    depths = sorted({_depth(o) for o in groups})
    for above, depth in enumerate(depths):
        number = len(depths) - above
        kinds["group" if number == 1 else f"group{number}"] = [o for o in groups if _depth(o) == depth]
    kinds["numa"] = [o for o in found if o.kind == "NUMANode"]
    columns: dict[str, list[_Object]] = {}
    for level, places in kinds.items():
        around = [_around(core, places) for core in cores]
        if None not in around:
            columns[level] = [o for o in around if o is not None]
        elif level == "socket" and places:
            fail(source, f"core {cores[around.index(None)].name} lies in no {level}")
    counts = {level: len(set(column)) for level, column in columns.items()}
    if counts.get("die") == counts.get("socket"):
        counts.pop("die", None)
    kept = [level for level, count in counts.items() if count > 1 or level == "socket"]
    return {level: columns[level] for level in sorted(kept, key=counts.__getitem__)}  # stable: else as listed above


def _rows(columns: Sequence[Sequence[_Object]], count: int) -> tuple[tuple[str, ...], ...]:
    """Label the objects around every core; in a place where two objects share a name, each is called by its number."""
    rows: list[tuple[str, ...]] = [()] * count
    for column in columns:
        inside: dict[tuple[str, ...], set[_Object]] = {}
        for row, o in zip(rows, column, strict=True):
            inside.setdefault(row, set()).add(o)
        shared = {row for row, objects in inside.items() if len({o.name for o in objects}) < len(objects)}
        rows = [(*row, f"#{o.number}" if row in shared else o.name) for row, o in zip(rows, column, strict=True)]
    return tuple(rows)


def _depth(group: _Object) -> int:
    """How many groups lie around a group."""
    return sum(o.kind == "Group" for o in group.above)


def _objects(root: ElementTree.Element, source: str) -> Iterator[_Object]:
    """All objects with those above them, in the order of the file; numbers count them."""
    stack: list[tuple[ElementTree.Element, tuple[_Object, ...], int]] = [(root, (), _ALL)]
    number = 0
    while stack:
        element, above, usable = stack.pop()
        if element.tag == "object":
            kind = element.get("type")
            if not kind:
                fail(source, f"object {number} has no type")
            for attribute in ("allowed_cpuset", "online_cpuset"):
                bits = _bitmap(element, attribute, kind, source)
                usable &= _ALL if bits is None else bits
            here = _Object(
                kind, _name(element, number), number, _bitmap(element, "cpuset", kind, source), usable, above
            )
            number += 1
            yield here
            if kind in (*_AROUND, "Core"):
                above = (*above, here)
        stack += [(child, above, usable) for child in reversed(element) if child.tag == "object"]


def _name(element: ElementTree.Element, number: int) -> str:
    for attribute in ("os_index", "gp_index"):
        index = element.get(attribute, "").strip()
        if index not in ("", "-1", "4294967295"):
            return index
    return f"#{number}"


def _bitmap(element: ElementTree.Element, attribute: str, kind: str, source: str) -> int | None:
    """A bitmap: hexadecimal words of 32 bits between commas, the most significant first; ``0xf...f`` is infinite."""
    value = element.get(attribute)
    if not value:
        return None
    words = value.split(",")
    bits = 0
    if words[0] == _INFINITE:
        bits, words = _ALL, words[1:]
    for word in words:
        if not _WORD.fullmatch(word) or (len(words) > 1 and len(word.removeprefix("0x")) > 8):
            fail(source, f"{kind} has {attribute} {value[:40]!r}, which is not a bitmap")
        bits = bits << 32 | int(word.removeprefix("0x") or "0", 16)
    return bits


def _around(core: _Object, places: list[_Object]) -> _Object | None:
    """The one of ``places`` that a core lies in: around it in the file, else with the smallest cpuset that holds it."""
    inside = [o for o in core.above if o in places]
    if inside:
        return inside[-1]
    near = [o for o in places if core.cpuset and o.cpuset is not None and core.cpuset & ~o.cpuset == 0]
    return min(near, key=_extent, default=None)


def _extent(place: _Object) -> tuple[bool, int]:
    """The size of a cpuset, to compare: infinite ones are the largest."""
    bits = place.cpuset or 0
    return bits < 0, bits.bit_count()
