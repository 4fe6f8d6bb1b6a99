"""A signal's handler raises again and again while messages go to and fro: none is lost, none comes twice. One rank."""

import signal
import time
import traceback
from pathlib import Path
from types import FrameType

import numpy as np
from mpi4py import MPI

from topocomm import rma

ENOUGH, SECONDS = 200, 10
LIBRARY = str(Path(rma.__file__).parent)


class Interrupt(BaseException):
    """What the handler raises."""


def arm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.0005)


def raise_it(_: int, frame: FrameType | None) -> None:
    """Only where the library runs: this program itself is not written for it."""
    if frame is not None and frame.f_code.co_filename.startswith(LIBRARY):
        raise Interrupt
    arm()


def main() -> None:
    signal.signal(signal.SIGALRM, raise_it)
    with rma.Context(MPI.COMM_SELF, transports=["mpi"], timeout=20) as context:
        memory, arrivals, asked = context.allocate((2, 64)), context.signal("stream"), context.signal("stream")
        put_to = context.open(memory.block(memory.array[0], arrivals, 0, tag=1).ticket)
        get_from = context.open(memory.block(memory.array[1], asked, 0, tag=2).ticket)
        plan = context.plan()
        plan.put(np.ones(64), put_to)
        plan.get(np.zeros(64), get_from)
        interrupts = {"inside a callback": 0, "elsewhere": 0}
        end = time.monotonic() + SECONDS
        arm()
        try:
            while interrupts["inside a callback"] < ENOUGH and time.monotonic() < end:
                try:
                    plan.wait(1)
                    plan.start()
                    plan.wait(1)
                except Interrupt as error:
                    names = {f.name for f in traceback.extract_tb(error.__traceback__)}
                    interrupts["inside a callback" if names & {"topocomm_poll", "_send"} else "elsewhere"] += 1
                    arm()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            context.flush()
        except Interrupt:  # one that was still carried
            context.flush()
        sent = context.stats.messages // 2
        assert interrupts["inside a callback"] == ENOUGH, interrupts
        assert sent > 100, sent
        for arrived in (arrivals, asked):
            arrived.take(sent, timeout=5)
            for _ in range(100):
                assert not arrived.try_take()
    print(interrupts, sent, "passed", flush=True)


main()
