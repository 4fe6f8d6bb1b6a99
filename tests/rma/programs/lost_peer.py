"""Rank 1 is killed while the others wait for it in every way there is; each must name it within two seconds.

Arguments: folder, rank, size, transport.
"""

import os
import signal
import sys
import time

import numpy as np
import pytest
from filecomm import FileComm

from topocomm import rma


def expect_lost(call) -> None:
    start = time.monotonic()
    with pytest.raises(rma.PeerLost, match="rank 1") as caught:
        call()
    assert caught.value.rank == 1
    assert time.monotonic() - start < 2, time.monotonic() - start


def main() -> None:
    folder, rank, size, transport = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    comm = FileComm(folder, rank, size)
    context = rma.Context(comm, transports=[transport], provider="tcp", nics=["lo"], timeout=30)
    memory = context.allocate((3, size, 8))
    signals = [context.signal(), context.signal("identified"), context.signal("stream")]
    blocks = {s: [memory.block(memory.array[k, s], signals[k], s, tag=k) for k in range(3)] for s in range(size)}
    targets = context.exchange(blocks)
    plan = context.plan()
    for t in range(size):
        plan.put(np.ones(8), targets[t][0])
    plan.start()
    plan.wait()
    signals[0].wait()
    signals[0].rearm()
    comm.allgather("ready")
    many = [memory.block(memory.array[0, 1, :1], signals[2], 1, tag=100 + i) for i in range(400)]
    if rank == 1:
        context.flush()
        if os.fork() == 0:  # a child that goes on must not make its parent look alive
            os.close(1), os.close(2)
            time.sleep(3)
            os._exit(0)
        time.sleep(0.3)  # the others are waiting by now
        os.kill(os.getpid(), signal.SIGKILL)
    if transport == "shm":  # over a network nothing holds a start back
        ahead = context.plan()
        ahead.put(np.ones(8), targets[1][0])
        expect_lost(lambda: [ahead.start() for _ in range(4)])
    others = context.plan()
    for t in (t for t in range(size) if t != 1):
        others.put(np.ones(8), targets[t][0])
    others.start()
    expect_lost(signals[0].wait)
    expect_lost(lambda: rma.wait_any([signals[0]]))
    expect_lost(signals[1].event)
    expect_lost(signals[2].take)
    assert not context.alive(1)
    expect_lost(plan.start)
    assert all(context.alive(r) for r in range(size) if r != 1)
    start = time.monotonic()
    for block in many:
        block.free()
    assert time.monotonic() - start < 2, time.monotonic() - start
    time.sleep(1)  # the others are still at it
    with pytest.raises(rma.PeerLost, match="leaving the context"):  # rank 1, or a survivor that has just left like this
        context.__exit__(None)
    assert not context.handle
    print("passed", flush=True)


main()
