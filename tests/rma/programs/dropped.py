"""A network that drops half of all pieces: a wait past its limit names who and what is missing; argument: transport."""

import sys

import numpy as np
from mpi4py import MPI

from topocomm import rma


def time_out(signal: rma.Signal) -> rma.WaitTimeout | None:
    """The error of a wait, or None if everything came."""
    try:
        signal.wait(0.1)
    except rma.WaitTimeout as error:
        return error
    return None


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
            error = time_out(signal)
            if error is None:
                assert (memory.array == np.arange(100)).all()
                whole += 1
                continue
            ((source, tag, pieces, arrived),) = error.missing
            assert (source, tag) == (other, 23)
            assert f"missing: rank {other} tag 23" in str(error)
            assert (f"({arrived} of {pieces} pieces)" in str(error)) == (pieces > 0)
            assert 0 < arrived < pieces <= 3 if pieces else arrived == 0
            part += pieces > 0
            none += pieces == 0
    assert all(comm.allreduce(n) for n in (whole, part, none)), (whole, part, none)
    print("passed", flush=True)


main()
