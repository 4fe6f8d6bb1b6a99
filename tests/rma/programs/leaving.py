"""Leaving a context when not all ranks leave alike, and entering with unlike settings; argument: transport."""

import sys
import time

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma

COMM = MPI.COMM_WORLD
OPTIONS = {"ofi": {"provider": "tcp", "nics": ["lo"]}}.get(sys.argv[1], {})


def opened(**options: object) -> rma.Context:
    return rma.Context(COMM, **{"transports": [sys.argv[1]], "timeout": 20, **OPTIONS, **options})  # type: ignore[arg-type]


def unlike_settings() -> None:
    first = COMM.rank == 0
    with pytest.raises(rma.RangeError, match="checked is True on rank 0, False on rank 1"):
        opened(checked=first)
    with pytest.raises(rma.RangeError, match="transports is 'shm,mpi' on rank 0, 'mpi' on rank 1"):
        opened(transports=["shm", "mpi"] if first else ["mpi"])
    with pytest.raises(rma.RangeError if first else rma.TransportError, match="rank 0: timeout is -1"):
        opened(timeout=-1 if first else 1)


def fail_on_rank_1() -> None:
    if COMM.rank == 1:
        raise RuntimeError("its own")


def one_leaves_after_an_error() -> None:
    begin = time.monotonic()
    error, words = (RuntimeError, "its own") if COMM.rank == 1 else (rma.PeerLost, "leaving .* rank 1 ")
    with pytest.raises(error, match=words), opened():
        fail_on_rank_1()
    assert time.monotonic() - begin < 5


def one_closes_while_others_wait() -> None:
    context = opened()
    memory, signal = context.allocate(4), context.signal()
    target = context.exchange({r: [memory.block(memory.array, signal, r)] for r in range(COMM.size)})[0][0]
    COMM.Barrier()
    if COMM.rank == 1:
        context.close()
    else:
        begin = time.monotonic()
        with pytest.raises(rma.PeerLost, match="rank 1 "):
            signal.wait()
        assert time.monotonic() - begin < 2
        assert not context.alive(1)
        assert target.owner == 0
    COMM.Barrier()
    context.close()


def a_block_offered_to_another_rank() -> None:
    context = opened()
    memory, signal = context.allocate(4), context.signal()
    issued, offered = (1, 2) if COMM.rank == 0 else (0, 0)
    blocks = {offered: [memory.block(memory.array, signal, issued, tag=8)]}
    with pytest.raises(rma.BlockError, match="rank 0: block tag 8 was issued to rank 1, and is offered to rank 2"):
        context.exchange(blocks)
    context.close()


def many_sends_at_the_end() -> None:
    """The last messages are longer than what MPI buffers, and nobody waits for them."""
    for _ in range(20):
        with opened(limits=rma.Limits(signals=4, blocks=16)) as context:
            memory, signal = context.allocate(1 << 20, np.uint8), context.signal()
            peer = (COMM.rank + 1) % COMM.size
            origin = (COMM.rank - 1) % COMM.size
            targets = context.exchange({origin: [memory.block(memory.array, signal, origin)]})
            plan = context.plan()
            plan.put(np.full(1 << 20, 1, np.uint8), targets[peer][0])
            plan.start()


def a_thread_that_still_polls() -> None:
    for _ in range(5):
        with opened(progress_thread=True) as context:
            memory, signal = context.allocate(1), context.signal()
            origin = (COMM.rank - 1) % COMM.size
            context.exchange({origin: [memory.block(memory.array, signal, origin)]})


def main() -> None:
    unlike_settings()
    one_leaves_after_an_error()
    one_closes_while_others_wait()
    one_leaves_after_an_error()
    a_block_offered_to_another_rank()
    if sys.argv[1] == "mpi":
        many_sends_at_the_end()
        a_thread_that_still_polls()
    with opened():
        assert COMM.allreduce(1) == COMM.size  # the communicator is as good as before
    print("passed", flush=True)


main()
