"""Measuring non-blocking collectives: which share of a call is hidden behind computing, as OSU reports it.

A call is measured alone (start and wait), then with as much computing between start and wait as the call alone takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.cli.bench.columns import Overlap, Result
from topocomm.cli.bench.timing import Repeats, verify
from topocomm.cli.bench.workloads import Workload

__all__ = ["measure_overlap", "waited"]

_ELEMENTS = 1024
"""Of the vector that is computed with: it stays in the cache of a core."""
_CALIBRATION = 2000
"""Passes over it that are timed to learn how long one takes."""

Start = Callable[..., MPI.Request]


def waited(start: Start) -> Callable[..., None]:
    """Return a call that starts and waits."""

    def call(*arguments: Any) -> None:
        start(*arguments).Wait()

    return call


def measure_overlap(
    world: MPI.Intracomm, starts: Mapping[str, Start], workload: Workload, repeats: Repeats
) -> dict[str, Result]:
    """Measure every contender: the average is that of start, computing and wait, in microseconds.

    Collective over `world`. Raises VerificationError, on every rank, for a wrong result before or after.
    """
    calls = {name: waited(start) for name, start in starts.items()}
    verify(world, calls, workload, last=False)
    second = _seconds_a_pass()
    found = {name: _measured(world, start, workload, repeats, second) for name, start in starts.items()}
    verify(world, calls, workload, last=True)
    return found


def _measured(world: MPI.Intracomm, start: Start, workload: Workload, repeats: Repeats, a_pass: float) -> Result:
    alone = _loop(world, start, workload, repeats, 0)[0]
    passes = max(1, round(world.allreduce(alone, MPI.MAX) / a_pass))
    overall, computing = _loop(world, start, workload, repeats, passes)
    mine = np.array([overall, computing, alone]) * 1e6
    total, compute, call = np.divide(world.allreduce(mine, MPI.SUM), world.size).tolist()
    least, most = world.allreduce(float(mine[0]), MPI.MIN), world.allreduce(float(mine[0]), MPI.MAX)
    hidden = max(0.0, 100 - 100 * (total - compute) / call)
    return Result(total, least, most, overlap=Overlap(compute, call, hidden))


def _loop(world: MPI.Intracomm, start: Start, workload: Workload, repeats: Repeats, passes: int) -> tuple[float, float]:
    """Return mean seconds of start, computing and wait together, and of computing, on this rank."""
    arguments, vector, clock = workload.arguments, np.ones(_ELEMENTS), perf_counter
    overall = computing = 0.0
    world.Barrier()
    for iteration in range(repeats.warmup + repeats.iterations):
        if iteration == repeats.warmup:
            overall = computing = 0.0
        begun = clock()
        request = start(*arguments[iteration % len(arguments)])
        before = clock()
        _compute(vector, passes)
        after = clock()
        request.Wait()
        overall += clock() - begun
        computing += after - before
        world.Barrier()
    return overall / repeats.iterations, computing / repeats.iterations


def _compute(vector: Any, passes: int) -> None:
    """Compute in NumPy, without a call of MPI's."""
    for _ in range(passes):
        np.multiply(vector, 1.0, out=vector)


def _seconds_a_pass() -> float:
    vector = np.ones(_ELEMENTS)
    begun = perf_counter()
    _compute(vector, _CALIBRATION)
    return (perf_counter() - begun) / _CALIBRATION
