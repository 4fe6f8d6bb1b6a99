"""Hand-made plans: what alternates and writes back is proven, everything else refused on all ranks; three ranks."""

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma
from topocomm.rma.overlap import overlapping


def make(context: rma.Context, sets: int, back: bool, tag: int = 0) -> tuple[list[rma.Plan], list[rma.Signal], list]:
    """A ring: each rank puts to the next; with ``back`` it gets a message of no bytes from there."""
    before, after = (context.rank - 1) % context.size, (context.rank + 1) % context.size
    memories, signals = [context.allocate(4) for _ in range(sets)], [context.signal() for _ in range(sets)]
    blocks = {before: [m.block(m.array, s, before, tag) for m, s in zip(memories, signals, strict=True)]}
    if back:
        blocks[after] = [m.block(m.array[:0], s, after, tag + 1) for m, s in zip(memories, signals, strict=True)]
    targets = context.exchange(blocks)
    plans = [context.plan() for _ in range(sets)]
    for k in range(sets):
        plans[k].put(np.full(4, float(context.rank)), targets[after][k])
        if back:
            plans[k].put(np.empty(0), targets[before][k])
    return plans, signals, memories


def blocks_apart() -> None:
    """Two blocks on the same bytes are no two places: refused when issued in checked mode, else when proven."""
    with rma.Context(MPI.COMM_WORLD, transports=["shm"], timeout=30) as context:
        me, p = context.rank, context.size
        peer = (me - 1) % p
        memory, other, signals = context.allocate((6, 8)), context.allocate(8), [context.signal() for _ in range(2)]
        columns = [memory.block(memory.array[:, k::2], signals[k], peer, tag=k) for k in range(2)]
        assert overlapping(iter(context.issued.at({s.number for s in signals}))) is None
        more = [memory.block(memory.array[3], signals[0], peer, tag=7)] if me == 1 else []
        with pytest.raises(rma.NotProvenError, match="rank 1's blocks tag 0 for rank 0 and tag 7 for rank 0 share by"):
            rma.prove_rounds([context.plan() for _ in range(2)], signals)
        for block in (*columns, *more):
            block.free()
        blocks = {peer: [other.block(other.array, signal, peer) for signal in signals]}
        targets, plans = context.exchange(blocks)[(me + 1) % p], [context.plan() for _ in range(2)]
        for plan, target in zip(plans, targets, strict=True):
            plan.put(np.zeros(8), target)
        with pytest.raises(rma.NotProvenError, match="alternate between two arrays") as caught:
            rma.prove_rounds(plans, signals)
        assert (caught.value.rank, caught.value.tag) == (0, 0)


def blocks_refused(context: rma.Context) -> None:
    memory, signal, stream = context.allocate((6, 8)), context.signal(), context.signal("stream")
    left = memory.block(memory.array[:, 0], signal, 0, tag=1)
    memory.block(memory.array[:, 1], signal, 1, tag=2)  # bounds that meet, and no element in common
    memory.block(memory.array[:, 2:4], signal, 1, tag=3)
    words = "block for rank 2 on rank .: tag 9 shares bytes with the block of tag 1 for rank 0; .* two arrays"
    with pytest.raises(rma.RangeError, match=words):
        memory.block(memory.array[2], signal, 2, tag=9)
    memory.block(memory.array.reshape(-1), stream, 2)
    left.free()
    memory.block(memory.array[:, 0], signal, 2, tag=9)
    with pytest.raises(rma.RangeError, match="tag 10 shares bytes with the block of tag 9"):
        context.register(memory.array[1]).block(memory.array[1], signal, 2, tag=10)


def main() -> None:
    blocks_apart()
    with rma.Context(MPI.COMM_WORLD, transports=["shm"], checked=True, timeout=30) as context:
        me, p = context.rank, context.size
        for sets in (2, 3):
            plans, signals, memories = make(context, sets, back=True)
            assert {plan.guarantee for plan in plans} == {"checked at each start"}
            rma.prove_rounds(plans, signals)
            assert {plan.guarantee for plan in plans} == {"proven for its place in the rounds"}
            for k in range(4 * sets):  # and checked mode finds the same at run time
                plans[k % sets].start(signals[(k - 1) % sets] if k else None)
                signals[k % sets].wait()
                plans[k % sets].wait()
                assert (memories[k % sets].array == (me - 1) % p).all()

        blocks_refused(context)
        after = 1 % p  # of rank 0, the first that finds a problem
        plans, signals, _ = make(context, 1, back=True, tag=40)
        with pytest.raises(
            rma.NotProvenError, match=f"rank {after}'s block tag 40 is used in round 0 and again"
        ) as caught:
            rma.prove_rounds(plans, signals)
        assert (caught.value.rank, caught.value.tag) == (after, 40)
        assert plans[0].guarantee == "checked at each start"

        plans, signals, _ = make(context, 2, back=False, tag=50)
        with pytest.raises(rma.NotProvenError, match="sends nothing to this rank in between"):
            rma.prove_rounds(plans, signals)
        plans, signals, _ = make(context, 2, back=True, tag=60)
        with pytest.raises(rma.NotProvenError, match="does not count at the signal that its owner waits for"):
            rma.prove_rounds(plans, signals[::-1] if me == 1 else signals)
        with pytest.raises(ValueError, match="rank 1: 1 and 1"):
            rma.prove_rounds(plans[: 1 if me == 1 else 2], signals[: 1 if me == 1 else 2])
        source = np.zeros(3 * p)
        exchange = rma.alltoallv(context, source, [3] * p, [3] * p)
        assert {plan.guarantee for plan in exchange.plans} == {"proven for its place in the rounds"}
    print("passed", flush=True)


main()
