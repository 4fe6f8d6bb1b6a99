"""Measuring transports that emulate the notification: the time of a put beside that of a plain message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np

from topocomm.rma.capability import capabilities
from topocomm.rma.context import Context

__all__ = ["Comparison", "compare_emulated"]

SIZES = (8, 65536)  # bytes
BATCHES, ROUNDS = 5, 20
BUDGET = 0.3  # seconds after which no new batch of a size begins


@dataclass(frozen=True)
class Comparison:
    """Seconds one way between ranks 0 and 1: half a round trip, the median over rounds in turn after a warm-up."""

    transport: str
    size: int
    notified: float
    plain: float
    ranks: int

    def __str__(self) -> str:
        times = f"{1e6 * self.notified:.1f} µs one way, plain message {1e6 * self.plain:.1f} µs"
        return f"{self.transport}, {self.size} bytes: {times}: {self.notified / self.plain:.2f} times as long"


def compare_emulated(comm: Any) -> list[Comparison]:
    """Compare the transports that emulate the notification with plain messages, between ranks 0 and 1 of ``comm``.

    Collective over ``comm`` (mpi4py's), takes less than a second on an idle machine. The list is empty on every rank
    but 0, and with a single rank.
    """
    pair = comm.Split(0 if comm.rank < 2 else 1, comm.rank)
    try:
        found = _compare_all(pair, comm.size) if comm.rank < 2 and pair.size == 2 else []
        together = comm.Ibarrier()
        while not together.Test():
            sleep(0.001)  # whoever measures has the cores to itself
        return found if comm.rank == 0 else []
    finally:
        pair.Free()


def _compare_all(pair: Any, ranks: int) -> list[Comparison]:
    with Context(pair, transports=("shm", "mpi")) as context:
        names = [c.transport for c in capabilities(context) if c.present and not c.native]
    return [_compare(pair, name, size, ranks) for name in names for size in SIZES]


def _compare(pair: Any, transport: str, size: int, ranks: int) -> Comparison:
    me, other = pair.rank, 1 - pair.rank
    data, room = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    with Context(pair, transports=[transport]) as context:
        memory, signal = context.allocate(size, np.uint8), context.signal()
        target = context.exchange({other: [memory.block(memory.array, signal, other)]})[other][0]
        plan = context.plan()
        plan.put(data, target)

        def put() -> None:
            plan.wait()
            plan.start()

        def arrive() -> None:
            signal.wait()
            signal.rearm()

        ways: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
            (put, arrive),
            (lambda: pair.Send(data, other), lambda: pair.Recv(room, other)),
        ]
        times: list[list[float]] = [[], []]
        start = perf_counter()
        for batch in range(BATCHES + 1):
            if pair.bcast(batch > 1 and perf_counter() - start > BUDGET):
                break
            for way, (send, receive) in enumerate(ways):
                first, second = (send, receive) if me == 0 else (receive, send)
                for _ in range(ROUNDS):
                    begin = perf_counter()
                    first()
                    second()
                    if batch:  # the first one warms up
                        times[way].append((perf_counter() - begin) / 2)
        plan.wait()
    return Comparison(transport, size, median(times[0]), median(times[1]), ranks)
