"""The table that ``calibrate`` prints: the figures measured of every level, and those of the machine file. No MPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from topocomm.model import Machine
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.cli.calibrate.links import Figures

__all__ = ["table"]

_HEAD = ("level", "places", "latency us", "one pair MB/s", "place up MB/s", "place down MB/s", "links", "remark")


def table(about: str, topology: Topology, figures: Figures, machine: Machine, remarks: Mapping[str, str]) -> str:
    """Write comment lines, then one line a level, outermost first, and one of the rank."""
    lines = [f"# {line}" for line in about.split("\n")]
    lines.append(f"# overhead of a message on its sender: {figures.overhead * 1e6:.2f} us")
    lines.append("# latency: one way of 8 bytes; MB/s: 10^6 bytes/s; place: all its ranks at once")
    rows: list[Sequence[str]] = [_HEAD]
    for figure, level in zip(figures.levels, machine.levels, strict=True):
        rows.append(
            (
                figure.name,
                str(len(topology.counts(figure.name))),
                _number(figure.latency, 1e6),
                _number(figure.pair, 1e-6),
                _number(figure.up, 1e-6),
                _number(figure.down, 1e-6),
                str(level.links),
                remarks.get(figure.name, ""),
            )
        )
    own = "messages to itself" if figures.alone else "two ranks of one place"
    rows.append(
        ("rank", str(topology.size), _number(figures.near, 1e6), _number(figures.rank_speed, 1e-6), "", "", "", own)
    )
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEAD))]
    for row in rows:
        cells = [
            cell.ljust(w) if k in (0, 7) else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.2f}"
