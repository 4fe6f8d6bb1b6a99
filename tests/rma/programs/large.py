"""Puts and gets beyond a core's cache, copied in a way of their own: every byte, any alignment, no byte more."""

import numpy as np
from mpi4py import MPI

from topocomm import rma

MARGIN, LARGEST = 256, 3 << 20


def check(context: rma.Context, offset: int, size: int) -> None:
    me, peer = context.rank, 1 - context.rank
    memory, arrived, read = context.allocate(LARGEST, np.uint8), context.signal(), context.signal()
    memory.array[:] = 7
    mine = memory.array[offset : offset + size]
    written, asked = context.exchange({peer: [memory.block(mine, arrived, peer), memory.block(mine, read, peer)]})[peer]
    sent = [np.random.default_rng(r).integers(0, 256, size + 1, np.uint8)[1:] for r in range(2)]
    put = context.plan()
    put.put(sent[me], written)
    put.start()
    arrived.wait()
    put.wait()
    assert (mine == sent[peer]).all(), (offset, size)
    assert (memory.array[:offset] == 7).all()
    assert (memory.array[offset + size :] == 7).all()
    room = np.full(size + 2 * MARGIN, 9, np.uint8)
    got = room[MARGIN - 3 : MARGIN - 3 + size]
    get = context.plan()
    get.get(got, asked)
    get.start()
    get.wait()
    assert (got == sent[me]).all(), (offset, size)
    assert (room[: MARGIN - 3] == 9).all()
    assert (room[MARGIN - 3 + size :] == 9).all()
    read.wait()


def main() -> None:
    for offset, size in [(0, 1 << 20), (1, 1 << 20), (63, (1 << 20) + 1), (64, (2 << 20) - 7), (17, 2 << 20)]:
        with rma.Context(MPI.COMM_WORLD, transports=["shm"]) as context:
            check(context, offset, size)
            MPI.COMM_WORLD.Barrier()
    print("passed")


main()
