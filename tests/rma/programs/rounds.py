"""Hand-made plans: what alternates and writes back is proven, everything else refused on all ranks; three ranks."""

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma


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


def main() -> None:
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
