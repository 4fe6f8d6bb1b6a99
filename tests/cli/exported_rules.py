"""Under mpiexec: calls every collective and checks the data; rank 0 prints which allreduce ran, by its rounding."""

import hashlib
import sys

import numpy as np
from mpi4py import MPI


def product(a, b, _datatype):
    """b = a b, of 2 x 2 matrices."""
    left, right = (np.frombuffer(x, np.int64).reshape(-1, 2, 2) for x in (a, b))
    right[:] = left @ right


def matrices(rank, count):
    return np.random.default_rng(rank).integers(-2, 3, (count, 2, 2))


def check(comm, nbytes):
    """Every collective with ``nbytes`` in the whole vector, by numbers whose sum is exact in every order."""
    rank, size = comm.rank, comm.size
    n = nbytes // 8
    block = n // size
    whole = [np.random.default_rng(r).integers(0, 1000, block * size) for r in range(size)]
    mine, total = whole[rank], sum(whole)
    out = np.empty_like(mine)
    comm.Allreduce(mine, out)
    assert (out == total).all(), "allreduce"
    comm.Allgather(mine[:block], out)
    assert (out == np.concatenate([x[:block] for x in whole])).all(), "allgather"
    comm.Alltoall(mine, out)
    blocks = slice(rank * block, (rank + 1) * block)
    assert (out == np.concatenate([x[blocks] for x in whole])).all(), "alltoall"
    out = mine.copy()
    comm.Alltoall(MPI.IN_PLACE, out)
    assert (out == np.concatenate([x[blocks] for x in whole])).all(), "alltoall in place"
    out = whole[1].copy() if rank == 1 else np.empty_like(mine)
    comm.Bcast(out, 1)
    assert (out == whole[1]).all(), "bcast"
    comm.Reduce(mine, out, root=1)
    assert rank != 1 or (out == total).all(), "reduce"
    comm.Reduce_scatter(mine, out[:block], [block] * size)
    assert (out[:block] == total[blocks]).all(), "reduce_scatter"
    comm.Reduce_scatter_block(mine, out[:block])
    assert (out[:block] == total[blocks]).all(), "reduce_scatter_block"
    comm.Barrier()


def check_order(comm, nbytes, matrix, operation):
    """The reductions by matrix products, where the order counts."""
    rank, size = comm.rank, comm.size
    share = nbytes // 32 // size
    count = share * size
    wanted = np.broadcast_to(np.eye(2, dtype=np.int64), (count, 2, 2))
    for r in range(size):
        wanted = wanted @ matrices(r, count)
    mine, out = matrices(rank, count), np.empty((count, 2, 2), np.int64)
    comm.Allreduce([mine, count, matrix], [out, count, matrix], operation)
    assert (out == wanted).all(), "allreduce in order"
    comm.Reduce([mine, count, matrix], [out, count, matrix], operation, 1)
    assert rank != 1 or (out == wanted).all(), "reduce in order"
    part, blocks = np.empty((share, 2, 2), np.int64), slice(rank * share, (rank + 1) * share)
    comm.Reduce_scatter([mine, count, matrix], [part, share, matrix], [share] * size, operation)
    assert (part == wanted[blocks]).all(), "reduce_scatter in order"
    comm.Reduce_scatter_block([mine, share, matrix], [part, share, matrix], operation)
    assert (part == wanted[blocks]).all(), "reduce_scatter_block in order"


def fingerprint(comm, nbytes):
    """A hash of a sum whose rounding tells in which order it was added."""
    numbers = np.random.default_rng(comm.rank)
    x = numbers.standard_normal(nbytes // 8) * 10.0 ** numbers.integers(-8, 8, nbytes // 8)
    out = np.empty_like(x)
    comm.Allreduce(x, out)
    return hashlib.sha256(out.tobytes()).hexdigest()[:12]


def main():
    world = MPI.COMM_WORLD
    sizes = [int(word) for word in sys.argv[1].split(",")]
    operation = MPI.Op.Create(product, commute=False)
    matrix = MPI.INT64_T.Create_contiguous(4).Commit()
    smaller = world.Split(0 if world.rank < world.size - 1 else MPI.UNDEFINED)
    for comm in (world, smaller):
        if comm != MPI.COMM_NULL:
            for nbytes in sizes:
                check(comm, nbytes)
                if sys.argv[2] == "check":
                    check_order(comm, nbytes, matrix, operation)
    if smaller != MPI.COMM_NULL:
        prints = [fingerprint(smaller, nbytes) for nbytes in sizes]
    mine = [fingerprint(world, nbytes) for nbytes in sizes]
    if world.rank == 0:
        print("all", *mine)
        print("fewer", *prints, flush=True)


if __name__ == "__main__":
    main()
