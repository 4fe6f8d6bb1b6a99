"""MPICH's network coordinates: the file named by ``MPIR_CVAR_COORDINATES_FILE``, read and written.

    # rank: group id, switch id, port number
    0: 1 7 -1
    1: 1 10 -1

MPICH skips the first line whatever it says, wants exactly three whole numbers for every rank and takes ranks in any
order; −1 stands for unknown. Source: ``parse_coord_file`` in MPICH's src/util/mpir_pmi.c (since 4.0).
"""

from __future__ import annotations

import re

import numpy as np

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites.text import MAX_NODES, fail
from topocomm.topology.topology import Topology

__all__ = ["dumps_coordinates", "looks", "parse"]

LEVELS = ("group", "switch", "port")
_LINE = re.compile(r"\s*([0-9]{1,9}):((?:\s+-?[0-9]{1,9})*)\s*")


def looks(text: str) -> str | None:
    """Why this cannot be a coordinates file; None if it may be one."""
    head = [line for line in text.split("\n", 3)[1:3] if line.strip()]
    return None if head and _LINE.fullmatch(head[0]) else "its second line is not 'rank: group switch port'"


def parse(text: str, source: str = "coordinates") -> Placement:
    """The placement by rank. Raises TopologyError, naming line or rank, for anything else."""
    found: dict[int, tuple[int, ...]] = {}
    for number, line in enumerate(text.split("\n")[1:], 2):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            fail(source, f"{line.strip()[:40]!r} is not 'rank: group switch port'", number)
        rank, coordinates = int(match[1]), tuple(map(int, match[2].split()))
        if len(coordinates) != len(LEVELS):
            fail(source, f"rank {rank} has {len(coordinates)} coordinates, MPICH needs {len(LEVELS)}", number)
        if min(coordinates) < -1:
            fail(source, f"rank {rank} has a coordinate below -1, which means unknown", number)
        if rank in found:
            fail(source, f"rank {rank} appears twice", number)
        if rank >= MAX_NODES:
            fail(source, f"rank {rank} is beyond {MAX_NODES}", number)
        found[rank] = coordinates
    if not found:
        fail(source, "places no rank; the first line is a heading and does not count")
    missing = next((r for r in range(len(found)) if r not in found), None)
    if missing is not None:
        fail(source, f"rank {missing} is missing, but rank {max(found)} is there")
    return _placement([found[r] for r in range(len(found))], source)


def _placement(rows: list[tuple[int, ...]], source: str) -> Placement:
    """Without the levels that are unknown everywhere; one that is unknown for some ranks only is refused."""
    kept = []
    for level, name in enumerate(LEVELS):
        unknown = [rank for rank, row in enumerate(rows) if row[level] < 0]
        if unknown and len(unknown) < len(rows):
            fail(source, f"the {name} of rank {unknown[0]} is unknown (-1), that of other ranks is not")
        if not unknown:
            kept.append(level)
    levels = tuple(LEVELS[level] for level in kept)
    return Placement(levels, tuple(tuple(str(row[level]) for level in kept) for row in rows), None, source)


def dumps_coordinates(topology: Topology) -> str:
    """The coordinates file of a topology: its three outermost levels, −1 where it has fewer.

    A topology of one level gives it as group and as switch, for MPICH wants both. Raises TopologyError if it has none.
    """
    if not topology.levels:
        raise TopologyError("a topology without levels has no coordinates: all ranks are equally near")
    columns = [topology.places[:, min(level, len(topology.levels) - 1)] for level in range(2)]
    unknown = np.full(topology.size, -1, np.int64)
    columns.append(topology.places[:, 2] if len(topology.levels) > 2 else unknown)
    rows = [f"{rank}: {g} {s} {p}" for rank, (g, s, p) in enumerate(zip(*columns, strict=True))]
    return "\n".join(["# rank: group id, switch id, port number", *rows]) + "\n"
