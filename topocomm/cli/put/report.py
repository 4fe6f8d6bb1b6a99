"""From options to a printed report of puts: open a context, then size by size measure, print and record."""

from __future__ import annotations

import json
import os
from typing import Any

from mpi4py import MPI

from topocomm import rma
from topocomm.cli import machine
from topocomm.cli.bench.osu import sizes
from topocomm.cli.console import version
from topocomm.cli.put.measure import ROUNDS, Setting, bind, measure_size
from topocomm.cli.put.options import UNITS, Options, UsageError
from topocomm.cli.put.put_notify import AbsentError, PutNotify, load
from topocomm.cli.put.ways import Active, Fence, Flag, Messages, Notified

__all__ = ["report"]


def report(options: Options) -> int:
    """Measure, print and write what ``options`` ask for; collective over MPI.COMM_WORLD. Raises topocomm.Error."""
    world = MPI.COMM_WORLD
    if world.size != 2:
        raise UsageError(f"{options.benchmark} needs exactly 2 ranks, got {world.size}")
    if options.bind and not bind(world):
        raise UsageError(f"--bind needs a core for each of {world.size} ranks")
    kinds, absent = _ways(world, options.compare)
    _check_memory(world, options, len(kinds))
    try:
        context = rma.Context(world, transports=options.transports)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with context:
        setting = Setting(options.benchmark, world, context, kinds, options.window, options.iterations)
        about = {"mpi": machine.mpi_library(), "transport": context.transport(1 - world.rank)}
        nodes = machine.count_nodes(world)
        if world.rank == 0:
            print(f"# topocomm {options.benchmark} v{version()}\n# MPI: {about['mpi']}")
            print(f"# Ranks: 2 on {nodes} node{'s' if nodes != 1 else ''}\n# Transport: {about['transport']}")
            for name, reason in absent.items():
                print(f"# {name}: absent, {reason}")
        rows = _rows(setting, options)
    found = {"benchmark": options.benchmark, "unit": UNITS[options.benchmark], **about, "absent": absent,
             "rounds": ROUNDS, "rows": rows}  # fmt: skip
    problem = world.bcast(_keep(options, found) if world.rank == 0 else None)
    if problem:
        raise UsageError(problem)
    return 0


def _check_memory(world: MPI.Intracomm, options: Options, ways: int) -> None:
    """Each way has its own buffers for a window of the largest message: two of them where both ranks send at once."""
    buffers = 2 if options.benchmark == "put_bibw" else 1
    needed = ways * options.most * (options.window * buffers + 1)
    free = min(world.allgather(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // world.size))
    if needed > free:
        raise UsageError(
            f"-m {options.most} -W {options.window}: needs about {needed} bytes on each rank, there are {free}; "
            "lower one of them"
        )


def _rows(setting: Setting, options: Options) -> list[dict[str, Any]]:
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


def _ways(world: MPI.Intracomm, compare: bool) -> tuple[list[Any], dict[str, str]]:
    """The kinds of ways to measure, and why others are absent, by name."""
    kinds: list[Any] = [Notified]
    if not compare:
        return kinds, {}
    kinds += [Messages, Flag, Active, Fence]
    try:
        helper = load(world)
    except AbsentError as reason:
        return kinds, {PutNotify.name: str(reason)}
    return [*kinds, lambda *words: PutNotify(helper, *words)], {}


def _keep(options: Options, found: dict[str, Any]) -> str | None:
    """Write the file that was asked for; why that is not possible, else None."""
    if options.json is None:
        return None
    try:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        return f"{error.filename}: cannot be written: {error.strerror}"
    return None
