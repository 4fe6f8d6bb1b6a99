"""What outlives what: arrays their memory, running plans their objects, contexts the program; argument: transport.

One rank; with ``exit`` as a second argument two ranks that leave their contexts open.
"""

import gc
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma

OPTIONS = {"ofi": {"provider": "tcp", "nics": ["lo"]}}.get(sys.argv[1], {})


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("topocomm-memory")


def arrays_outlive_their_memory() -> None:
    comm = MPI.COMM_SELF
    with rma.Context(comm, transports=[sys.argv[1]], **OPTIONS) as context:
        memory, freed = context.allocate((3, 4)), context.allocate(1000)
        view, kept = memory.array[1:, ::2], freed.array[5:7]
        memory.array[:], freed.array[:] = 3.0, 4.0
        freed.free()
        window = rma.Win.Allocate(80, 8, comm=comm, transports=[sys.argv[1]], **OPTIONS)
        part = window.tomemory()
        part[:] = 5
        window.Free()
        signal = context.signal()
        exchange = rma.Exchange(context, [np.ones(2)] * 2, [], [context.allocate(4) for _ in range(2)], [])
        last = exchange()
        memory.block(view, signal, 0)  # never freed
    assert mapped() > 0
    assert view.sum() == 12.0
    assert kept.sum() == 8.0
    assert part.sum() == 400
    assert last.shape == (4,)
    assert memory.array.sum() == 36.0
    del view, kept, part, last, memory, freed, window, exchange, signal
    gc.collect()
    assert mapped() == 0


def dropped_handles_are_freed(context: rma.Context) -> None:
    """Ten thousand memories, plans and signals dropped: nothing piles up, and targets are not pinned."""
    memory, signal = context.allocate(4), context.signal()
    target = context.open(memory.block(memory.array, signal, 0).ticket)
    before = mapped()
    for _ in range(10_000 if sys.argv[1] == "shm" else 2_000):
        plan = context.plan()
        plan.put(np.ones(4), target)
        context.signal("identified")
        context.allocate(100).array[:] = 1
    for _ in range(100):
        with context.allocate(10) as freed:
            assert freed.array[0] == 0
    del plan, freed
    context.progress()
    assert not context.dropped.waiting
    assert not context.dropped.kept
    assert mapped() == before
    target.close()


def running_plans_keep_their_arrays(context: rma.Context) -> None:
    """More puts than may be outstanding, of arrays that only the dropped plan knows."""
    n, count = 1 << 16, 40
    memory, signal = context.allocate((count, n), np.uint8), context.signal()
    targets = [context.open(memory.block(memory.array[i], signal, 0, tag=i).ticket) for i in range(count)]

    def send() -> None:
        plan = context.plan()
        for target in targets:
            plan.put(np.full(n, 1, np.uint8), target)
        plan.start()

    if context.transport(0) != "shm":
        plan = context.plan()
        for target in targets:
            plan.put(np.full(n, 3, np.uint8), target)
        assert plan.start() is False
        with pytest.raises(rma.BusyError, match="rank 0: it is still running; call wait"):
            plan.start()
        plan.wait()
        signal.wait()
        signal.rearm()
    send()
    gc.collect()
    others = [np.full(n, 2, np.uint8) for _ in range(count)]
    context.flush()
    signal.wait()
    assert (memory.array == 1).all()
    assert len(others) == count


def structured_arrays(context: rma.Context) -> None:
    kind = np.dtype([("a", "f8"), ("b", "i4"), ("c", "u1", (3,))], align=True)
    memory, signal = context.allocate(3, kind), context.signal()
    ticket = rma.BlockHandle.from_bytes(memory.block(memory.array, signal, 0).ticket.to_bytes())
    data, plan, target = np.zeros(3, kind), context.plan(), context.open(ticket)
    data["a"], data["c"] = [1, 2, 3], 7
    plan.put(data, target)
    plan.start()
    signal.wait()
    assert (memory.array["a"] == data["a"]).all()
    assert (memory.array["c"] == 7).all()
    with pytest.raises(rma.RangeError, match="the array is float64, the block"):
        context.plan().put(np.zeros(3), target)


def children_have_no_context(context: rma.Context) -> None:
    signal = context.signal()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.wait(0.1)
        except rma.FreedError as error:
            code = 0 if "forked" in str(error) else 2
        context.close()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert context.alive(0)
    assert signal.test()  # it expects nothing; and the parent's context still works


def end_of_program() -> None:
    """Rank 1 ends without closing anything; rank 0 notices."""
    context = rma.Context(MPI.COMM_WORLD, transports=[sys.argv[1]], timeout=20, progress_thread=True, **OPTIONS)
    memory, signal = context.allocate(1), context.signal()
    context.exchange({1: [memory.block(memory.array, signal, 1)]})
    if context.rank == 0:
        begin = time.monotonic()
        with pytest.raises(rma.PeerLost, match="rank 1 "):
            signal.wait()
        assert time.monotonic() - begin < 5
    del context, memory, signal
    gc.collect()
    print("passed", flush=True)


def main() -> None:
    if sys.argv[2:] == ["exit"]:
        end_of_program()
        return
    arrays_outlive_their_memory()
    limits = rma.Limits(signals=32, outstanding=8)
    with rma.Context(MPI.COMM_SELF, transports=[sys.argv[1]], timeout=20, limits=limits, **OPTIONS) as context:
        dropped_handles_are_freed(context)
        running_plans_keep_their_arrays(context)
        structured_arrays(context)
        if sys.argv[1] != "mpi":
            children_have_no_context(context)
        assert {c.note for c in rma.capabilities() if c.transport == "ofi"} != {""}
    print("passed", flush=True)


main()
