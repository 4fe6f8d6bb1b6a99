"""Calls on Python objects: results and exceptions are mpi4py's, through shared memory and by messages."""

from __future__ import annotations

import gc
import json
import operator
import pickle
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from check_shared import one_node
from harness import check, communicators, raised
from mpi4py import MPI

import topocomm
from topocomm.comm.pickled import FRAME, ROOT_FRAME
from topocomm.topology import Topology

ROOM = 4088
"""Pickled bytes that go through shared memory at once."""


def ways(plain: MPI.Intracomm) -> Iterator[topocomm.Comm]:
    """The communicator wrapped so that frames go through memory, and so that they go by messages."""
    p = plain.Get_size()
    yield topocomm.Comm(plain, topology=one_node(p), algorithm="shared")  # though ranks may outnumber cores
    yield topocomm.Comm(plain, topology=Topology(("node",), [[r] for r in range(p)]))


def on_one_node(comm: topocomm.Comm) -> bool:
    """Whether the topology says so."""
    return comm.machine_topology.is_one_node_among(range(comm.size))


class Text(str):
    """A text of the program's own."""

    __slots__ = ()


class Joined:
    """An object whose sum keeps the order of its operands."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __add__(self, other: Joined) -> Joined:
        return Joined(f"({self.words}{other.words})")

    def __str__(self) -> str:
        return self.words

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Joined) and self.words == other.words

    __hash__ = None  # type: ignore[assignment]


def raises(kinds: Any, call: Callable[[], object]) -> Any:
    """The exception of one of these kinds that a call raises."""
    found = raised(call)
    assert isinstance(found, kinds), repr(found)
    return found


def values(rank: int) -> list[Any]:
    """Objects of every kind that frames know and of others, of all lengths at which something ends."""
    numbers = [
        1.5 + rank,
        -0.0,
        float("inf"),
        rank - 2,
        2**63 - 1,
        -(2**63),
        2**63,
        -(2**70) + rank,
        True,
        rank % 2 == 0,
    ]
    scalars = [np.dtype(code).type(rank + 1) for code in "dfqlihbQLIHB?DFeg"]
    texts = ["", "ä" * rank, "\ud800", Text("x"), b"", b"\0" * 5, bytearray(b"ab")]
    edges = [FRAME - 16, ROOT_FRAME - 16, ROOM, 60_000]
    long = [b"y" * (n + d) for n in edges for d in (-40, -5, 0, 1)] + ["z" * n for n in (ROOM, ROOM + 1)]
    others = [
        None,
        True,
        rank % 2 == 0,
        1j * rank,
        ("a", 3),
        {"k": [rank]},
        Decimal("1.1"),
        np.arange(3),
        np.ones(2000),
        Joined(str(rank)),
    ]
    return [*numbers, *scalars, *texts, *long, *others, {1: 2} if rank else 5, "w" * (5000 if rank == 1 else 5)]


def alike(a: Any, b: Any) -> bool:
    """Whether two objects have one type and one value."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return pickle.dumps(a) == pickle.dumps(b) or bool(np.all(a == b))


