"""Readers of how sites describe their machines: one module a format, text in, :class:`Placement` out. No MPI.

Every malformed input raises TopologyError that names file, line or key, and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement, parse_placement
from topocomm.topology.sites import hwloc, mpich, names, slurm_addr, slurm_topology, slurm_yaml, tables
from topocomm.topology.sites.text import read_text

__all__ = ["FORMATS", "Format", "Options", "parse_site", "read_site"]


@dataclass(frozen=True)
class Options:
    """What a reader needs beyond the text: the pattern of host names; the host names of numbered nodes."""

    pattern: str | None = None
    host: str = "{}"


@dataclass(frozen=True)
class Format:
    """``looks(text)``: why the text cannot be of this format, None if it may be; ``parse(text, source, options)``."""

    summary: str
    looks: Callable[[str], str | None]
    parse: Callable[[str, str, Options], Placement]


def _json(text: str) -> str | None:
    return None if text.lstrip().startswith("{") else "it does not begin with '{'"


def _pattern(text: str, source: str, options: Options) -> Placement:
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
            "Slurm's topology.conf: tree or block", slurm_topology.looks, lambda t, s, o: slurm_topology.parse(t, s)
        ),
        "slurm_yaml": Format(
            "Slurm's topology.yaml: tree or block", slurm_yaml.looks, lambda t, s, o: slurm_yaml.parse(t, s)
        ),
        "slurm_addr": Format(
            "SLURM_TOPOLOGY_ADDR and _PATTERN of all nodes", slurm_addr.looks, lambda t, s, o: slurm_addr.parse(t, s)
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
        "xnames": Format("Cray xnames", names.looks, lambda t, s, o: names.parse_xnames(t, s)),
        "pattern": Format("host names and a pattern of yours", lambda text: "no pattern was given", _pattern),
    }
)
"""Name → format, in the order in which they are tried."""


def parse_site(text: str, source: str, format: str | None = None, options: Options | None = None) -> Placement:
    """Read a description from text; ``source`` is how errors call it. As :func:`read_site`."""
    options = options or Options()
    if format is None:
        format = _guess(text, source, options)
    elif format not in FORMATS:
        raise TopologyError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    return FORMATS[format].parse(text, source, options)


def _guess(text: str, source: str, options: Options) -> str:
    if options.pattern is not None:
        return "pattern"
    tried = []
    for name, entry in FORMATS.items():
        why = entry.looks(text)
        if why is None:
            return name
        tried.append(f"{name} ({why})")
    raise TopologyError(f"{source}: no known format; tried {', '.join(tried)}")


def read_site(
    path: str | Path, format: str | None = None, *, pattern: str | None = None, host: str = "{}"
) -> Placement:
    """Read how a site describes its machine.

    Parameters
    ----------
    path
        The file.
    format
        A name of :data:`FORMATS`; guessed from the content where it is None.
    pattern
        A regular expression with named groups: the levels in host names (format ``pattern``).
    host
        How numbered nodes of a table are called, for instance ``nid{:06d}``.

    Raises
    ------
    TopologyError
        If the file cannot be read, is of no known format (then it says what was tried), or is malformed.
    """
    return parse_site(read_text(path), str(path), format, Options(pattern, host))
