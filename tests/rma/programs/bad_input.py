"""Every refusal comes with its own error, before a byte has moved."""

import sys

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma


def refuse_shapes(context: rma.Context, memory: rma.Memory, signal: rma.Signal, target: rma.Target) -> None:
    other = np.zeros(10)
    with pytest.raises(rma.RangeError, match="not part of"):
        memory.block(other, signal, 0)
    with pytest.raises(rma.RangeError, match="strides"):
        memory.block(memory.array[::-1], signal, 0)
    with pytest.raises(rma.RangeError, match="needs a NumPy array"):
        memory.block([1.0, 2.0], signal, 0)  # type: ignore[arg-type]
    with pytest.raises(rma.RmaError):
        memory.block(memory.array[:1], signal, context.size)
    with pytest.raises(rma.RangeError, match="Python objects"):
        context.register(np.array([object()]))
    with pytest.raises(rma.RangeError, match="not contiguous"):
        context.register(np.zeros((4, 4))[:, 1])
    cube = context.allocate((1, 4, 4, 4, 4))
    plan = context.plan()
    with pytest.raises(rma.RangeError, match="float32"):
        plan.put(np.zeros(10, np.float32), target)
    with pytest.raises(rma.RangeError, match="room for 10"):
        plan.put(np.zeros(9), target)
    with pytest.raises(rma.RangeError, match="room for 8"):
        plan.put(np.zeros(9), target, offset=2)
    with pytest.raises(rma.RangeError, match="nested strides"):
        cube.block(cube.array[0, ::2, ::2, ::2, ::2], signal, 0)
    plan.put(np.zeros(10), target)
    with pytest.raises(rma.BlockError, match="one per epoch"):
        plan.put(np.zeros(10), target)
    plan.free()
    with pytest.raises(rma.FreedError):
        plan.start()


def refuse_handles(context: rma.Context) -> None:
    me = context.rank
    memory, signal = context.allocate(4), context.signal()
    block = memory.block(memory.array, signal, me, tag=9)
    ticket = rma.BlockHandle.from_bytes(block.ticket.to_bytes())
    with pytest.raises(rma.BlockError):
        context.open(rma.BlockHandle(ticket.wire[:100] + b"x" + ticket.wire[101:], ticket.dtype))
    with pytest.raises(rma.BusyError):
        memory.free()
    with pytest.raises(rma.BusyError):
        signal.free()
    with pytest.raises(rma.BusyError, match="0 of 1"):
        signal.rearm()
    target = context.open(ticket)
    plan = context.plan()
    plan.put(np.ones(4), target)
    block.free()
    for _ in range(1000):  # over a network a message tells the holder
        context.progress()
    with pytest.raises(rma.StaleBlockError, match="tag 9"):
        plan.start()
    with pytest.raises(rma.StaleBlockError):
        context.open(ticket)
    assert context.stats.strays == 0
    signal.free()
    with pytest.raises(rma.FreedError):
        signal.test()
    memory.free()
    with pytest.raises(rma.FreedError):
        memory.free()


def refuse_values(context: rma.Context) -> None:
    bits = 8 if context.transport(context.rank) == "ofi" else 64
    memory, signal = context.allocate(1), context.signal("identified")
    target = context.open(memory.block(memory.array, signal, context.rank).ticket)
    plan = context.plan()
    item = plan.put(np.ones(1), target, value=2**bits - 1)
    if bits < 64:
        with pytest.raises(
            rma.RangeError, match=r"value 256 is too large for the transport ofi to rank 0, which takes 255 at most"
        ):
            plan.set_value(item, 256)
        with pytest.raises(rma.RangeError, match="too large for the transport"):
            context.plan().put(np.ones(1), target, value=256)
    plan.start()
    assert signal.event().value == 2**bits - 1
    plan.wait()


def hold_back(context: rma.Context, target: rma.Target, signal: rma.Signal) -> None:
    plan = context.plan()
    plan.put(np.ones(10), target)
    for _ in range(3):
        plan.start()
    assert plan.try_start() is False
    context.timeout = 0.2
    with pytest.raises(rma.WaitTimeout, match="three epochs"):
        plan.start()
    context.timeout = 30
    for _ in range(3):
        signal.wait()
        signal.rearm()
    with pytest.raises(rma.WaitTimeout, match="missing: rank 0 tag 4") as caught:
        signal.wait(0.05)
    assert caught.value.missing == ((0, 4, 0, 0),)


def main() -> None:
    comm = MPI.COMM_SELF
    with pytest.raises(ValueError, match="unknown"):
        rma.Signal(None, "nonsense")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose some of"):
        rma.Context(comm, transports=["carrier pigeon"])
    options = {"provider": "tcp", "nics": ["lo"]} if sys.argv[1] == "ofi" else {}
    with rma.Context(comm, transports=[sys.argv[1]], timeout=30, **options) as context:
        memory, signal = context.allocate(10), context.signal()
        target = context.open(memory.block(memory.array, signal, 0, tag=4).ticket)
        refuse_shapes(context, memory, signal, target)
        refuse_handles(context)
        refuse_values(context)
        if sys.argv[1] == "shm":
            hold_back(context, target, signal)
    with pytest.raises(rma.FreedError):
        signal.test()
    print("passed", flush=True)


main()