@check()
def objects_arrive_as_mpi4py_brings_them(world: MPI.Intracomm) -> None:
    """From every rank, in every call, through memory and by messages, on parts of the world too."""
    for name, plain in communicators(world):
        rank, p = plain.Get_rank(), plain.Get_size()
        for comm in ways(plain):
            for value in values(rank) if name == "world" else values(rank)[::5]:
                wanted = MPI.Intracomm.allgather(plain, value)
                assert alike(comm.allgather(value), wanted), value
                for root in {0, p - 1, p // 2}:
                    assert alike(comm.bcast(value if rank == root else None, root=root), wanted[root])
                    assert alike(comm.gather(sendobj=value, root=np.int64(root)), wanted if rank == root else None)
            assert comm.barrier() is None
            through = comm._runtime is not None and comm._runtime.shares_objects
            assert through == (p > 1 and on_one_node(comm)), name


OPERATIONS: list[Any] = [
    *(MPI.SUM, MPI.PROD, MPI.MAX, MPI.MIN, MPI.LAND, MPI.LOR, MPI.LXOR, MPI.BAND, MPI.BOR, MPI.BXOR, MPI.MAXLOC),
    *(MPI.MINLOC, MPI.REPLACE, MPI.NO_OP, operator.add, max, lambda a, b: f"{a}{b}"),
]


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or the type of what it raises."""
    try:
        return call()
    except Exception as e:
        return type(e)


def locally(items: list[Any], op: Any) -> Any:
    """The reduction in the order of mpi4py's tree."""
    items, step = list(items), 1
    while step < len(items):
        for at in range(0, len(items) - step, 2 * step):
            items[at] = op(items[at], items[at + step])
        step *= 2
    return items[0]


@check()
def reductions_are_mpi4py_s_to_the_type(world: MPI.Intracomm) -> None:
    """Operations on numbers of one type and of several, beyond 64 bits, on objects; where mpi4py raises, all do."""
    rank, p = world.rank, world.size
    kinds = [*values(rank), (rank, p - rank), [5.5, 7, 2**66, np.float32(2.1), True][rank % 5], np.float64(0.1) * rank]
    for comm in ways(world):
        for value in kinds:
            everyone = MPI.Intracomm.allgather(world, value)
            for op in OPERATIONS:
                with np.errstate(all="ignore"):
                    wanted = outcome(lambda: locally(everyone, op))
                    if isinstance(wanted, type) and (callable(op) and not isinstance(op, MPI.Op)):
                        continue  # one rank raises, the others wait, with mpi4py too
                    if isinstance(wanted, type) and (op in (MPI.REPLACE, MPI.NO_OP) or p == 1):
                        continue
                    if isinstance(wanted, type) and not fits(everyone, comm):
                        continue
                    assert alike(outcome(lambda: comm.allreduce(value, op)), wanted), (value, op)
                    if isinstance(wanted, type):
                        continue
                    root = p - 1
                    got = comm.reduce(value, op=op, root=root)
                    assert alike(got, wanted if rank == root else None), (value, op)
        assert comm.allreduce(rank) == p * (p - 1) // 2
        assert comm.allreduce(sendobj=[rank]) == list(range(p))


def fits(items: list[Any], comm: topocomm.Comm) -> bool:
    """Whether all objects fit frames, so that all ranks reduce."""
    room = ROOM if on_one_node(comm) else FRAME - 16
    return max(len(MPI.pickle.dumps(x)) for x in items) <= room


@check(2)
def ranks_that_name_other_operations_get_what_mpi4py_gives(world: MPI.Intracomm) -> None:
    for comm in ways(world):
        for ops in ((MPI.SUM, MPI.MAX), (MPI.SUM, operator.add), (max, MPI.MAX)):
            op = ops[world.rank > 0]
            assert comm.allreduce(world.rank + 1, op) == MPI.Intracomm.allreduce(world, world.rank + 1, op)


class Broken:
    """An object that cannot be pickled, or read, on purpose."""

    def __init__(self, write: bool) -> None:
        self.write = write

    def __reduce__(self) -> Any:
        if self.write:
            raise pickle.PicklingError("on purpose")
        return int, ("no number",)


@check()
def a_rank_that_cannot_pickle_may_try_again(world: MPI.Intracomm) -> None:
    """Nothing has been sent then: the others wait for the call that follows.

    mpi4py's own reduce receives before it pickles.
    """
    for comm in ways(world):
        calls = [comm.allgather, comm.allreduce, comm.bcast, comm.gather, *[comm.reduce] * on_one_node(comm)]
        for call in calls:
            for broken in (lambda: None, Broken(True)):
                if world.rank == 0:
                    raises((pickle.PicklingError, AttributeError), lambda: call(broken))
            result = call([world.rank])  # type: ignore[operator]
            assert result is None or result[0] in (0, [0])
        if world.size > 1:
            assert isinstance(outcome(lambda: comm.allgather(Broken(False))), type)
            assert comm.allgather(1) == [1] * world.size


@check()
def settings_of_the_pickler_count(world: MPI.Intracomm) -> None:
    """Another pickler gets everything; so does the usual one with another protocol."""
    seen: list[Any] = []

    def dumps(value: Any) -> bytes:
        seen.append(value)
        return json.dumps(value).encode()

    for comm in ways(world):
        comm.allreduce(1)
        MPI.pickle.__init__(dumps, lambda data: json.loads(bytes(data)))  # type: ignore[misc]
        try:
            del seen[:]
            assert comm.allgather((1, 2)) == [[1, 2]] * world.size
            assert comm.bcast({1: 2}) == {"1": 2}
            assert comm.allreduce(1.5) == 1.5 * world.size
            raises(TypeError, lambda: comm.allgather(1j))
            assert {repr(x) for x in seen} >= {"(1, 2)", "1.5", "1j"}
        finally:
            MPI.pickle.__init__()  # type: ignore[misc]
        MPI.pickle.PROTOCOL = 0
        try:
            assert comm.allgather([world.rank]) == [[r] for r in range(world.size)]
        finally:
            MPI.pickle.PROTOCOL = None
        assert comm.allgather(2) == [2] * world.size


class Narrow(topocomm.Comm):
    """A communicator of the program's own, whose calls on buffers must not see those on objects."""

    def Allgather(self, *args: Any, **more: Any) -> None:
        raise AssertionError("called")

    Bcast = Allreduce = Gather = Barrier = Allgatherv = Allgather  # type: ignore[assignment]

    def allgather(self, sendobj: Any) -> Any:
        return tuple(super().allgather(sendobj))


@check()
def a_subclass_keeps_its_own_calls(world: MPI.Intracomm) -> None:
    comm = Narrow(world)
    for value in (1, "x" * 9000):
        assert comm.allgather(value) == (value,) * world.size
        assert comm.bcast(value) == value
    assert comm.allreduce(1) == world.size
    comm.barrier()


class Calling:
    """An object that makes a call of its own when it is read."""

    comm: topocomm.Comm

    def __reduce__(self) -> Any:
        return _called, ()


def _called() -> Any:
    return Calling.comm.allreduce(3)


@check(2)
def reading_an_object_may_call_again(world: MPI.Intracomm) -> None:
    Calling.comm = topocomm.Comm(world, topology=one_node(world.size), algorithm="shared")
    assert Calling.comm.allreduce(1) == world.size
    for _ in range(3):
        assert Calling.comm.bcast(Calling()) == 3 * world.size


@check(2)
def wrong_calls_are_named(world: MPI.Intracomm) -> None:
    comm = topocomm.Comm(world, topology=one_node(world.size), algorithm="shared")
    comm.allreduce(1)
    for call in (lambda: comm.bcast(1, world.size), lambda: comm.bcast(1, -5), lambda: comm.reduce(1, root=99)):
        assert raises(MPI.Exception, call).Get_error_class() == MPI.ERR_ROOT
    for wrong in (comm.allgather, lambda: comm.bcast(1, "x"), lambda: comm.allreduce(1, nop=2)):
        raises(TypeError, wrong)
    text = str(raises(topocomm.Error, lambda: comm.allgather(1) if world.rank else comm.allreduce(1)))
    assert "allgather of objects" in text, text
    assert "allreduce of objects" in text, text
    comm = topocomm.Comm(world.Dup(), topology=one_node(world.size), algorithm="shared")
    comm.allreduce(1)
    comm.Free()
    raises(MPI.Exception, lambda: comm.allreduce(1))


@check(2)
def communicators_of_objects_end_without_a_trace(world: MPI.Intracomm) -> None:
    """Many are made and freed; their memory goes with them."""
    comm = topocomm.Comm(world, topology=one_node(world.size), algorithm="shared")
    for _ in range(5):
        part = comm.Dup()
        for turn in range(20):
            assert part.allreduce(turn) == turn * world.size
        assert part._runtime is not None
        assert part._runtime.shares_objects
        part.Free()
        del part
        gc.collect()
