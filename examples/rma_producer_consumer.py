"""A producer puts items into the consumer's memory; the notification comes with the data, and so does the way back.

mpiexec -n 2 python examples/rma_producer_consumer.py
"""

import numpy as np
from mpi4py import MPI

from topocomm import rma

ITEMS = 1000
PRODUCER, CONSUMER = 0, 1


def main() -> None:
    comm = MPI.COMM_WORLD
    if comm.size != 2:
        raise SystemExit(f"needs 2 ranks, got {comm.size}")
    total = 0.0
    with rma.Context(comm) as context:
        # two alternating places for items at the consumer, and the right to write one message of no bytes back
        memory = context.allocate((2, 64))
        signals = [context.signal() for _ in range(2)]
        peer = 1 - comm.rank
        views = [memory.array[k] if comm.rank == CONSUMER else memory.array[k, :0] for k in range(2)]
        targets = context.exchange({peer: [memory.block(views[k], signals[k], peer, tag=k) for k in range(2)]})[peer]
        item = np.zeros(64)
        plans = [context.plan() for _ in range(2)]
        for k in range(2):
            plans[k].put(item if comm.rank == PRODUCER else item[:0], targets[k])

        for n in range(ITEMS):
            k = n % 2
            if comm.rank == PRODUCER:
                if n >= 2:  # the place of item n was read: the consumer said so
                    signals[k].wait()
                    signals[k].rearm()
                plans[k].wait()
                item[:] = n
                plans[k].start()
            else:
                signals[k].wait()
                total += memory.array[k].sum()
                signals[k].rearm()
                plans[k].start()
    if comm.rank == CONSUMER:
        expected = 64.0 * ITEMS * (ITEMS - 1) / 2
        print(f"consumed {ITEMS} items, sum {total:.0f}, expected {expected:.0f}")
        if total != expected:
            raise SystemExit("wrong sum")


if __name__ == "__main__":
    main()
