"""Data lands while its target computes and never calls in, if and only if there is a progress thread; argument:
transport."""

import sys
import time

import numpy as np
from mpi4py import MPI

from topocomm import rma


def landed(memory: rma.Memory, value: float, limit: float) -> bool:
    """Looks at the memory alone."""
    end = time.monotonic() + limit
    while not (memory.array == value).all() and time.monotonic() < end:
        time.sleep(0.001)
    return bool((memory.array == value).all())


def main() -> None:
    comm, transport = MPI.COMM_WORLD, sys.argv[1]
    options = {"provider": "tcp", "nics": ["lo"]} if transport == "ofi" else {}
    for thread in (True, False):
        with rma.Context(comm, transports=[transport], progress_thread=thread, timeout=30, **options) as context:
            other = 1 - comm.rank
            memories, signal = [context.allocate(50_000) for _ in range(2)], context.signal()
            blocks = [m.block(m.array, signal, other, tag=k) for k, m in enumerate(memories)]
            targets = context.exchange({other: blocks})[other]
            plan = context.plan("remote")
            for k in range(2):
                plan.put(np.full(50_000, comm.rank + 1.0), targets[k])
            if comm.rank == 0:
                plan.start()
                if thread:
                    plan.wait(20)  # at the target, which does not call in
                comm.send("sent", 1)
                plan.wait(20)
                comm.recv(source=1)
            else:
                comm.recv(source=0)
                assert landed(memories[1], 1.0, 20 if thread else 0.1) == thread
                assert (signal.state.arrived == 2) == thread
                signal.wait()
                assert landed(memories[0], 1.0, 0)
                comm.send("seen", 0)
    print("passed", flush=True)


main()
