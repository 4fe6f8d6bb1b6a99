"""What programs written for mpi4py do with a communicator besides collectives."""

from __future__ import annotations

import copy
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from harness import check, communicators, raised, topologies, wrap
from mpi4py import MPI

import topocomm
from topocomm.comm import neighbours
from topocomm.topology.grids import parted


def works(comm: Any) -> None:
    """A sum over the ranks of a wrapped communicator is right."""
    out = np.zeros(3, "i8")
    comm.Allreduce(np.arange(3) + comm.Get_rank(), out)
    p = comm.Get_size()
    assert out.tolist() == [i * p + p * (p - 1) // 2 for i in range(3)]


@check()
def it_is_the_communicator(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    assert isinstance(comm, MPI.Intracomm)
    assert isinstance(comm, MPI.Comm)
    assert comm == world
    assert not comm != world  # noqa: SIM202
    assert MPI.Comm.Compare(comm, world) == MPI.IDENT
    assert (comm.rank, comm.size, comm.Get_rank(), comm.Get_size()) == (world.rank, world.size, world.rank, world.size)
    assert bool(comm)
    assert type(raised(lambda: hash(comm))) is type(raised(lambda: hash(world)))
    comm.Set_name("mine")
    assert world.Get_name() == comm.name == "mine"
    assert topocomm.Comm(MPI.COMM_WORLD) == MPI.COMM_WORLD
    for function in (pickle.dumps, copy.copy, copy.deepcopy):  # as mpi4py's own
        assert type(raised(lambda: function(comm))) is type(raised(lambda: function(world))) is ValueError
    assert not topocomm.Comm(MPI.COMM_SELF).Is_inter()


class Mine(topocomm.Comm):
    """A program's own class of communicators."""

    def total(self, x: Any) -> Any:
        """Sum over all ranks."""
        self.Allreduce(x, out := np.zeros_like(x))
        return out


@check()
def copies_are_local_and_keep_settings_and_class(world: MPI.Intracomm) -> None:
    """On one rank alone, also after calls that all ranks know; the other ranks wait for nobody."""
    p = world.size
    for kind in (topocomm.Comm, Mine):
        for name in ("COMM_WORLD", "COMM_SELF"):
            comm = kind(getattr(MPI, name), topology=topologies(comm_size := getattr(MPI, name).size)["apart"],
                        algorithm={"allreduce": "ring", "bcast": "native"})  # fmt: skip
            works(comm)
            if world.rank == p - 1:
                for made in (copy.copy(comm), copy.deepcopy({"of": comm})["of"], pickle.loads(pickle.dumps(comm))):
                    assert type(made) is kind
                    assert made == comm
                    assert made.explain("allreduce", 99).why == comm.explain("allreduce", 99).why
                    assert made.machine_topology == comm.machine_topology
                    assert made.size == comm_size
            world.Barrier()
            sent = comm if world.rank == 0 else None
            got = world.bcast(sent)
            works(got if name == "COMM_SELF" or world.rank else comm)  # one copy meets the original of the others
    null = pickle.loads(pickle.dumps(Mine()))
    assert (type(null), null) == (Mine, MPI.COMM_NULL)


@check()
def classes_are_kept_as_mpi4py_keeps_them(world: MPI.Intracomm) -> None:
    comm, plain = Mine(world, topology=topologies(world.size)["cyclic"]), type("Plain", (MPI.Intracomm,), {})(world)
    group = world.Get_group()
    makers: dict[str, Callable[[Any], Any]] = {
        "Dup": lambda c: c.Dup(), "Clone": lambda c: c.Clone(),
        "Dup_with_info": lambda c: c.Dup_with_info(MPI.INFO_NULL),
        "Idup": lambda c: _waited(c.Idup()), "Idup_with_info": lambda c: _waited(c.Idup_with_info(MPI.INFO_NULL)),
        "Split": lambda c: c.Split(0, c.rank), "Split_type": lambda c: c.Split_type(MPI.COMM_TYPE_SHARED),
        "Create": lambda c: c.Create(group), "Create_group": lambda c: c.Create_group(group),
        "Create_cart": lambda c: c.Create_cart([c.size]),
        "Create_dist_graph": lambda c: c.Create_dist_graph([], [], []),
    }  # fmt: skip
    for name, make in makers.items():
        theirs, ours = make(plain), make(comm)
        assert (type(ours) is Mine) == (type(theirs) is type(plain)), name
        assert isinstance(ours, topocomm.Comm), name
        works(ours)
        if type(ours) is Mine:
            assert (ours.total(np.ones(700)) == world.size).all()
        theirs.Free()
        ours.Free()
    group.Free()
    cart = comm.Create_cart([world.size])
    for made in (cart.Dup(), cart.Sub([True]), cart):
        assert type(made) is topocomm.comm.Cartcomm
        made.Free()


def _waited(made: tuple[Any, MPI.Request]) -> Any:
    made[1].Wait()
    return made[0]


@check()
def other_libraries_know_the_class(world: MPI.Intracomm) -> None:
    """By the name of its module, which petsc4py looks at; and the class can still be pickled and mixed with others."""
    comm = wrap(world)
    assert type(comm) is topocomm.Comm
    for made in (comm, comm.Create_cart([world.size]), comm.Dup()):
        assert type(made).__module__ == "mpi4py.MPI"
        assert pickle.loads(pickle.dumps(type(made))) is type(made)
        if made is not comm:
            made.Free()
    assert Mine.__module__ == __name__
    assert pickle.loads(pickle.dumps(Mine)) is Mine
    assert issubclass(type("Mixed", (topocomm.Comm, Iterable), {}), Iterable)
    assert "topocomm.Comm" in repr(comm)
    get_type_hints(topocomm.Comm)


@check()
def a_graph_of_a_cartesian_communicator(world: MPI.Intracomm) -> None:
    p, r = world.size, world.rank
    cart = wrap(world).Create_cart([p])
    near = cart.Create_dist_graph_adjacent([(r - 1) % p], [(r + 1) % p])
    assert isinstance(near, MPI.Distgraphcomm)
    assert near.Get_dist_neighbors_count()[:2] == (1, 1)
    works(near)
    near.Free()
    cart.Free()


@check()
def attributes_error_handlers_and_groups(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    works(comm)
    key = MPI.Comm.Create_keyval(copy_fn=lambda c, k, value: value, delete_fn=None)
    comm.Set_attr(key, {"cached": world.rank})
    assert world.Get_attr(key) == {"cached": world.rank}
    twin = comm.Dup()
    assert twin.Get_attr(key) == {"cached": world.rank}
    works(twin)
    twin.Free()
    comm.Delete_attr(key)
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    handler = comm.Get_errhandler()
    assert handler == MPI.ERRORS_RETURN
    group = comm.Get_group()
    assert group.Get_size() == comm.group.size == world.size
    group.Free()
    info = MPI.Info.Create()
    comm.Set_info(info)
    comm.Get_info().Free()
    info.Free()


@check()
def lower_case_calls(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    p, r = world.size, world.rank
    assert comm.allreduce(r) == p * (p - 1) // 2
    assert comm.allgather({"r": r}) == [{"r": i} for i in range(p)]
    assert comm.alltoall([(r, i) for i in range(p)]) == [(i, r) for i in range(p)]
    assert comm.bcast("x" if r == p - 1 else None, root=p - 1) == "x"
    assert comm.gather(r) == (list(range(p)) if r == 0 else None)
    assert comm.scatter([i * i for i in range(p)] if r == 0 else None) == r * r
    assert comm.reduce(r, op=MPI.MAX) == (p - 1 if r == 0 else None)
    assert comm.scan(1) == r + 1
    comm.barrier()
    assert comm.sendrecv(r, (r + 1) % p, source=(r - 1) % p) == (r - 1) % p


@check()
def what_is_not_overridden_works(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    p, r = world.size, world.rank
    works(comm)
    one, all_ = np.array([r + 1.0]), np.zeros(p)
    comm.Iallreduce(one, total := np.zeros(1)).Wait()
    assert total[0] == p * (p + 1) / 2
    comm.Ibcast(value := np.array([r * 1.0]), root=p - 1).Wait()
    assert value[0] == p - 1
    comm.Ibarrier().Wait()
    comm.Allgatherv(one, [all_, [1] * p])
    assert all_.tolist() == [i + 1 for i in range(p)]
    comm.Alltoallv([np.full(p, r * 1.0), [1] * p], [all_, [1] * p])
    assert all_.tolist() == list(range(p))
    comm.Scan(one, total)
    assert total[0] == (r + 1) * (r + 2) / 2
    comm.Exscan(one, total)
    request = comm.Send_init(one, (r + 1) % p, 5)
    receive = comm.Recv_init(total, (r - 1) % p, 5)
    MPI.Prequest.Startall([request, receive])
    MPI.Request.Waitall([request, receive])
    request.Free()
    receive.Free()
    assert total[0] == (r - 1) % p + 1
    if MPI.Get_version() >= (4, 0):
        persistent = comm.Allreduce_init(one, total)
        persistent.Start()
        persistent.Wait()
        persistent.Free()
        assert total[0] == p * (p + 1) / 2
    wild = np.zeros(1)
    comm.Isend(one, (r + 1) % p, 9)
    works(comm)  # the schedule's messages never match a wildcard of the program
    comm.Recv(wild, MPI.ANY_SOURCE, MPI.ANY_TAG)
    assert wild[0] == (r - 1) % p + 1


@check()
def derived_communicators_stay_wrapped(world: MPI.Intracomm) -> None:
    comm = wrap(world, algorithm={"allreduce": "ring"})
    for name, made in communicators(comm):
        assert isinstance(made, topocomm.Comm), name
        assert made.explain("allreduce", 100).algorithm == "ring", name
        assert made.machine_topology.size == made.Get_size()
        works(made)
    p, r = world.size, world.rank
    assert comm.Split(MPI.UNDEFINED) == MPI.COMM_NULL
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    twin, request = comm.Idup()
    request.Wait()
    info = MPI.Info.Create()
    group = comm.Get_group()
    graph = comm.Create_graph([i + 1 for i in range(p)], [(i + 1) % p for i in range(p)])
    near = comm.Create_dist_graph_adjacent([(r - 1) % p], [(r + 1) % p])
    also = comm.Create_dist_graph([r], [1], [(r + 1) % p])
    made = [node, twin, comm.Clone(), comm.Dup_with_info(info), comm.Create(group), graph, near, also]
    for child in made:
        assert isinstance(child, topocomm.Comm), type(child)
        works(child)
        grandchild = child.Split(0, -child.Get_rank())
        assert grandchild.explain("allreduce", 100).algorithm == "ring"
        works(grandchild)
        grandchild.Free()
    around = np.zeros(1)
    near.Neighbor_allgather(np.array([r * 1.0]), around)
    assert around[0] == (r - 1) % p
    assert graph.Get_neighbors(r) == [(r + 1) % p]
    for child in made:
        child.Free()
    group.Free()
    info.Free()


@check()
def cartesian_communicators(world: MPI.Intracomm) -> None:
    """A halo exchange on a ring of ranks, as in mpi4py's tutorial; also when the Cartesian one is wrapped."""
    p = world.size
    native = world.Create_cart([p], periods=[True])
    for cart in (wrap(world).Create_cart([p], periods=[True]), wrap(native)):
        assert isinstance(cart, MPI.Cartcomm)
        assert isinstance(cart, topocomm.Comm)
        assert cart.Get_coords(cart.rank) == [cart.rank]
        assert cart.dims == [p]
        left, right = cart.Shift(0, 1)
        halo = np.zeros(1)
        cart.Sendrecv(np.array([cart.rank * 1.0]), right, recvbuf=halo, source=left)
        assert halo[0] == left == (cart.rank - 1) % p
        around = np.zeros(2)
        cart.Neighbor_allgather(np.array([cart.rank * 1.0]), around)
        assert around.tolist() == [left, right]
        works(cart)
        line = cart.Sub([True])
        assert isinstance(line, MPI.Cartcomm)
        works(line)
        line.Free()
        cart.Free()


@check()
def communicators_are_not_used_up(world: MPI.Intracomm) -> None:
    """MPICH has about 2000 contexts; every private communicator goes with its parent."""
    for _ in range(1100 if world.size == 2 else 10):
        comm = world.Dup()
        wrapped = topocomm.Comm(comm, topology=topologies(world.size)["apart"])
        wrapped.Barrier(algorithm="dissemination")
        half = wrapped.Split(world.rank % 2)
        half.Barrier(algorithm="dissemination")
        half.Free()
        wrapped.Free()


@check()
def wrapping_again_shares_the_private_communicator(world: MPI.Intracomm) -> None:
    first = wrap(world)
    for _ in range(2500 if world.size == 2 else 10):
        again = topocomm.Comm(world, topology=first.machine_topology)
    works(first)
    first.Barrier(algorithm="dissemination")
    again.Barrier(algorithm="dissemination")
    assert first._live.private.open() == again._live.private.open()


@check()
def a_freed_communicator_refuses_like_mpi4py_s(world: MPI.Intracomm) -> None:
    for used in (False, True):
        comm = wrap(world.Dup())
        if used:
            works(comm)
        comm.Free()
        assert comm == MPI.COMM_NULL
        plain = world.Dup()
        plain.Free()
        for call in (lambda c: c.Barrier(), lambda c: c.Bcast(np.zeros(2)), lambda c: c.Allreduce(MPI.IN_PLACE, b"")):
            native, ours = raised(lambda: call(plain)), raised(lambda: call(comm))
            assert type(native) is type(ours), (native, ours)


@check()
def two_threads_on_two_communicators(world: MPI.Intracomm) -> None:
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return
    comms = [wrap(world.Dup(), "cyclic"), wrap(world.Dup(), "random3")]
    trouble: list[BaseException] = []

    def work(comm: Any) -> None:
        try:
            for i in range(20):
                works(comm)
                out = np.zeros((comm.size, 5 + i))
                comm.Allgather(np.full(5 + i, comm.rank * 1.0), out, algorithm="ring")
                assert (out == np.arange(comm.size)[:, None]).all()
        except BaseException as e:
            trouble.append(e)

    threads = [threading.Thread(target=work, args=(comm,)) for comm in comms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble, trouble
    for comm in comms:
        comm.Free()


@check()
def windows_and_files(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    window = MPI.Win.Allocate(8, 8, comm=comm)
    memory = np.frombuffer(window.tomemory(), "f8")
    memory[0] = world.rank
    window.Fence()
    value = np.zeros(1)
    window.Get(value, (world.rank + 1) % world.size)
    window.Fence()
    assert value[0] == (world.rank + 1) % world.size
    window.Free()
    with tempfile.TemporaryDirectory() as place:
        path = comm.bcast(str(Path(place) / "data"))
        file = MPI.File.Open(comm, path, MPI.MODE_CREATE | MPI.MODE_RDWR)
        file.Write_at_all(8 * world.rank, np.array([world.rank * 1.0]))
        everything = np.zeros(world.size)
        file.Sync()
        comm.Barrier()
        file.Read_at_all(0, everything)
        file.Close()
        assert everything.tolist() == list(range(world.size))
        comm.Barrier()


@check()
def matrix_times_vector_and_conjugate_gradients(world: MPI.Intracomm) -> None:
    """mpi4py's tutorial, and a solver on top of it: the right solution on every rank."""
    comm = wrap(world, "unequal")
    p, m = world.size, 4
    n = m * p
    full = np.diag(np.full(n, 4.0)) - np.diag(np.ones(n - 1), 1) - np.diag(np.ones(n - 1), -1)
    rows = np.ascontiguousarray(full[comm.rank * m : (comm.rank + 1) * m])

    def times(x: Any) -> Any:
        whole = np.zeros(n)
        comm.Allgather([x, MPI.DOUBLE], [whole, MPI.DOUBLE])
        return rows @ whole

    def dot(x: Any, y: Any) -> float:
        out = np.zeros(1)
        comm.Allreduce(np.array([x @ y]), out, op=MPI.SUM)
        return float(out[0])

    b = np.zeros(m)
    comm.Scatter(np.arange(1.0, n + 1) if comm.rank == 0 else None, b, root=0)
    x = np.zeros(m)
    r = b - times(x)
    d, rho = r.copy(), dot(r, r)
    for _ in range(2 * n):
        q = times(d)
        alpha = rho / dot(d, q)
        x, r = x + alpha * d, r - alpha * q
        rho, old = dot(r, r), rho
        if rho < 1e-24:
            break
        d = r + rho / old * d
    whole = np.zeros(n) if comm.rank == 0 else None
    comm.Gather(x, whole, root=0)
    if whole is not None:
        assert np.allclose(full @ whole, np.arange(1.0, n + 1))


@check()
def grids_are_put_on_the_machine(world: MPI.Intracomm) -> None:
    """Reordered if asked for, and only then: few neighbours apart, every rank once, and the grid is what MPI says."""
    p = world.size
    dims, periods = MPI.Compute_dims(p, 2), [True, False]
    for name in ("cyclic", "unequal", "random3", "flat"):
        comm = wrap(world, name)
        native = world.Create_cart(dims, periods)
        plain, cart = comm.Create_cart(dims, periods), comm.Create_cart(dims, periods=periods, reorder=True)
        assert MPI.Comm.Compare(plain, native) == MPI.CONGRUENT
        assert type(cart) is type(plain) is topocomm.comm.Cartcomm
        assert (cart.dims, [bool(x) for x in cart.periods], cart.coords) == (
            native.dims, periods, native.Get_coords(cart.rank)
        )  # fmt: skip
        ranks = cart.allgather(world.rank)
        assert sorted(ranks) == list(range(p))
        assert cart.machine_topology == comm.machine_topology.restrict(ranks)
        before, after = (sum(parted(one.machine_topology, np.arange(p), dims, periods)) for one in (plain, cart))
        assert after <= before
        works(cart)
        left, right = cart.Shift(0, 1)
        heard = np.full(1, -1)
        cart.Sendrecv(np.array([world.rank]), right, recvbuf=heard, source=left)
        assert heard[0] == ranks[left]
        for made in (plain, cart, native):
            made.Free()
    comm = wrap(world)
    line = comm.Create_cart([p], reorder=True)
    apart = parted(line.machine_topology, np.arange(p), [p], [False])
    assert apart == [int(p > 1)], "ranks dealt to two nodes in turn stand by node"
    line.Free()


@check(3)
def ranks_beyond_a_grid_get_none(world: MPI.Intracomm) -> None:
    comm = wrap(world)
    cart = comm.Create_cart([world.size - 1], reorder=True)
    assert comm.allreduce(int(cart == MPI.COMM_NULL)) == 1
    if cart != MPI.COMM_NULL:
        works(cart)
        cart.Free()
    for dims in ([world.size + 1], "x"):
        native, ours = (raised(lambda c=c, d=dims: c.Create_cart(d, reorder=True)) for c in (world, comm))
        assert type(native) is type(ours) is not type(None), (dims, native, ours)


@check()
def graphs_are_put_on_the_machine(world: MPI.Intracomm) -> None:
    """Pairs (0, 1), (2, 3), … that the machine parts are brought together, and each vertex keeps its neighbours."""
    p, r = world.size, world.rank
    comm = wrap(world)
    near = [r ^ 1] if r ^ 1 < p else []
    weights = [r // 2 + 2] if near else MPI.WEIGHTS_EMPTY
    made = [
        comm.Create_dist_graph_adjacent(near, near, reorder=True),
        comm.Create_dist_graph_adjacent(near, near, weights, weights, MPI.INFO_NULL, True),
        comm.Create_dist_graph([r], [len(near)], near, reorder=True),
        comm.Create_dist_graph(list(range(p - p % 2)) if r == p - 1 else [], [1] * (p - p % 2) if r == p - 1 else [],
                               [k ^ 1 for k in range(p - p % 2)] if r == p - 1 else [], reorder=True),
    ]  # fmt: skip
    for number, graph in enumerate(made):
        assert isinstance(graph, topocomm.comm.Distgraphcomm)
        mine = graph.Get_rank()
        expected = [mine ^ 1] if mine ^ 1 < p else []
        inward, outward, given = graph.Get_dist_neighbors()
        assert (list(inward), list(outward)) == (expected, expected)
        if number == 1 and expected:
            assert [list(found) for found in given] == [[mine // 2 + 2]] * 2
        ranks = graph.allgather(r)
        assert sorted(ranks) == list(range(p))
        assert graph.machine_topology == comm.machine_topology.restrict(ranks)
        if p % 4 == 0:
            assert all(ranks[k] % 2 == ranks[k ^ 1] % 2 for k in range(p)), ranks
        works(graph)
        graph.Free()
    kept = comm.Create_dist_graph_adjacent(near, near)
    assert kept.allgather(r) == list(range(p))
    kept.Free()


@check(3)
def a_grid_has_one_order_whoever_finds_it(world: MPI.Intracomm) -> None:
    found, most = [], neighbours.MOST_BY_ALL
    try:
        for neighbours.MOST_BY_ALL in (world.size, world.size - 1):  # each rank, then rank 0
            comm = wrap(world, "cyclic")
            found.append(neighbours.cart_of(comm._live, [world.size], [True]))
            assert neighbours.cart_of(comm._live, [world.size + 1], None) is None
            assert neighbours.cart_of(comm._live, "no", None) is None
    finally:
        neighbours.MOST_BY_ALL = most
    first, second = ([] if order is None else order.tolist() for order in found)
    assert first == second
    assert world.allgather(first) == [first] * world.size
