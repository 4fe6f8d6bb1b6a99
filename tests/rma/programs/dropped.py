"""A network that drops half of all pieces: a wait past its limit names who and what is missing; argument: transport."""

import sys

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma


def arrived_whole(signal: rma.Signal, other: int) -> bool:
    """Else the error names what lacks."""
    if signal.test():
        return True
    with pytest.raises(rma.WaitTimeout, match=f"missing: rank {other} tag 23") as caught:
        signal.wait(0.1)
    ((source, tag, pieces, arrived),) = caught.value.missing
    assert (source, tag) == (other, 23)
    assert 0 < arrived < pieces <= 3 if pieces else arrived == 0
    assert (f"({arrived} of {pieces} pieces)" in str(caught.value)) == (pieces > 0)
    return False


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
            if arrived_whole(signal, other):
                assert (memory.array == np.arange(100)).all()
                whole += 1
            elif signal.missing()[0][2]:
                part += 1
            else:
                none += 1
    assert all(comm.allreduce(n) for n in (whole, part, none)), (whole, part, none)
    print("passed", flush=True)


main()
