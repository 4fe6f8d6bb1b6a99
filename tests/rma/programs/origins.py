"""Origins of a window's puts in every form that mpi4py takes, and ranks without memory; MPI.Win is the oracle."""

import array
from ctypes import c_char, c_double

import numpy as np
from mpi4py import MPI

from topocomm import rma
from topocomm.rma import errors

world = MPI.COMM_WORLD
p, r = world.size, world.rank
numbers = np.arange(8.0)
ORIGINS = [
    b"abcdefgh", bytearray(b"01234567"), memoryview(b"hgfedcba"), memoryview(numbers), array.array("d", [1, 2, 3]),
    numbers, [numbers, "d"], [numbers, MPI.DOUBLE], [numbers, 3], [numbers, 3, "d"], [numbers, 3, MPI.DOUBLE],
    [numbers, (2, 4), MPI.DOUBLE], [numbers, (2, 4)], [b"abcdefgh", 4, "B"], [b"abcdefgh", MPI.BYTE], (numbers, "d"),
    [memoryview(b"abcdefgh"), 3], [memoryview(numbers), 3], [array.array("d", [1, 2, 3]), 2],
    [(c_double * 3)(7, 8, 9), 2], (c_char * 4)(*b"wxyz"), [(c_char * 4)(*b"wxyz"), 2],
    [numbers, 2, 4, "d"], b"", np.empty(0), [numbers, 0, "d"],
]  # fmt: skip


def no_memory_here(rank):
    """Rank 1 has none."""
    return None if rank == 1 else np.zeros(80, np.uint8)


mine = no_memory_here(r)
theirs = no_memory_here(r)
target, source = (r + 2) % p if p > 2 else 0, (r - 2) % p
with rma.Win.Create(mine, 1, comm=world) as win:
    oracle = MPI.Win.Create(theirs, 1, comm=world)
    for origin in ORIGINS:
        if mine is not None:
            mine[:] = theirs[:] = 255
        world.Barrier()
        if target != 1:
            win.Put_notify(origin, target, 3, notify=1)
            oracle.Lock(target)
            plain = (
                origin if isinstance(origin, (list, tuple)) or not isinstance(origin, memoryview) else origin.cast("B")
            )
            oracle.Put(plain, target, (3,))
            oracle.Unlock(target)
        win.Flush()
        if r != 1 and (p > 2 or r == 0):
            win.Wait_notify(1, count=1 if p > 2 else p)
        world.Barrier()
        if mine is not None:
            assert (mine == theirs).all(), (origin, mine, theirs)
    assert win.tomemory().nbytes == (0 if r == 1 else 80)
    for wrong, kind in (
        (b"abc", errors.RangeError),  # to a rank without memory
        ([numbers, 9, "d"], errors.RangeError),
        ([numbers, "?!"], errors.RangeError),
        ([numbers, (1, -1), "d"], errors.RangeError),
        ([numbers, 1, 2, 3, 4], errors.RangeError),
        (memoryview(bytes(8))[::2], errors.RangeError),
        (3, errors.RangeError),
    ):
        try:
            win.Put_notify(wrong, 1 if wrong == b"abc" and p > 1 else 0, 70 if p == 1 and wrong == b"abc" else 0)
        except kind:
            continue
        assert p == 1, wrong
    found = ""
    try:
        win.Get_notify(b"abcd", 0)
    except errors.RangeError as error:
        found = str(error)
    assert "read-only" in found
    oracle.Free()
for memory in (bytearray(8), memoryview(bytearray(8)), array.array("d", [0]), MPI.BOTTOM):
    with rma.Win.Create(memory, comm=world) as win:
        win.Put_notify(bytes([r + 1]) if memory is not MPI.BOTTOM else b"", r)
        win.Wait_notify()
        assert memory is MPI.BOTTOM or bytes(memory)[0] == r + 1
print(f"rank {r} passed\n", end="", flush=True)
