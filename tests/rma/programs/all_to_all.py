"""Everybody puts to everybody with alternating buffers; each byte of each message is checked on each notification.

Arguments: transport, faulty (0/1), checked (0/1), rounds; for ofi also provider and interfaces.
"""

import sys

import numpy as np
from mpi4py import MPI

from topocomm import rma

SIZES = (0, 1, 127, 4096, 65536 + 3)


def datum(source: int, target: int, round_: int, size: int) -> np.ndarray:
    return ((source * 31 + target * 17 + round_ * 7 + np.arange(size) * 13) % 251).astype(np.uint8)


def one_size(context: rma.Context, size: int, rounds: int) -> None:
    me, ranks = context.rank, range(context.size)
    memories = [context.allocate((context.size, size + 8), np.uint8) for _ in range(2)]
    signals = [context.signal() for _ in range(2)]
    for memory in memories:
        memory.array[:] = 255
    views = [[memories[k].array[s, 4 : 4 + size] for k in range(2)] for s in ranks]
    blocks = {s: [memories[k].block(views[s][k], signals[k], s, tag=k) for k in range(2)] for s in ranks}
    targets = context.exchange(blocks)
    source = np.zeros((2, context.size, size), np.uint8)
    plans = [context.plan("remote") for _ in range(2)]
    for k in range(2):
        for t in ranks:
            plans[k].put(source[k, t], targets[t][k])
    for round_ in range(rounds):
        k = round_ % 2
        plans[k].wait()
        for t in ranks:
            source[k, t] = datum(me, t, round_, size)
        plans[k].start()
        signals[k].wait()
        for s in ranks:
            row = memories[k].array[s]
            assert (row[4 : 4 + size] == datum(s, me, round_, size)).all(), (me, s, round_, size)
            assert (row[:4] == 255).all()
            assert (row[4 + size :] == 255).all()
        signals[k].rearm()
    for plan in plans:
        plan.wait()


def main() -> None:
    transport, faulty, checked, rounds = sys.argv[1], *map(int, sys.argv[2:5])
    provider, nics = (sys.argv[5], sys.argv[6].split(",")) if transport == "ofi" else ("", [])
    comm = MPI.COMM_WORLD
    faults = rma.Faults(seed=5, delay_us=200, duplicate=0.2) if faulty else None
    for size in SIZES:
        with rma.Context(
            comm, transports=[transport], checked=bool(checked), faults=faults, timeout=30, provider=provider,
            nics=nics, stripe_from=1024,
        ) as context:  # fmt: skip
            assert all(context.transport(peer) == transport for peer in range(context.size))
            one_size(context, size, rounds)
            stats = context.stats
            assert stats.messages == context.size * rounds
            assert stats.strays == 0
            if not checked and transport != "mpi":  # messages acknowledge remote completion
                assert stats.control == 0, "a steady exchange needs one message per neighbour and round"
    print("passed", flush=True)


main()
