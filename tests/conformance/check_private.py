"""Private traffic: a family of communicators shares one duplicate, and messages of one never reach another."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from check_habits import works
from harness import check, raised, wrap
from mpi4py import MPI

from topocomm.comm.private import TAGS

RING = {"allreduce": "ring", "allgather": "ring", "bcast": "textbook_binomial", "barrier": "dissemination"}


def carrier(comm: Any) -> Any:
    """What carries the messages of a wrapped communicator."""
    return comm._live.private.open()


@check(2)
def a_family_has_one_duplicate(world: MPI.Intracomm) -> None:
    comm = wrap(world.Dup(), algorithm=RING)
    p, r = comm.size, comm.rank
    group = comm.Get_group()
    made = [comm.Dup(), comm.Split(0, -r), comm.Split(r % 2), comm.Create(group), comm.Create_cart([p]), comm.Clone()]
    twin, request = comm.Idup()
    request.Wait()
    made += [twin, comm.Create_group(group), made[1].Split(0, -r), made[4].Sub([True])]
    for child in made:
        works(child)
    seen = [carrier(child) for child in (comm, *made) if child.size > 1]
    assert all(one.comm == seen[0].comm for one in seen)
    assert len({one.tag for one in seen}) == len(seen)
    assert all(one.tag % TAGS == 0 for one in seen)
    assert carrier(made[1]).ranks == list(range(p))[::-1]
    for child in (*made, comm):
        child.Free()
    group.Free()


@check(2)
def as_many_communicators_as_the_library_gives(world: MPI.Intracomm) -> None:
    """MPICH gives some 2000; with a duplicate each it would be half of them."""
    if world.size > 2:
        return
    comm = wrap(world.Dup(), algorithm=RING)
    made = [comm.Split(0, world.rank) for _ in range(1100)]
    for child in made:
        works(child)
    for child in (*made, comm):
        child.Free()


@check(2)
def a_family_outlives_the_communicator_that_was_wrapped(world: MPI.Intracomm) -> None:
    comm = wrap(world.Dup(), algorithm=RING)
    used, unused = comm.Dup(), comm.Dup()
    works(used)
    comm.Free()
    works(used)
    works(unused)
    shared = carrier(used).comm
    assert carrier(unused).comm == shared
    used.Free()
    works(unused)
    unused.Free()
    assert shared == MPI.COMM_NULL


@check(2)
def without_a_family_there_is_a_duplicate(world: MPI.Intracomm) -> None:
    """There are no tags left; or all communicators are gone that used it."""
    comm = wrap(world.Dup(), algorithm=RING)
    group = comm.Get_group()
    alone, limited = comm.Create_group(group), comm.Create_group(group)  # which draw nothing before they are used
    late, request = comm.Idup()
    request.Wait()
    family: Any = comm._live.private._family
    family._limit = 0
    works(limited)
    assert carrier(limited).comm not in (carrier(comm).comm, MPI.COMM_NULL)
    comm.Free()
    assert family.comm == MPI.COMM_NULL
    works(alone)
    child = alone.Split(0)
    works(child)
    assert carrier(child).comm == carrier(alone).comm
    assert carrier(alone).tag == carrier(limited).tag == 0
    works(late)
    assert carrier(late).comm not in (carrier(alone).comm, MPI.COMM_NULL)
    for made in (late, limited, child, alone):
        made.Free()
    group.Free()


@check(2)
def ranks_of_unequal_many_communicators_agree(world: MPI.Intracomm) -> None:
    """Each rank is in other communicators and has drawn other numbers when all meet."""
    comm = wrap(world.Dup(), algorithm=RING)
    for turn in range(2 * comm.size):
        some = comm.Split(0 if comm.rank <= turn % comm.size else MPI.UNDEFINED)
        if some != MPI.COMM_NULL:
            works(some)
            some.Free()
        everyone = comm.Split(0, -comm.rank)
        works(everyone)
        assert len(set(world.allgather(carrier(everyone).tag))) == 1
        everyone.Free()
    comm.Free()


@check(2)
def threads_on_communicators_of_one_family(world: MPI.Intracomm) -> None:
    """Other threads start at other ranks first, and all send messages of their own lengths."""
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return
    comm = wrap(world.Dup(), algorithm=RING)
    made = [[comm.Split(0, (-1) ** k * comm.rank) for k in range(4)] for _ in range(3)]
    trouble: list[BaseException] = []

    def work(child: Any, k: int) -> None:
        try:
            for i in range(10):
                out = np.zeros((child.size, 40 * k + i + 1))
                child.Allgather(np.full(40 * k + i + 1, 1000.0 * k + child.rank), out)
                assert (out == 1000 * k + np.arange(child.size)[:, None]).all()
        except BaseException as e:
            trouble.append(e)

    for children in made:
        threads = [threading.Thread(target=work, args=(child, k)) for k, child in enumerate(children)]
        for thread in threads[:: (-1) ** comm.rank]:
            thread.start()
        for thread in threads:
            thread.join()
    assert not trouble, trouble
    assert len({carrier(child).tag for children in made for child in children}) == 12
    for child in [child for children in made for child in children]:
        child.Free()
    comm.Free()


@check(2)
def errors_go_to_the_handler_of_the_communicator(world: MPI.Intracomm) -> None:
    pair = world.Split(0 if world.rank < 2 else MPI.UNDEFINED)
    if pair == MPI.COMM_NULL:
        return
    seen: list[int] = []
    handler = MPI.Comm.Create_errhandler(lambda comm, code: seen.append(code))
    comm = wrap(pair, "apart", algorithm=RING)
    child = comm.Dup()
    child.Set_errhandler(handler)
    for n in (3, 4):
        child.Bcast(np.zeros(n))
    error = raised(lambda: child.Bcast(np.zeros(4 - pair.rank)))  # both calls are known; the root's message is longer
    assert isinstance(error, MPI.Exception) == bool(pair.rank), error
    assert len(seen) == pair.rank
    works(comm)
    handler.Free()
    for made in (child, comm):
        made.Free()
