"""Readers of how sites describe their machines: one module a format, text in, :class:`Placement` out. No MPI.

Every malformed input raises TopologyError that names file, line or key, and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement, parse_placement
from topocomm.topology.sites import hwloc, mpich, names, slurm_addr, slurm_topology, slurm_yaml, tables
from topocomm.topology.sites.text import read_text

__all__ = ["FORMATS", "Format", "SiteOptions", "parse_site", "read_site"]


@dataclass(frozen=True)
class SiteOptions:
    """What a reader needs beyond the text.

    ``pattern``
        A regular expression with named groups: the levels in host names.
    ``host``
        How numbered nodes are called.
    ``name``
        Which topology of several in one file.
    ``folder``
        Where the text's file lies, if it is from one: included files are looked for there.
    ``hosts``
        Host names that nodes are known to have.
    """

    pattern: str | None = None
    host: str = "{}"
    name: str | None = None
    folder: Path | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """``looks(text)``: why the text cannot be of this format, None if it may be; ``parse(text, source, options)``."""

    summary: str
    looks: Callable[[str], str | None]
    parse: Callable[[str, str, SiteOptions], Placement]


def _json(text: str) -> str | None:
    return None if text.lstrip().startswith("{") else "it does not begin with '{'"


def _pattern(text: str, source: str, options: SiteOptions) -> Placement:
    if options.pattern is None:
        raise TopologyError(f"{source}: format 'pattern' needs a pattern of host names with named groups")
    return names.parse_pattern(text, options.pattern, source)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "placement": Format("topocomm's own JSON", _json, lambda t, s, o: parse_placement(t, s)),
        "hwloc": Format(
            "XML of lstopo: sockets, dies, groups, NUMA nodes, cores", hwloc.looks, lambda t, s, o: hwloc.parse(t, s)
        ),
        "slurm_topology": Format(
            "Slurm's topology.conf, or what 'scontrol show topology' prints: tree, block, ring or torus",
            slurm_topology.looks,
            lambda t, s, o: slurm_topology.parse(t, s, o.folder),
        ),
        "slurm_yaml": Format(
            "Slurm's topology.yaml: tree, block, ring or torus",
            slurm_yaml.looks,
            lambda t, s, o: slurm_yaml.parse(t, s, o.name),
        ),
        "slurm_addr": Format(
            "SLURM_TOPOLOGY_ADDR and _PATTERN of all nodes",
            slurm_addr.looks,
            lambda t, s, o: slurm_addr.parse(t, s, o.hosts),
        ),
        "mpich_coordinates": Format(
            "MPICH's MPIR_CVAR_COORDINATES_FILE", mpich.looks, lambda t, s, o: mpich.parse(t, s)
        ),
        "node_table": Format(
            "tab-separated: node and its levels",
            tables.looks_like_nodes,
            lambda t, s, o: tables.parse_nodes(t, s, o.host),
        ),
        "range_table": Format(
            "tab-separated: first node, last node, levels",
            tables.looks_like_ranges,
            lambda t, s, o: tables.parse_ranges(t, s, o.host),
        ),
        "xnames": Format(
            "Cray xnames, alone or beside host names", names.looks, lambda t, s, o: names.parse_xnames(t, s)
        ),
        "pattern": Format(
            "host names or a host file, and a pattern of yours",
            lambda text: "no pattern of names is given",
            _pattern,
        ),
    }
)
"""Name → format, in the order in which they are tried."""


def parse_site(text: str, source: str, format: str | None = None, options: SiteOptions | None = None) -> Placement:
    """Read a description from text; ``source`` is how errors call it. As :func:`read_site`."""
    options = options or SiteOptions()
    text = text.removeprefix("\ufeff")
    if "\0" in text:
        raise TopologyError(f"{source}: holds a NUL, which no text does")
    if format is None:
        format = _guess(text, source, options)
    elif format not in FORMATS:
        raise TopologyError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    if options.name is not None and format != "slurm_yaml":
        raise TopologyError(f"{source}: holds one topology, which {format} does not name; leave out {options.name!r}")
    return FORMATS[format].parse(text, source, options)


def _guess(text: str, source: str, options: SiteOptions) -> str:
    if options.pattern is not None:
        return "pattern"
    tried = []
    for name, entry in FORMATS.items():
        why = entry.looks(text)
        if why is None:
            return name
        tried.append(f"  {name:19}{why}")
    raise TopologyError("\n".join((f"{source}: no known format; tried", *tried)))


def read_site(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    pattern: str | None = None,
    host: str = "{}",
    name: str | None = None,
    hosts: Iterable[str] = (),
) -> Placement:
    """Read how a site describes its machine.

    Parameters
    ----------
    path
        The file; ``FILE#NAME`` for the topology of that name in a file of several (unless a file is called so).
    format
        A name of :data:`FORMATS`; guessed from the content where it is None.
    pattern
        A regular expression with named groups: the levels in host names (format ``pattern``).
    host
        How numbered nodes of a table are called, for instance ``nid{:06d}``.
    name
        Which topology of a file that holds several.
    hosts
        Host names that nodes are known to have, where the file alone leaves that open (format ``slurm_addr``).

    Raises
    ------
    TopologyError
        If the file cannot be read, is of no known format (then it says what was tried), or is malformed.
    """
    file, mark, fragment = os.fspath(path).rpartition("#")
    if mark and name is None and fragment and not os.path.lexists(path):
        path, name = file, fragment
    options = SiteOptions(pattern, host, name, Path(path).parent, tuple(hosts))
    return parse_site(read_text(path), os.fspath(path), format, options)
