"""Every bad argument has an error of its own that names rank, value and what would do. One rank."""

import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma

COMM = MPI.COMM_SELF


def refused(call: Callable[[], Any], kind: type[Exception], *words: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


def settings() -> None:
    def opened(**options: Any) -> Callable[[], Any]:
        return lambda: rma.Context(COMM, **{"transports": ["shm"], **options})

    low, kind = rma.RangeError, rma.KindError
    for field, value, bounds in (
        ("blocks", 9000, "1 to 8192"), ("blocks", 0, "1 to 8192"), ("signals", -1, "1 to"), ("queues", 300, "0 to 256"),
        ("queue_depth", 100, "power of two"), ("outstanding", 0, "1 to"),
    ):  # fmt: skip
        refused(opened(limits=rma.Limits(**{field: value})), low, rf"rank 0: Limits\.{field} is {value}, .*{bounds}")
    for field, number in (("drop", 2.0), ("drop", -1.0), ("duplicate", float("nan")), ("pieces", 0), ("seed", -1)):
        refused(opened(faults=rma.Faults(**{field: number})), low, rf"rank 0: Faults\.{field} is {number}")  # type: ignore[arg-type]
    for weight in (float("nan"), -1.0, float("inf"), 0.0):
        refused(opened(weights=[weight]), low, rf"weights\[0\] is {weight}, needs a finite number above zero")
    refused(opened(nics=["lo"], weights=[1, 2]), low, "2 weights for 1 NIC")
    refused(opened(timeout=-1), low, "rank 0: timeout is -1")
    refused(opened(timeout=float("nan")), low, "timeout is nan")
    refused(opened(timeout=None), kind, "timeout is None")
    refused(opened(timeout="x"), kind, "timeout is 'x'")
    refused(opened(stripe_from=-1), low, "stripe_from is -1")
    refused(opened(transports="shm"), kind, "'shm', needs a list")
    refused(opened(nics="lo"), kind, "'lo', needs a list")
    refused(opened(nics=["x" * 300]), low, "300 bytes, at most 255")
    refused(opened(limits=5), kind, "limits is 5")
    for comm in (None, 3, MPI.COMM_NULL):
        refused(lambda c=comm: rma.Context(c), kind, "is no communicator")
    os.environ["TOPOCOMM_RMA_TRANSPORTS"] = "bogus"
    refused(opened(transports=None), low, "TOPOCOMM_RMA_TRANSPORTS=bogus", "shm, ofi, mpi")
    del os.environ["TOPOCOMM_RMA_TRANSPORTS"]
    if any(c.transport == "ofi" and c.present for c in rma.capabilities()):
        refused(
            opened(transports=["ofi"], provider="nosuch"), rma.TransportError, "provider nosuch", "there are .*lo of"
        )
        refused(opened(transports=["shm", "ofi"], nics=["eth99"]), rma.TransportError, "interface eth99", "there are ")


def blocks(context: rma.Context) -> None:
    memory, signal = context.allocate(10), context.signal()
    low, kind = rma.RangeError, rma.KindError
    for source in (5, -1, MPI.PROC_NULL):
        refused(lambda s=source: memory.block(memory.array, signal, s), low, f"rank 0: source is {source}, .*0 to 0")
    refused(lambda: memory.block(memory.array, signal, 0, tag=-1), low, "tag is -1")
    refused(lambda: memory.block(memory.array, None, 0), kind, "signal is None")  # type: ignore[arg-type]
    refused(lambda: memory.block(memory.array[::2], context.signal("stream"), 0), low, "must be contiguous")
    with rma.Context(COMM, transports=["shm"]) as other:
        refused(lambda: memory.block(memory.array, other.signal(), 0), low, "another context")
    refused(lambda: context.allocate(-1), low, "shape -1 is -1")
    refused(lambda: context.allocate((2**33, 2**31), np.uint8), low, f"{2**64} bytes, at most {2**46}")
    refused(lambda: context.allocate(2**50), low, str(2**50))
    refused(lambda: context.allocate(4, "nope"), kind, "'nope'")
    refused(lambda: context.transport(9), low, "peer is 9, .*0 to 0")
    refused(lambda: context.alive(9), low, "peer is 9")
    block = memory.block(memory.array, signal, 0, tag=4)
    refused(lambda: context.open(b""), kind, "got bytes; see BlockHandle.from_bytes")  # type: ignore[arg-type]
    refused(lambda: context.open(block), kind, "ship block.ticket")  # type: ignore[arg-type]
    garbage = b"x" * rma.BlockHandle.BYTES
    refused(lambda: context.open(rma.BlockHandle.from_bytes(garbage)), rma.BlockError, "describes no dtype")
    other = rma.BlockHandle(garbage, block.ticket.dtype)
    refused(lambda: context.open(other), rma.BlockError, "not a block of a connected peer")
    refused(lambda: context.exchange([]), kind, "mapping of ranks")  # type: ignore[arg-type]
    refused(lambda: context.exchange({0: block}), kind, "list of blocks")  # type: ignore[dict-item]
    refused(lambda: context.exchange({1: [block]}), low, "is 1, .*0 to 0")


def transfers(context: rma.Context) -> None:
    memory, signal = context.allocate(10), context.signal()
    block = memory.block(memory.array, signal, 0, tag=4)
    target, plan = context.open(block.ticket), context.plan()
    low, kind = rma.RangeError, rma.KindError
    who = "put on rank 0, rank 0's block tag 4: "
    refused(lambda: plan.put(np.ones(10), block), kind, "ship block.ticket to the rank")  # type: ignore[arg-type]
    refused(lambda: plan.put(np.ones(10), memory), kind, "a Memory")  # type: ignore[arg-type]
    refused(lambda: plan.put(np.ones(10), target, value=-1), low, f"{who}value is -1")
    refused(lambda: plan.put(np.ones(10), target, value=2**64), low, f"value is {2**64}")
    refused(lambda: plan.put(np.ones(1), target, offset=-1), low, "offset .*elements of float64.* is -1, .*0 to 10")
    refused(lambda: plan.put(np.ones(4), target, offset=8), low, "4 elements of float64, .*room for 2 after offset 8")
    raw = context.allocate(10, np.uint8)
    bytes_ = context.open(raw.block(raw.array, signal, 0).ticket)
    refused(lambda: plan.put(np.ones(12, np.uint8), bytes_), low, "12 bytes, the block has room for 10")
    refused(lambda: plan.set_value(0, 1), low, "transfer 0, the plan has none")
    item = plan.put(np.ones(10), target)
    refused(lambda: plan.set_value(item + 1, 1), low, "transfer is 1, .*0 to 0")
    refused(lambda: plan.start(5), kind, "after is 5")  # type: ignore[arg-type]
    refused(lambda: plan.wait(float("nan")), low, "wait of a plan on rank 0: timeout is nan")
    refused(lambda: signal.wait(float("nan")), low, "rank 0: timeout is nan")
    refused(lambda: signal.wait(-1), low, "timeout is -1")
    refused(lambda: signal.wait("x"), kind, "timeout is 'x'")  # type: ignore[arg-type]
    refused(lambda: plan.start(signal), rma.BusyError, "epoch 0 has 0 of 2 messages")
    freed = context.signal()
    freed.free()
    refused(lambda: plan.start(freed), rma.FreedError, "the signal was freed")
    refused(target.close, rma.BusyError, "free the plan first")


def signals(context: rma.Context) -> None:
    counted, stream = context.signal(), context.signal("stream")
    refused(lambda: counted.event(0.1), rma.UnsupportedError, r"counted; make it with signal\('identified'\)")
    refused(counted.try_event, rma.UnsupportedError, "identified")
    refused(lambda: counted.take(1, 0.1), rma.UnsupportedError, r"counted; make it with signal\('stream'\)")
    refused(lambda: stream.wait(0.1), rma.UnsupportedError, "no epochs; use take")
    refused(lambda: stream.take(0), rma.RangeError, "count is 0")
    refused(lambda: rma.wait_any([counted, None]), rma.KindError, "None is no signal")  # type: ignore[list-item]
    memory, one = context.allocate(4), context.signal()
    ticket = memory.block(memory.array, one, 0).ticket
    with context.plan() as plan:
        plan.put(np.ones(4), context.open(ticket))
        refused(lambda: context.open(ticket), rma.BlockError, "opened here before: use that target")
        plan.start()
    one.wait()
    for state, words in (
        (rma.SignalState(epoch=4, expected=1, arrived=3, early=0, surplus=0), "3 messages and expects 1: 2 too many"),
        (rma.SignalState(epoch=4, expected=1, arrived=1, early=0, surplus=2), "2 messages too many came for the epoch"),
        (rma.SignalState(epoch=4, expected=1, arrived=1, early=0, surplus=0), "epoch 3 after it had been re-armed"),
    ):
        assert words in too_many(context, state), words


def too_many(context: rma.Context, state: rma.SignalState) -> str:
    """What a signal in this state says of its surplus."""
    kind = type("Counted", (rma.Signal,), {"state": state})
    return str(kind(context)._too_many())


def limits() -> None:
    few = rma.Limits(signals=6, blocks=2, queues=2, queue_depth=4)
    with rma.Context(COMM, transports=["shm"], limits=few) as context:
        memory, kept = context.allocate(10), [context.signal("identified") for _ in range(2)]
        refused(lambda: context.signal("identified"), rma.LimitError, "2 identified signals.*larger Limits.queues")
        memory.block(memory.array, kept[0], 0)
        refused(lambda: memory.block(memory.array, kept[0], 0), rma.LimitError, "8 events.*Limits.queue_depth.*than 4")
        counted = [context.signal() for _ in range(4)]
        refused(context.signal, rma.LimitError, "6 signals exist.*larger Limits.signals")
        memory.block(memory.array, counted[0], 0)
        refused(lambda: memory.block(memory.array, counted[0], 0), rma.LimitError, "2 blocks exist.*Limits.blocks")


def closed() -> None:
    context = rma.Context(COMM, transports=["shm"])
    memory, signal, plan = context.allocate(1), context.signal(), context.plan()
    context.close()
    calls: list[Callable[[], Any]] = [
        lambda: context.allocate(3), context.signal, context.plan, context.flush, lambda: context.stats, plan.start,
        plan.test, signal.wait, memory.free, lambda: context.alive(0), lambda: context.exchange({}), context.__enter__,
    ]  # fmt: skip
    for call in calls:
        refused(call, rma.FreedError, "rank 0: the context was closed")
    context.close()


def main() -> None:
    settings()
    with rma.Context(COMM, transports=["shm"], timeout=5) as context:
        blocks(context)
        transfers(context)
        signals(context)
    limits()
    closed()
    print("passed", flush=True)


main()
