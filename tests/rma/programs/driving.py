"""Who waits or tests for a put drives MPI: a large message to that rank, which the putting rank waits for first, ends.

Arguments: the transport; "main" or "thread", where that rank waits.
"""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from topocomm import rma

WORLD = MPI.COMM_WORLD
BIG = 1 << 22  # bytes that no MPI library sends before the receiver makes calls of MPI


def until(over: Callable[[], object]) -> None:
    """Ask until that is true."""
    while not over():
        time.sleep(0)


COUNTED: list[Callable[[rma.Signal], object]] = [
    lambda signal: signal.wait(),
    lambda signal: signal.wait(timeout=50),
    lambda signal: rma.wait_any([signal]),
    lambda signal: until(signal.test),
]
STREAMS: list[Callable[[rma.Signal], object]] = [lambda signal: signal.take(1)]
EVENTS: list[Callable[[rma.Signal], object]] = [lambda signal: signal.event(), lambda signal: until(signal.test)]


def put_after_a_message(context: rma.Context, kind: str, wait: Callable[[rma.Signal], object]) -> None:
    """Rank 0 sends, waits for that, and puts; rank 1 waits for the put, then for the message."""
    other, memory, signal = 1 - context.rank, context.allocate(4), context.signal(kind)
    targets = context.exchange({other: [memory.block(memory.array, signal, other)]})
    message = np.full(BIG, context.rank, np.uint8)
    if context.rank == 0:
        WORLD.Isend(message, 1).Wait()
        plan = context.plan()
        plan.put(np.ones(4), targets[1][0])
        plan.start()
        plan.wait()
    else:
        request = WORLD.Irecv(message, 0)
        wait(signal)
        assert (memory.array == 1).all()
        request.Wait()
        assert (message == 0).all()
    WORLD.Barrier()


def in_a_thread(wait: Callable[[rma.Signal], object]) -> Callable[[rma.Signal], object]:
    """Return what waits in a thread of its own."""

    def waits(signal: rma.Signal) -> None:
        thread = threading.Thread(target=wait, args=[signal])
        thread.start()
        thread.join()

    return waits


with rma.Context(WORLD, transports=[sys.argv[1]], timeout=50) as opened:
    for name, ways in (("counted", COUNTED), ("stream", STREAMS), ("identified", EVENTS)):
        for way in ways:
            put_after_a_message(opened, name, in_a_thread(way) if sys.argv[2] == "thread" else way)
print("passed", flush=True)
