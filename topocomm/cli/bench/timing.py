"""Measuring: interleaved timing of several contenders on the same buffers, verification, statistics over ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from topocomm.cli.bench.columns import Result
from topocomm.cli.bench.workloads import Workload
from topocomm.errors import AlgorithmError

__all__ = ["Repeats", "VerificationError", "able", "measure", "slowest", "statistics", "verify"]

_FIRST, _LAST = 0, 1
"""Iteration numbers of the two verified calls around the timed loop: their data differ."""

_SHOWN = 4
"""An error shows what is wrong on at most this many ranks."""


class VerificationError(Exception):
    """A contender computed something wrong; the text names it, the size and the ranks."""


@dataclass(frozen=True)
class Repeats:
    """How often to call: timed iterations, warm-up iterations before them, and with `every` set, verification of each
    call.

    `settle` is the number of calls before each verified iteration (OSU's ``-u``), so that its timing is not a cold
    one.
    """

    iterations: int
    warmup: int
    every: bool = False
    settle: int = 0


def able(world: MPI.Intracomm, call: Callable[..., Any], workload: Workload) -> str | None:
    """Say why a contender cannot run this workload; None when it can. Collective; the same answer on every rank."""
    reason = None
    workload.prepare(_FIRST)
    try:
        call(*workload.arguments[_FIRST % len(workload.arguments)])
    except AlgorithmError as error:
        reason = str(error)
    reasons = [text for text in world.allgather(reason) if text]
    return reasons[0] if reasons else None


def measure(
    world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], workload: Workload, repeats: Repeats
) -> NDArray[np.float64]:
    """Measure seconds of every call on this rank, one line a contender; contenders take turns within each iteration.

    Collective over `world`, whose barrier separates the calls. Raises VerificationError, on every rank.
    """
    verify(world, calls, workload, last=False)
    loop = _verifying_loop if repeats.every else _loop
    times = loop(world, calls, workload, repeats)
    verify(world, calls, workload, last=True)
    return np.array(times)[:, repeats.warmup :]


def verify(world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], workload: Workload, last: bool) -> None:
    """Check every contender's result once, with other data at the last than at the first time. Collective.

    Raises VerificationError, on every rank.
    """
    for name in calls:
        _verified(world, calls, name, workload, _LAST if last else _FIRST)


def slowest(
    world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], workload: Workload, iterations: int
) -> NDArray[np.float64]:
    """Measure seconds of the slowest rank, one line a contender, in turns. Collective; the same on every rank."""
    mine = np.array(_loop(world, calls, workload, Repeats(iterations, 0)))
    across = np.empty_like(mine)
    world.Allreduce(mine, across, MPI.MAX)
    return across


def statistics(
    world: MPI.Intracomm, seconds: NDArray[np.float64], percentiles: Sequence[int], keep: bool = False
) -> Result:
    """Compute OSU's statistics, in microseconds: a rank's mean, then its average, minimum and maximum over ranks.

    A percentile is one of the iterations, each averaged over ranks. With `keep` every iteration's time on the slowest
    rank is kept. Collective; the same on every rank.
    """
    mean = float(seconds.mean()) * 1e6
    least, most = world.allreduce(mean, MPI.MIN), world.allreduce(mean, MPI.MAX)
    average = world.allreduce(mean, MPI.SUM) / world.size
    across = np.zeros_like(seconds)
    world.Allreduce(seconds, across, MPI.SUM)
    found = percentiles_of(across * 1e6 / world.size, percentiles)
    if not keep:
        return Result(average, least, most, found)
    slow = np.zeros_like(seconds)
    world.Allreduce(np.ascontiguousarray(seconds), slow, MPI.MAX)
    return Result(average, least, most, found, tuple((1e6 * slow).tolist()))


def percentiles_of(values: NDArray[np.float64], percentiles: Sequence[int]) -> dict[int, float]:
    """Compute percentiles as OSU: element ``n P / 100 - 1`` of the sorted values, but never before the first."""
    ordered = np.sort(values)
    return {percent: float(ordered[max(len(ordered) * percent // 100 - 1, 0)]) for percent in percentiles}


def _loop(
    world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], workload: Workload, repeats: Repeats
) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    turns = list(zip(calls.values(), times, strict=True))
    arguments, barrier, clock = workload.arguments, world.Barrier, perf_counter
    world.Barrier()
    for iteration in range(repeats.warmup + repeats.iterations):
        argument = arguments[iteration % len(arguments)]
        for call, mine in turns:
            start = clock()
            call(*argument)
            stop = clock()
            barrier()
            mine.append(stop - start)
    return times


def _verifying_loop(
    world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], workload: Workload, repeats: Repeats
) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in calls]
    for iteration in range(repeats.warmup + repeats.iterations):
        for name, mine in zip(calls, times, strict=True):
            argument = workload.arguments[iteration % len(workload.arguments)]
            for _ in range(repeats.settle):
                calls[name](*argument)
            mine.append(_verified(world, calls, name, workload, iteration))
    return times


def _verified(
    world: MPI.Intracomm, calls: Mapping[str, Callable[..., Any]], name: str, workload: Workload, iteration: int
) -> float:
    """Seconds of one call on fresh data, whose result is checked on every rank. Raises VerificationError on all of
    them.
    """
    call, argument = calls[name], workload.arguments[iteration % len(workload.arguments)]
    workload.prepare(iteration)
    world.Barrier()
    start = perf_counter()
    call(*argument)
    seconds = perf_counter() - start
    world.Barrier()
    mistakes = [text for text in world.allgather(workload.mistake(iteration)) if text]
    if mistakes:
        more = f"; {len(mistakes)} ranks in all" if len(mistakes) > _SHOWN else ""
        raise VerificationError(f"{name}: {'; '.join(mistakes[:_SHOWN])}{more}")
    return seconds
