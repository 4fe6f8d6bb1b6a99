"""Many commands in one job under mpiexec, which is quicker than a job for each."""

from __future__ import annotations

from launch import launch

__all__ = ["several"]

_PROGRAM = """
import sys
from mpi4py import MPI
from topocomm.cli import console, main
console._KILL_GRACE = 0  # for ranks that end, which here none does
for command in sys.argv[1:]:
    if MPI.COMM_WORLD.rank == 0:
        print("COMMAND", command, flush=True)
        print("COMMAND", command, file=sys.stderr, flush=True)
    try:
        code = main(command.split())
    except SystemExit as stop:
        code = stop.code
    if MPI.COMM_WORLD.rank == 0:
        print("CODE", code, flush=True)
    MPI.COMM_WORLD.Barrier()
"""


def several(ranks: int, *commands: str, prepare: str = "") -> list[tuple[list[str], list[str], int]]:
    """Lines on stdout and stderr and the code of each command; ``prepare`` is run before the first."""
    done = launch(ranks, ["-c", prepare + _PROGRAM, *commands], timeout=150)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    outs, errs = (text.split("COMMAND ")[1:] for text in (done.stdout, done.stderr))
    assert len(outs) == len(errs) == len(commands), done.stderr
    found = []
    for out, err in zip(outs, errs, strict=True):
        *lines, code = out.strip().splitlines()[1:]
        found.append((lines, err.strip().splitlines()[1:], int(code.split()[1])))
    return found
