"""Gets, identified notifications, streams, wait_any, the window, and compiled callers; argument: transport."""

import sys

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma


def check_get(context: rma.Context) -> None:
    me, p = context.rank, context.size
    memory, read = context.allocate((p, 16)), context.signal()
    memory.array[:] = me * 100 + np.arange(p)[:, None]
    targets = context.exchange({r: [memory.block(memory.array[r], read, r)] for r in range(p)})
    got = np.zeros((p, 32))
    plan = context.plan()
    for owner in range(p):
        plan.get(got[owner, ::2], targets[owner][0])
    plan.start()
    plan.wait()
    assert (got[:, ::2] == np.arange(p)[:, None] * 100 + me).all()
    assert (got[:, 1::2] == 0).all()
    read.wait()  # everybody has read mine
    memory.array[:] = -1
    read.rearm()


def check_identified(context: rma.Context) -> None:
    me, p = context.rank, context.size
    memory, signal = context.allocate(p, np.int64), context.signal("identified")
    targets = context.exchange({r: [memory.block(memory.array[r : r + 1], signal, r, tag=50 + r)] for r in range(p)})
    source = np.array([me], np.int64)
    plan = context.plan()
    items = [plan.put(source, targets[t][0]) for t in range(p)]
    for round_ in range(3):
        for t in range(p):
            plan.set_value(items[t], (me * 16 + t + round_) % 256)
        plan.start()
        plan.wait()
        seen = set()
        while len(seen) < p:
            event = signal.event()
            assert event.epoch == round_
            assert event.tag == 50 + event.source
            assert event.value == (event.source * 16 + me + round_) % 256
            assert memory.array[event.source] == event.source
            seen.add(event.source)
        signal.wait()
        signal.rearm()
        context.comm.barrier()  # one buffer only: the program sees to it that nobody is ahead
    assert signal.try_event() is None


def check_wait_any(context: rma.Context) -> None:
    me, p = context.rank, context.size
    memory, signals = context.allocate(p), [context.signal() for _ in range(p)]
    targets = context.exchange({r: [memory.block(memory.array[r : r + 1], signals[r], r)] for r in range(p)})
    plan = context.plan()
    for t in range(p):
        plan.put(np.array([float(me)]), targets[t][0])
    plan.start()
    left = list(range(p))
    while left:
        i = rma.wait_any([signals[s] for s in left], timeout=20)
        assert memory.array[left[i]] == left[i]
        left.pop(i)
    plan.wait()


def check_window(transport: str, options: dict) -> None:
    comm = MPI.COMM_WORLD
    me, p = comm.rank, comm.size
    for make in ("Allocate", "Create"):
        if make == "Allocate":
            win = rma.Win.Allocate(8 * p, 8, comm=comm, transports=[transport], timeout=30, **options)
        else:
            win = rma.Win.Create(np.zeros(p), 8, comm=comm, transports=[transport], timeout=30, **options)
        with win:
            for t in range(p):
                win.Put_notify(np.array([me + 0.5]), t, target_disp=me, notify=1)
            win.Wait_notify(1, p)
            assert (win.tomemory().view(np.float64) == np.arange(p) + 0.5).all()
            assert win.Test_notify(1) is False
            win.Flush()
            comm.barrier()  # everybody's part is complete
            got = np.zeros(p)
            win.Get_notify(got, (me + 1) % p, notify=2)
            win.Flush()
            assert (got == np.arange(p) + 0.5).all()
            win.Wait_notify(2)
            check_calls(win)
            comm.barrier()
            check_many_puts(win)
    with pytest.raises(rma.FreedError, match="the window was freed"):
        win.tomemory()


