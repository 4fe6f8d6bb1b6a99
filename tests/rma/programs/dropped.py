"""A network that drops half of all pieces: a wait past its limit names who and what is missing; argument: transport."""

import sys

import numpy as np
from mpi4py import MPI

from topocomm import rma


def main() -> None:
    comm, transport = MPI.COMM_WORLD, sys.argv[1]
    other = 1 - comm.rank
    options = {"provider": "tcp", "nics": ["lo"]} if transport == "ofi" else {}
    whole = part = none = 0
    for seed in range(8):
        faults = rma.Faults(seed=10 * seed, pieces=3, delay_us=0, duplicate=0.0, drop=0.5)
        with rma.Context(comm, transports=[transport], faults=faults, timeout=30, **options) as context:
            memory, signal = context.allocate(100), context.signal()
            target = context.exchange({other: [memory.block(memory.array, signal, other, tag=23)]})[other][0]
            plan = context.plan()
            plan.put(np.arange(100.0), target)
            plan.start()
            plan.wait()
            context.flush()
            everybody = comm.Ibarrier()
            while not everybody.Test():
                context.progress()
            try:
                signal.wait(0.1)
                assert (memory.array == np.arange(100)).all()
                whole += 1
            except rma.WaitTimeout as error:
                ((source, tag, pieces, arrived),) = error.missing
                assert (source, tag) == (other, 23)
                assert f"missing: rank {other} tag 23" in str(error)
                if pieces:
                    assert 0 < arrived < pieces <= 3
                    assert f"({arrived} of {pieces} pieces)" in str(error)
                    part += 1
                else:
                    assert arrived == 0
                    none += 1
    assert all(comm.allreduce(n) for n in (whole, part, none)), (whole, part, none)
    print("passed", flush=True)


main()
