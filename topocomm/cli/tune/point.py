"""Measuring one call at one size: candidates take turns, hopeless ones drop out early."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.choose.measured.entries import NATIVE, Timing
from topocomm.cli.bench.timing import slowest, verify
from topocomm.cli.bench.workloads import Workload

__all__ = ["measure_point"]

TARGET_SECONDS = 1.0
"""All candidates together are repeated for about this many seconds."""
LEAST, MOST = 5, 200
"""The least and most repetitions of a candidate that is not hopeless."""
SHORT_SECONDS = 1e-3
"""Calls shorter than this are tried more often before any is called hopeless."""
_TRIALS = ((1, 4.0), (2, 2.0))
"""Repetitions, and how many times as slow as the best a candidate may then be to stay in."""

Calls = Mapping[str, Callable[..., Any]]


def measure_point(
    world: MPI.Intracomm, calls: Calls, workload: Workload, repetitions: int | None = None
) -> dict[str, Timing]:
    """Measure the times of every candidate; hopeless ones have fewer repetitions, native never is hopeless. Collective.

    The result, and who drops out when, are the same on every rank. Raises VerificationError, on every rank.
    """
    verify(world, calls, workload, last=False)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    alive = dict(calls)

    def repeat(times: int) -> None:
        if times > 0:
            for name, seconds in zip(alive, slowest(world, alive, workload, times), strict=True):
                samples[name] += seconds.tolist()

    def median(name: str) -> float:
        return float(np.median(samples[name]))

    for times, factor in _TRIALS:
        repeat(times)
        if min(map(median, alive)) < SHORT_SECONDS:
            repeat(5 * times)
        limit = factor * min(map(median, alive))
        alive = {name: call for name, call in alive.items() if name == NATIVE or median(name) <= limit}
    total = repetitions or min(MOST, max(LEAST, math.ceil(TARGET_SECONDS / sum(map(median, alive)))))
    repeat(total - len(samples[NATIVE]))
    verify(world, alive, workload, last=True)
    return {name: _timing(values) for name, values in samples.items()}


def _timing(seconds: list[float]) -> Timing:
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    return Timing(max(round(float(middle), 10), 1e-10), len(seconds), round(float(high - low) / 2, 10))
