"""Comparisons made up for tests: no figure in them was measured."""

from __future__ import annotations

from topocomm.cli.report.document import Part, Place, Row, Variant

SIZES = (8, 4096, 65536, 1 << 20)


def _samples(middle: float) -> tuple[float, ...]:
    return tuple(middle * factor for factor in (1.0, 0.97, 1.04, 1.01, 0.99, 1.02, 1.3))


def _row(collective: str, size: int, native: float, ours: float) -> Row:
    bound = size * 0.375
    variants = {
        "native": Variant(_samples(2000 + bound * native), 1, "", "", int(size * 25)),
        "auto": Variant(_samples(2200 + bound * ours), 1, "ring", "c", int(size * 6.4)),
        "auto@python": Variant(_samples(2600 + bound * ours), 1, "ring", "python", int(size * 6.4)),
    }
    return Row(collective, size, variants, bound, "", 6 * size)


def part(placement: str = "cyclic", mpi: str = "MPICH 5.0.2", **changes: object) -> Part:
    """A part with two collectives at four sizes; topocomm is faster at the largest, and slower at the smallest."""
    rows = [_row("allreduce", size, 3.9, 1.1) for size in SIZES] + [_row("alltoall", size, 1.2, 1.15) for size in SIZES]
    given = {
        "mpi": mpi,
        "place": Place("16 ranks on 4 racks of 4 emulated hosts, 40mbit links", placement, 16, "one rank a host"),
        "rows": tuple(rows),
        "command": "python -m bench.compare --placement " + placement,
        "settings": "UCX_TLS=tcp,self",
        "thread_level": "MULTIPLE",
        "waiting": "waiting ranks poll",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "a processor", "cores": 2},
        "versions": {"topocomm": "0.1.0"},
    }
    return Part(**{**given, **changes})  # type: ignore[arg-type]
