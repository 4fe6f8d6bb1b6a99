"""Time of a message between two ranks of a host by each way that engine ``c`` has, and the cost of waiting.

    mpiexec -n 2 python -m bench.ports

A program passes one vector to and fro, in C, so that the interpreter's time is not counted; half a turn is a message.
Rank 0 alters the vector before each run; the ways take turns; the least of many runs is shown. ``read``: the receiver
reads what is large out of the sender's memory; ``pieces``: the sender cuts it; ``mpi``: MPI's messages. Then rank 1
comes late, and rank 0 says which share of a core it used meanwhile; ``native``: in the MPI library's own barrier. The
figures go to ``bench/results/ports_<MPI>.json``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from bench.record import keep_for_library
from topocomm.engines import c
from topocomm.plan.program import FENCE, LOOP, RECV, RECV_ROLE, SEND, SENT, WAIT, Program

WAYS = ("mpi", "read", "pieces")
SIZES = (8, 512, 4096, 8192, 16384, 65536, 262144, 1 << 20, 1 << 22)
REPEATS = 60
LATE = 10.0
"""Seconds that rank 1 comes late."""


def to_and_fro(rank: int, times: int) -> Program:
    """Return the program of one rank of two: one block goes to rank 1 and back, ``times`` times."""
    other = 1 - rank
    send, receive = (SEND, other, 0, 0, 0, 1, 0, 0), (RECV, other, 0, 0, 0, 1, 0, 0)
    sent, arrived = (WAIT, other, 0, 1, 0, 0, 0, SENT), (WAIT, other, 0, 1, 0, 0, 0, 0)
    body = [send, sent, receive, arrived] if rank == 0 else [receive, arrived, send, sent]
    steps = [(LOOP, 0, 0, times, 0, 0, len(body), 0), *body, (FENCE, 0, 0, 0, 0, 0, 0, 0)]
    runs = np.array([(RECV_ROLE, 0, 1, 0, 0)], np.int32)
    none, one = np.empty(0, np.int32), np.zeros(1, np.int32)
    return Program(rank, 2, np.array(steps, np.int32), runs, (none, one, none), 1, 1, one)


def make(way: str, world: MPI.Intracomm, program: Program) -> c.Loaded:
    """Load the program on an engine that uses ``way``."""
    engine = c.Engine(world.Dup())
    if way != "mpi" and engine.share(world, reads=way == "read") != 1:
        raise SystemExit("the two ranks cannot share memory")
    return engine.load(program)


def message_us(sized: c.Sized, world: MPI.Intracomm, memory: np.ndarray[Any, np.dtype[np.uint8]], times: int) -> float:
    """Return the time of a message of one run in microseconds."""
    if world.rank == 0:
        memory += 1
    world.Barrier()
    start = time.perf_counter_ns()
    sized.run(memory[:0], memory)
    return (time.perf_counter_ns() - start) / 1e3 / (2 * times)


def share_of_a_core(call: Callable[[], object], world: MPI.Intracomm) -> float:
    """Return the share of a core that rank 0 uses in a call to which rank 1 comes late."""
    world.Barrier()
    if world.rank == 1:
        time.sleep(LATE)
    before, start = time.process_time(), time.perf_counter()
    call()
    return (time.process_time() - before) / (time.perf_counter() - start)


def waiting(engines: dict[str, c.Loaded], world: MPI.Intracomm) -> dict[str, float]:
    """Return the share of a core by way: rank 0 waits for a message of eight bytes, or for the library's barrier."""
    memory = np.zeros(8, np.uint8)
    shares = {"native": share_of_a_core(world.Barrier, world)}
    for way, loaded in engines.items():
        sized = loaded.size(8, 1)
        shares[way] = share_of_a_core(partial(sized.run, memory[:0], memory), world)
    return {way: round(share, 4) for way, share in shares.items()}


def main() -> int:
    world = MPI.COMM_WORLD
    if world.size != 2:
        raise SystemExit("bench.ports: run it on 2 ranks of one host")
    rows: list[dict[str, Any]] = []
    engines = {n: {way: make(way, world, to_and_fro(world.rank, n)) for way in WAYS} for n in (1, 100)}
    for nbytes in SIZES:
        times = 100 if nbytes <= 65536 else 1
        sized = {way: loaded.size(nbytes, 1) for way, loaded in engines[times].items()}
        memory, best = np.zeros(nbytes, np.uint8), dict.fromkeys(WAYS, float("inf"))
        for _ in range(REPEATS):
            for way in WAYS:
                best[way] = min(best[way], message_us(sized[way], world, memory, times))
        rows.append({"bytes": nbytes, **{f"{way}_us": round(best[way], 3) for way in WAYS}})
        if world.rank == 0:
            print(rows[-1], flush=True)
    shares = waiting(engines[1], world)
    if world.rank == 0:
        print(f"share of a core while rank 1 is {LATE:g} s late: {shares}", flush=True)
        figures = {"figures": rows, "late_seconds": LATE, "share_of_a_core": shares}
        print(f"kept {keep_for_library('ports', figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
