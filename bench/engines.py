"""Processor time of a call and of a round on each engine: one process, every peer is itself.

    python -m bench.engines

Programs of rank 0 of 2 and of 8 run over messages of a process to itself, so that nobody waits and only the processor's
time counts, which other work on the machine lengthens less than the time on the clock: the least of many repetitions.
A round's time is the difference between 8 and 2 ranks, by their rounds; beside it mpi4py's own ``Sendrecv`` to itself,
and the same messages from C without a program (``engines_plain.c``): what a round takes more is what the engine adds.
The figures go to ``bench/results/engines_<MPI>.json``.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from bench.record import ROOT, keep_for_library
from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.engines import c, python
from topocomm.library import address, handle
from topocomm.plan.bind import bind
from topocomm.plan.program import Program

CASES = (("barrier", "textbook_dissemination"), ("allreduce", "textbook_recursive_doubling"))
RANKS = {2: 1, 8: 3}
"""Ranks → rounds."""
CALLS, REPEATS = 200, 300


def least(*actions: Callable[[], object]) -> list[float]:
    """Return the least processor time of each action in microseconds; they take turns."""
    best = [float("inf")] * len(actions)
    for _ in range(REPEATS):
        for i, action in enumerate(actions):
            start = time.process_time_ns()
            for _ in range(CALLS):
                action()
            best[i] = min(best[i], (time.process_time_ns() - start) / CALLS / 1e3)
    return best


def runner(engine: str, comm: MPI.Intracomm, program: Program, reduces: bool) -> Callable[[], None]:
    """Return the call that runs a program on eight bytes (a barrier: on none)."""
    send, recv = np.ones(8, np.uint8), np.ones(8, np.uint8)
    op, datatype, itemsize = (MPI.SUM, MPI.DOUBLE, 8) if reduces else (MPI.OP_NULL, MPI.BYTE, 1)
    counts = np.ones(program.nslots, np.int64) if reduces else 1
    if engine == "c":
        sized = c.Engine(comm, ranks=[0] * program.size).load(program).size(counts, itemsize)
        return lambda: sized.run(send, recv, op, datatype)
    loaded = python.load(program).size(counts, itemsize)
    own = np.empty(loaded.scratch_bytes, np.uint8), np.empty(loaded.own_bytes, np.uint8)
    carrier = python.Carrier(comm, [0] * program.size, 0)
    return lambda: python.start(carrier, loaded, (send, recv, *own), op, datatype, itemsize).wait()


def plain_round(comm: MPI.Intracomm, nbytes: int) -> float:
    """Return the least processor time in microseconds of a message to oneself and its receive, called from C."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/plain.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(ROOT / "bench/engines_plain.c"), "-o", path], check=True)
        function = ctypes.CDLL(path).plain_round
    function.restype = ctypes.c_double
    function.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_ssize_t, ctypes.c_ssize_t, *[ctypes.c_int] * 3]
    calls = (address(f"MPI_{name}") for name in ("Isend", "Irecv", "Test"))
    took = float(function(*calls, handle(comm), handle(MPI.BYTE), nbytes, CALLS, REPEATS))
    assert took > 0
    return took


def main() -> int:
    comm = MPI.COMM_SELF.Dup()
    rows: list[dict[str, Any]] = []
    for collective, algorithm in CASES:
        for engine in ("c", "python"):
            programs = [bind(make_schedule(collective, algorithm, Topology.flat(p)), 0) for p in RANKS]
            times = least(*(runner(engine, comm, program, collective == "allreduce") for program in programs))
            took = dict(zip(RANKS, times, strict=True))
            a_round = (took[8] - took[2]) / (RANKS[8] - RANKS[2])
            row = {"engine": engine, "collective": collective, "call_us": took[2], "round_us": a_round}
            rows.append({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()})
            print(rows[-1], flush=True)
    one, other, status = np.ones(8, np.uint8), np.ones(8, np.uint8), MPI.Status()
    plain = round(least(lambda: comm.Sendrecv(one, 0, 0, other, 0, 0, status))[0], 3)
    print("mpi4py's Sendrecv to itself:", plain, "us")
    in_c = {nbytes: round(plain_round(comm, nbytes), 3) for nbytes in (0, 8)}
    print("the same from C:", in_c, "us by bytes")
    figures = {"sendrecv_us": plain, "plain_c_us": in_c, "figures": rows}
    print(f"kept {keep_for_library('engines', figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
