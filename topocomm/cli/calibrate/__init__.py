"""``python -m topocomm calibrate``: find the levels of a machine if nobody describes it, and measure their links."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topocomm.cli.console import PROGRAM, launched_rank, whole_job
from topocomm.cli.progress import Progress
from topocomm.errors import Error
from topocomm.topology.live.measured import MEASURED

if TYPE_CHECKING:
    from mpi4py import MPI

    from topocomm.topology import Topology

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure this machine: its levels, their latencies and capacities (under mpiexec)"
SECONDS = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the topology, the files to write, the time to take."""
    add = parser.add_argument
    add("--topology", metavar="FILE", help="placement file, or measured (default: TOPOCOMM_TOPOLOGY, else measured)")
    add("--save-topology", metavar="FILE", help="write the placement, for topology= and TOPOCOMM_TOPOLOGY")
    add("--save", metavar="FILE", help="write the machine, for explain and simulate --machine")
    add("--seconds", metavar="S", type=_seconds, default=SECONDS,
        help=f"about how long to measure (default {SECONDS:g}); a third of it finds the levels")  # fmt: skip


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables on rank 0, write the files. Raises Error alike on every rank."""
    if launched_rank() is None:
        raise Error(f"measures between ranks: start it under mpiexec -n RANKS {PROGRAM} calibrate")
    from mpi4py import MPI

    with whole_job():
        return _calibrate(MPI.COMM_WORLD, args)


def _calibrate(world: MPI.Intracomm, args: argparse.Namespace) -> int:
    from topocomm.cli.calibrate.links import measure_figures
    from topocomm.cli.calibrate.printed import table
    from topocomm.model import dumps_machine
    from topocomm.model.calibration import fit
    from topocomm.topology.files import dumps_placement

    if world.size < 2:
        raise Error("needs at least 2 ranks: with one there is nothing to measure")
    _raise_on_all(world, _unwritable([args.save, args.save_topology]) if world.rank == 0 else None)
    shows = world.rank == 0
    name = world.bcast(args.topology or os.environ.get("TOPOCOMM_TOPOLOGY") or MEASURED)
    topology, about, text = _topology(world, name, args.seconds / 3, shows)
    if args.save_topology:
        _write(world, args.save_topology, text or dumps_placement(topology))
    progress = Progress("calibrate: links", shows)
    figures = measure_figures(world, topology, args.seconds * (2 / 3 if name == MEASURED else 1), progress)
    progress.done()
    machine, remarks = fit(figures.levels, figures.rank_speed, figures.near, figures.overhead)
    machine.covers(topology)
    if shows:
        print(table(about, topology, figures, machine, remarks))
    if args.save:
        remarked = "; ".join(f"{level}: {remark}" for level, remark in remarks.items())
        _write(world, args.save, dumps_machine(machine, "measured" + (f"; {remarked}" if remarked else "")))
    return 0


def _topology(world: MPI.Intracomm, name: str, seconds: float, shows: bool) -> tuple[Topology, str, str | None]:
    """Find the topology; returns it, lines about it, and the placement document if it was measured. Collective."""
    from topocomm.comm import given
    from topocomm.topology.live.probe import measure

    if name != MEASURED:
        topology, _ = given.topology(world, name, given.settings(world, None, None))
        return topology, f"{topology.describe()} (from {name})", None
    progress = Progress("calibrate: levels", shows)
    found = measure(world, seconds=seconds, progress=progress)
    progress.done()
    return found.topology, found.describe(), found.dumps()


def _unwritable(paths: Sequence[str | None]) -> str | None:
    """Say why one of the files cannot be written; None if all can. Leaves nothing behind."""
    for path in filter(None, paths):
        existed = Path(path).exists()
        try:
            with Path(path).open("a", encoding="utf-8"):
                pass
            if not existed:
                Path(path).unlink()
        except (OSError, ValueError) as error:
            return f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}"
    return None


def _raise_on_all(world: MPI.Intracomm, wrong: str | None) -> None:
    """Raise Error on every rank if rank 0 found something wrong. Collective."""
    reason = world.bcast(wrong)
    if reason is not None:
        raise Error(reason)


def _write(world: MPI.Intracomm, path: str, text: str) -> None:
    """Write on rank 0; raises Error on every rank if that fails. Collective."""
    wrong = None
    if world.rank == 0:
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            wrong = f"{path}: cannot be written: {error.strerror}"
    _raise_on_all(world, wrong)