def check_calls(win: rma.Win) -> None:
    """mpi4py's forms of a buffer, nobody as target, and everything else by name."""
    me, p = win.context.rank, win.context.size
    mine = np.arange(4.0)[:p]
    win.Put_notify(mine, MPI.PROC_NULL)
    win.Get_notify(mine, MPI.PROC_NULL)
    win.Put_notify([mine, MPI.DOUBLE], me)
    win.Put_notify([mine + 1, 1, MPI.DOUBLE], me, notify=1)
    win.Wait_notify()
    win.Wait_notify(1)
    win.Flush()
    assert win.tomemory().view(np.float64)[0] == 1
    if p > 1:
        assert win.tomemory().view(np.float64)[1] == 1
    one, vector = np.zeros(1), MPI.DOUBLE.Create_vector(2, 1, 2).Commit()
    refused = [
        ("target rank 9, the communicator has", lambda: win.Put_notify(one, 9)),
        ("notification 9, the window has 0 to 3", lambda: win.Put_notify(one, me, notify=9)),
        ("target_disp is -1, needs a whole number of at least 0", lambda: win.Put_notify(one, me, -1)),
        (f"88 bytes at displacement 0 in units of 8 bytes .* {8 * p} bytes", lambda: win.Put_notify(np.zeros(11), me)),
        (f"8 bytes at displacement {p} in units", lambda: win.Get_notify(one, me, p)),
        ("must be contiguous", lambda: win.Put_notify(np.zeros((4, 2))[:, 1], me)),
        ("Python objects", lambda: win.Put_notify(np.array([None]), me)),
        ("understands an array", lambda: win.Put_notify([one], me)),
        ("leaves gaps", lambda: win.Put_notify([np.zeros(4), 1, vector], me)),
        ("the array is read-only", lambda: win.Get_notify(np.frombuffer(bytes(8)), me)),
        ("notification 9, the window has 0 to 3", lambda: win.Wait_notify(9)),
        ("notification -1, the window has 0 to 3", lambda: win.Wait_notify(-1)),
        ("notification -1, the window has 0 to 3", lambda: win.Test_notify(-1)),
        ("count 0, must be at least 1", lambda: win.Wait_notify(0, 0)),
    ]
    for words, call in refused:
        with pytest.raises(rma.RangeError, match=words):
            call()
    with pytest.raises(TypeError, match=r"target_disp is .*, needs a whole number"):
        win.Put_notify(one, me, (0, 1, MPI.DOUBLE))
    vector.Free()


def check_many_puts(win: rma.Win) -> None:
    """A call that comes again finds its plan, with what the array holds now; few plans are kept, none for others."""
    me, p = win.context.rank, win.context.size
    right, here, source, nothing = (me + 1) % p, win.tomemory().view(np.float64), np.zeros(300), np.zeros(0)
    made, make = [], win.context.plan
    win.context.plan = lambda: made.append(make()) or made[-1]  # type: ignore[method-assign]
    for n in range(300):
        source[n % 7] = n
        win.Put_notify(source[n % 7 : n % 7 + 1], right, me)  # the view is new in each call, its bytes are not
        win.Wait_notify()
        assert here[(me - 1) % p] == n
        win.Put_notify(nothing, (me - 1) % p, notify=3)  # it was read
        win.Wait_notify(3)
    assert 8 <= len(made) <= 24, len(made)
    win.context.plan = make  # type: ignore[method-assign]
    for n in range(300):
        win.Put_notify(source[n : n + 1], right, me)
    win.Wait_notify(0, 300)
    assert here[(me - 1) % p] == source[299]
    win.Flush()
    assert not win._running
    assert 100 < len(win._idle) <= 128


def check_compiled(context: rma.Context) -> None:
    from numba import njit

    from topocomm.rma import jit

    start, wait, rearm, done = jit.plan_start, jit.signal_wait, jit.signal_rearm, jit.plan_wait

    @njit(nogil=True)
    def rounds(plans, signals, source, boxes, n):
        for i in range(n):
            k = i % 2
            if done(plans[k], 10.0) != 0:
                return -1000 - i
            source[k, 0] = i
            status = start(plans[k])
            if status == 0:
                status = wait(signals[k], 10.0)
            if status != 0 or boxes[k, 0] != i:
                return status - 100
            rearm(signals[k])
        return 0

    me, p = context.rank, context.size
    memory, signals = context.allocate((2, 1)), [context.signal() for _ in range(2)]
    origin = (me - 1) % p
    after = (me + 1) % p
    targets = context.exchange({origin: [memory.block(memory.array[k], signals[k], origin) for k in range(2)]})
    back = context.exchange({after: [memory.block(memory.array[k, :0], signals[k], after) for k in range(2)]})
    source, plans = np.zeros((2, 1)), [context.plan() for _ in range(2)]
    for k in range(2):
        plans[k].put(source[k], targets[after][k])
        plans[k].put(source[k, :0], back[origin][k])
    handles = np.array([jit.plan_handle(plan) for plan in plans]), np.array([jit.signal_handle(s) for s in signals])
    assert rounds(*handles, source, memory.array, 100) == 0
    assert "not yet" in jit.explain(1)


def main() -> None:
    transport = sys.argv[1]
    options = {"provider": "tcp", "nics": ["lo"]} if transport == "ofi" else {}
    with rma.Context(MPI.COMM_WORLD, transports=[transport], timeout=30, **options) as context:
        check_get(context)
        check_identified(context)
        check_wait_any(context)
        check_compiled(context)
    check_window(transport, options)
    print("passed", flush=True)


main()
