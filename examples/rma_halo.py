"""Heat on a square, its halo exchanged by notified puts into two alternating arrays, with checked mode on.

    mpiexec -n 4 python examples/rma_halo.py              # steps, and compares with one process's result
    mpiexec -n 4 python examples/rma_halo.py --violate    # one array instead of two: refused by name

With two arrays a neighbour's message of round k proves that it has read what round k - 1 wrote: no handshake is
needed. With one array nothing proves it, and checked mode says which rank and block.
"""

import sys

import numpy as np
from mpi4py import MPI

from topocomm import rma

SIDE, STEPS = 48, 20


def step(old: np.ndarray, new: np.ndarray) -> None:
    new[1:-1, 1:-1] = 0.2 * (old[1:-1, 1:-1] + old[:-2, 1:-1] + old[2:, 1:-1] + old[1:-1, :-2] + old[1:-1, 2:])


def start_values(rows: slice, columns: slice) -> np.ndarray:
    y, x = np.meshgrid(np.arange(SIDE)[rows], np.arange(SIDE)[columns], indexing="ij")
    return np.sin(0.3 * y) * np.cos(0.2 * x)


def alone() -> np.ndarray:
    fields = [np.zeros((SIDE + 2, SIDE + 2)) for _ in range(2)]
    fields[0][1:-1, 1:-1] = start_values(slice(None), slice(None))
    for n in range(STEPS):
        step(fields[n % 2], fields[(n + 1) % 2])
    return fields[STEPS % 2][1:-1, 1:-1]


def together(cart: MPI.Cartcomm) -> tuple[np.ndarray, tuple[slice, slice], int]:
    local = [SIDE // d for d in cart.dims]
    place = tuple(slice(c * n, (c + 1) * n) for c, n in zip(cart.coords, local, strict=True))
    with rma.Context(cart, checked=True) as context:
        memories = [context.allocate([n + 2 for n in local]) for _ in range(2)]
        memories[0].array[1:-1, 1:-1] = start_values(*place)
        exchange = rma.halo(context, memories, cart)
        for n in range(STEPS):
            step(exchange(), memories[(n + 1) % 2].array)
        return memories[STEPS % 2].array[1:-1, 1:-1].copy(), place, context.stats.messages


def violate(cart: MPI.Cartcomm) -> None:
    """Each rank tells its neighbour before it has read: the message proves nothing, and the second start is refused."""
    with rma.Context(cart, checked=True, timeout=10) as context:
        peer = (cart.rank + 1) % cart.size, (cart.rank - 1) % cart.size
        memory, signal = context.allocate((2, SIDE)), context.signal()
        blocks = {p: [memory.block(memory.array[i], signal, p, tag=7)] for i, p in enumerate(dict.fromkeys(peer))}
        targets = context.exchange(blocks)
        plan = context.plan()
        for mine in targets.values():
            plan.put(np.ones(SIDE), mine[0])
        plan.start()
        signal.wait()
        try:
            plan.start()
        except rma.NotProvenError as refused:
            print(f"rank {cart.rank}: refused, as it should be: {refused}", flush=True)
        else:
            raise SystemExit("an unsafe put was not noticed")


def main() -> None:
    comm = MPI.COMM_WORLD
    dims = MPI.Compute_dims(comm.size, 2)
    if SIDE % dims[0] or SIDE % dims[1]:
        raise SystemExit(f"{SIDE} × {SIDE} cells do not divide over {dims[0]} × {dims[1]} ranks")
    cart = comm.Create_cart(dims, [False, False])
    if "--violate" in sys.argv:
        violate(cart)
        return
    mine, place, messages = together(cart)
    if not np.allclose(mine, alone()[place], rtol=0, atol=1e-12):
        raise SystemExit(f"rank {comm.rank}: the result differs from one process's")
    neighbours = sum(r >= 0 for d in range(2) for r in cart.Shift(d, 1))
    counts = f"{messages} messages = {STEPS} × {neighbours} neighbours"
    print(f"rank {comm.rank}: {STEPS} steps equal one process's, {counts}")


if __name__ == "__main__":
    main()
