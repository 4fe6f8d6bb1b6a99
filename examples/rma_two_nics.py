"""A message striped over two network interfaces, in proportion to their speeds; one signal counts all pieces.

    mpiexec -n 2 python examples/rma_two_nics.py IB0 IB1 [WEIGHT0 WEIGHT1]

Without arguments the loopback interface plays both, which shows the way, not the gain.
"""

import sys

import numpy as np
from mpi4py import MPI

from topocomm import rma

COUNT = 1 << 18


def open_context(comm: MPI.Intracomm) -> rma.Context:
    """What cannot be opened raises the same on every rank, so one of them says it."""
    nics = sys.argv[1:3] or ["lo", "lo"]
    provider = "tcp" if nics == ["lo", "lo"] else ""
    try:
        weights = [float(w) for w in sys.argv[3:5]] or [2.0, 1.0]
        return rma.Context(comm, transports=["ofi"], provider=provider, nics=nics, weights=weights)
    except (rma.RmaError, ValueError) as error:
        if comm.rank == 0:
            print(f"rma_two_nics.py {' '.join(sys.argv[1:])}: {error}", file=sys.stderr, flush=True)
        comm.Barrier()
        sys.exit(2)


def main() -> None:
    comm = MPI.COMM_WORLD
    with open_context(comm) as context:
        peer = comm.size - 1 - comm.rank
        memory, signal = context.allocate(COUNT), context.signal()
        target = context.exchange({peer: [memory.block(memory.array, signal, peer)]})[peer][0]
        plan = context.plan()
        plan.put(np.arange(COUNT, dtype=float) + comm.rank, target)
        plan.start()
        signal.wait()
        if not (memory.array == np.arange(COUNT, dtype=float) + peer).all():
            raise SystemExit("wrong data")
        signal.rearm()
        plan.wait()
        stats = context.stats
        print(f"rank {comm.rank}: {stats.messages} message of {stats.bytes} bytes went in {stats.pieces} pieces")


if __name__ == "__main__":
    main()
