"""The report of puts: open a context, then measure, print and record size by size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mpi4py import MPI

from topocomm import rma
from topocomm.cli import provenance
from topocomm.cli.arguments import UsageError
from topocomm.cli.bench.osu import sizes
from topocomm.cli.bench.put_options import UNITS, PutOptions
from topocomm.cli.bench.put_rounds import ROUNDS, Kind, Setting, bind, measure_size
from topocomm.cli.bench.put_ways import Active, Fence, Flag, Notified, TwoSided
from topocomm.cli.console import version

__all__ = ["report"]


Further = Callable[[MPI.Intracomm], tuple[Sequence[Kind], Mapping[str, str]]]
"""More kinds of ways to compare with, and why others are absent, by name. Collective."""


def report(options: PutOptions, further: Further | None = None) -> int:
    """Measure, print and write what ``options`` ask for; collective over MPI.COMM_WORLD. Returns exit code 0.

    ``further`` adds ways to those of ``--compare``. Raises topocomm.Error, alike on every rank.
    """
    world = MPI.COMM_WORLD
    if world.size != 2:
        raise UsageError(f"{options.benchmark} needs exactly 2 ranks, got {world.size}")
    if options.bind and not bind(world):
        raise UsageError(f"--bind needs a core for each of {world.size} ranks")
    kinds: list[Kind] = [Notified, TwoSided, Flag, Active, Fence] if options.compare else [Notified]
    more, absent = further(world) if further and options.compare else ((), {})
    kinds += more
    _check_memory(world, options, len(kinds))
    try:
        context = rma.Context(world, transports=options.transports)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with context:
        setting = Setting(options.benchmark, world, context, kinds, options.window, options.iterations)
        about = {"mpi": provenance.mpi_library(), "transport": context.transport(1 - world.rank)}
        nodes = provenance.count_nodes(world)
        if world.rank == 0:
            print(f"# topocomm {options.benchmark} v{version()}\n# MPI: {about['mpi']}")
            print(f"# Ranks: 2 on {nodes} node{'s' if nodes != 1 else ''}\n# Transport: {about['transport']}")
            for name, reason in absent.items():
                print(f"# {name}: absent, {reason}")
        rows = _rows(setting, options)
    found = {"benchmark": options.benchmark, "unit": UNITS[options.benchmark], **about, "absent": dict(absent),
             "rounds": ROUNDS, "rows": rows}  # fmt: skip
    problem = world.bcast(_keep(options, found) if world.rank == 0 else None)
    if problem:
        raise UsageError(problem)
    return 0


def _check_memory(world: MPI.Intracomm, options: PutOptions, ways: int) -> None:
    """Check that memory is enough: each way has a window of the largest message, two where both ranks send at once."""
    buffers = 2 if options.benchmark == "put_bibw" else 1
    needed = ways * options.most * (options.window * buffers + 1)
    free = min(world.allgather(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // world.size))
    if needed > free:
        raise UsageError(
            f"-m {options.most} -W {options.window}: needs about {needed} bytes on each rank, there are {free}; "
            "lower one of them"
        )


def _rows(setting: Setting, options: PutOptions) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for size in sizes(options.least, options.most, 1):
        values = measure_size(setting, size)
        names = [name for name in values if name != "time_per_notified"]
        if setting.comm.rank == 0 and not rows:
            heads = [UNITS[options.benchmark], *names[1:]]
            print(f"{'# Size':<10}" + "".join(f"{head:>20}" for head in heads))
        if setting.comm.rank == 0:
            print(f"{size:<10}" + "".join(f"{values[n]:20.2f}" for n in names), flush=True)
        rows.append({"size": size, **values})
    return rows


def _keep(options: PutOptions, found: dict[str, Any]) -> str | None:
    """Write the file that was asked for; returns why that is not possible, else None."""
    if options.json is None:
        return None
    try:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        return f"{error.filename}: cannot be written: {error.strerror}"
    return None
