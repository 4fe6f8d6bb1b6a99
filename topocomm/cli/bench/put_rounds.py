"""Timing the ways of one benchmark of puts in alternating rounds; ratios are taken round by round."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from topocomm import rma
from topocomm.cli.bench.put_ways import Notified, Way

__all__ = ["ROUNDS", "Kind", "Setting", "bind", "measure_size"]

ROUNDS = 15
MOVED = 32 << 20
"""Bytes a round moves at most, but never fewer than ten windows."""

Kind = Callable[[Any, rma.Context, int, int, int], Way]
"""Makes a way from communicator, context, bytes of a message, messages in flight and number of buffers."""


@dataclass(frozen=True)
class Setting:
    """All that is equal for every size: benchmark, ranks, ways, messages in flight, iterations (0: by size)."""

    benchmark: str
    comm: Any
    context: rma.Context
    kinds: Sequence[Kind]
    window: int
    iterations: int


def bind(comm: Any) -> bool:
    """Keep each rank on a core of its own; False where this node has fewer cores than ranks. Collective."""
    cores = sorted(os.sched_getaffinity(0))
    union = sorted(set().union(*comm.allgather(cores)))
    enough: bool = len(union) >= comm.size
    if enough:
        os.sched_setaffinity(0, {union[comm.rank]})
    return enough


def _ping_pong(way: Way, rank: int, iterations: int) -> float:
    """Measure the seconds of a message one way."""
    start = perf_counter()
    for i in range(iterations):
        if rank == 0:
            way.send(i)
            way.receive(i)
        else:
            way.receive(i)
            way.send(i)
    return (perf_counter() - start) / iterations / 2


def _stream(way: Way, rank: int, iterations: int, both: bool, answer: Way) -> float:
    """Measure the seconds of a window; one way, it is answered by a message of one byte of the same kind."""
    start = perf_counter()
    for i in range(iterations):
        if both:
            way.both(i)
        elif rank == 0:
            way.send(i)
            answer.receive(i)
        else:
            way.receive(i)
            answer.send(i)
    return (perf_counter() - start) / iterations


def _value(name: str, seconds: float, size: int, window: int) -> float:
    if name == "put_latency":
        return 1e6 * seconds
    if name == "put_rate":
        return window / seconds
    return size * window * (2 if name == "put_bibw" else 1) / seconds / 1e6


def measure_size(setting: Setting, size: int) -> dict[str, Any]:
    """Measure medians over rounds in which the ways take turns, and of each round's time over that of notified puts."""
    name, comm, context = setting.benchmark, setting.comm, setting.context
    window = setting.window
    buffers = 2 if name == "put_bibw" else 1  # an answered message proves its buffer free
    ways = [kind(comm, context, size, window, buffers) for kind in setting.kinds]
    answers = [kind(comm, context, 1, 1, buffers) for kind in setting.kinds]
    iterations = setting.iterations or min(1000, max(10, MOVED // max(1, size * window)))
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(ROUNDS + 1):
        for way, answer, mine in zip(ways, answers, times, strict=True):
            comm.Barrier()
            if name == "put_latency":
                seconds = _ping_pong(way, comm.rank, iterations)
            else:
                seconds = _stream(way, comm.rank, iterations, name == "put_bibw", answer)
            if turn:
                mine.append(seconds)
    comm.Barrier()
    for way in (*ways, *answers):
        way.finish()
        if isinstance(way, Notified):
            way.free()
    values: dict[str, Any] = {}
    for way, mine in zip(ways, times, strict=True):
        values[way.name] = _value(name, statistics.median(mine), size, window)
    shares = {w.name: [t / n for t, n in zip(mine, times[0], strict=True)] for w, mine in zip(ways, times, strict=True)}
    values["time_per_notified"] = {way: round(statistics.median(s), 3) for way, s in list(shares.items())[1:]}
    return values
