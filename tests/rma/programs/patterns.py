"""The converters beside mpi4py's own calls, round after round, in checked mode; argument: transport."""

import sys

import numpy as np
import pytest
from mpi4py import MPI

from topocomm import rma
from topocomm.rma.datatypes import datatype_views

ROUNDS = 6


def check_alltoallv(context: rma.Context, comm: MPI.Intracomm) -> None:
    me, p = comm.rank, comm.size
    send_counts = [(me + t) % 3 * 5 for t in range(p)]
    receive_counts = [(s + me) % 3 * 5 for s in range(p)]
    source, wanted = np.zeros(sum(send_counts)), np.zeros(sum(receive_counts))
    exchange = rma.alltoallv(context, source, send_counts, receive_counts)
    for round_ in range(ROUNDS):
        source[:] = np.arange(source.size) + 1000 * me + 1e6 * round_
        comm.Alltoallv([source, send_counts], [wanted, receive_counts])
        assert (exchange() == wanted).all(), (me, round_)


def check_sendrecv(context: rma.Context, comm: MPI.Intracomm) -> None:
    """A chain, which is not symmetric: it needs a message of no bytes back."""
    me, p = comm.rank, comm.size
    dest = me + 1 if me + 1 < p else MPI.PROC_NULL
    origin = me - 1 if me > 0 else MPI.PROC_NULL
    source, wanted = np.zeros(33), np.zeros(33)
    before = context.stats.messages
    exchange = rma.sendrecv(context, source, dest, 33, origin)
    assert exchange.credits == ([dest] if dest >= 0 else [])
    for round_ in range(ROUNDS):
        source[:] = np.arange(33) + 100 * me + round_
        comm.Sendrecv(source, dest, recvbuf=wanted, source=origin)
        got = exchange()
        if origin >= 0:
            assert (got == wanted).all(), (me, round_)
    neighbours = (dest >= 0) + (origin >= 0)
    assert context.stats.messages - before == neighbours * ROUNDS


def check_neighbours(context: rma.Context, comm: MPI.Intracomm) -> None:
    me, p = comm.rank, comm.size
    graph = comm.Create_dist_graph_adjacent([(me - 1) % p, (me - 2) % p], [(me + 1) % p, (me + 2) % p])
    source, wanted = np.zeros((2, 7)), np.zeros((2, 7))
    exchange = rma.neighbour_alltoall(context, source, [(me - 1) % p, (me - 2) % p], [(me + 1) % p, (me + 2) % p])
    for round_ in range(ROUNDS):
        source[:] = np.arange(14).reshape(2, 7) + 100 * me + 1e4 * round_
        graph.Neighbor_alltoall(source, wanted)
        got = exchange()
        assert (got == wanted).all(), (me, round_, got, wanted)
    graph.Free()


def check_halo(context: rma.Context, comm: MPI.Intracomm, periodic: bool, corners: bool) -> None:
    """The oracle: every cell's value follows from its place in the global array."""
    dims = MPI.Compute_dims(comm.size, 2)
    cart = comm.Create_cart(dims, [periodic, periodic])
    shape, width = (5, 6), 1
    memories = [context.allocate((shape[0] + 2, shape[1] + 2, 3)) for _ in range(2)]
    for memory in memories:
        memory.array[:] = -1  # before anybody can write to it
    exchange = rma.halo(context, memories, cart, width, corners)
    total = [d * n for d, n in zip(dims, shape, strict=True)]
    before = context.stats.messages
    for round_ in range(ROUNDS):
        array = exchange.memories[round_ % 2].array
        place = np.indices((shape[0] + 2, shape[1] + 2)) - 1
        index = [place[d] + cart.coords[d] * shape[d] for d in range(2)]
        value = (index[0] % total[0]) * 1000 + index[1] % total[1] + 1e6 * round_
        full = value[..., None] + np.array([0, 0.25, 0.5])
        array[1:-1, 1:-1] = full[1:-1, 1:-1]
        got = exchange()
        inside = [(index[d] >= 0) & (index[d] < total[d]) | periodic for d in range(2)]
        cross = ((place[0] >= 0) & (place[0] < shape[0])) | ((place[1] >= 0) & (place[1] < shape[1]))
        filled = inside[0] & inside[1] & (cross | corners)
        assert (got[filled] == full[filled]).all(), (comm.rank, round_)
        assert (got[~filled] == -1).all()
    assert context.stats.messages - before == ROUNDS * sum(len(plan.targets) for plan in exchange.plans) // 2
    cart.Free()


def check_datatypes(comm: MPI.Intracomm) -> None:
    array = np.arange(6 * 8 * 4, dtype=np.float64).reshape(6, 8, 4)
    double = MPI.DOUBLE
    kinds = [
        double.Create_contiguous(10),
        double.Create_vector(4, 3, 7),
        double.Create_hvector(3, 2, 72),
        double.Create_indexed([2, 1, 4], [0, 5, 9]),
        double.Create_indexed_block(2, [1, 8, 20]),
        double.Create_subarray([6, 8, 4], [2, 3, 2], [1, 4, 1]),
        double.Create_subarray([6, 8, 4], [2, 3, 2], [1, 4, 1], order=MPI.ORDER_F),
        double.Create_vector(3, 1, 4).Create_resized(0, 200),
        MPI.SHORT_INT.Create_contiguous(3),
        MPI.DOUBLE_INT.Create_contiguous(3),
        MPI.Datatype.Create_struct([1, 2], [8, 64], [double, double]),
    ]
    for kind in kinds:
        kind.Commit()
        for count in (1, 2):
            if kind.Get_extent()[1] * count > array.nbytes:
                with pytest.raises(rma.RangeError, match="outside"):
                    datatype_views(array, kind, count)
                continue
            want = np.zeros(kind.Get_size() * count, np.uint8)
            MPI.COMM_SELF.Sendrecv([array, count, kind], 0, recvbuf=[want, MPI.BYTE], source=0)
            got = np.concatenate([view.reshape(-1) for view in datatype_views(array, kind, count)])
            assert (got == want).all(), (kind.decode(), count)
        kind.Free()
    with pytest.raises(rma.RangeError, match="count -1"):
        datatype_views(array, double, -1)


def main() -> None:
    comm = MPI.COMM_WORLD
    options = {"provider": "tcp", "nics": ["lo"]} if sys.argv[1] == "ofi" else {}
    with rma.Context(comm, transports=[sys.argv[1]], checked=True, timeout=30, **options) as context:
        check_alltoallv(context, comm)
        check_sendrecv(context, comm)
        check_neighbours(context, comm)
        for periodic in (False, True):
            for corners in (False, True):
                check_halo(context, comm, periodic, corners)
    check_datatypes(comm)
    print("passed", flush=True)


main()
