"""Which calls are known, and what becomes of them, on a communicator of one rank."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mpi4py")

from mpi4py import MPI

import topocomm
from topocomm import library
from topocomm.comm import buffers, recall
from topocomm.comm._recogniser import Recogniser
from topocomm.comm.early import EARLY

KNOWN = 16
"""Calls of a collective that a memo holds."""


@pytest.fixture
def comm() -> Iterator[topocomm.Comm]:
    made = topocomm.Comm(MPI.COMM_SELF.Dup())
    yield made
    if made != MPI.COMM_NULL:
        made.Free()


def hits(comm: topocomm.Comm) -> int:
    counts = comm._memo_counts()
    assert counts is not None
    assert counts["programs"] == 0, "one rank needs none"
    return counts["native"]


X, Y = np.arange(8.0), np.zeros(8)
PLAIN: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "barrier": ("Barrier", (), {}),
    "bcast": ("Bcast", (Y,), {}),
    "bcast root": ("Bcast", (Y, 0), {}),
    "bcast keywords": ("Bcast", (), {"root": 0, "buf": Y}),
    "allgather": ("Allgather", (X, Y), {}),
    "allgather in place": ("Allgather", (MPI.IN_PLACE, Y), {}),
    "alltoall": ("Alltoall", (X, Y), {}),
    "alltoall in place": ("Alltoall", (MPI.IN_PLACE, Y), {}),
    "allreduce": ("Allreduce", (X, Y), {}),
    "allreduce op": ("Allreduce", (X, Y, MPI.MAX), {}),
    "allreduce keywords": ("Allreduce", (X,), {"op": MPI.MIN, "recvbuf": Y}),
    "allreduce no algorithm": ("Allreduce", (X, Y), {"algorithm": None}),
    "allreduce in place": ("Allreduce", (MPI.IN_PLACE, Y), {}),
    "allreduce typed": ("Allreduce", ([X, MPI.DOUBLE], [Y, MPI.DOUBLE]), {}),
    "allreduce counted": ("Allreduce", ([X, 8, MPI.DOUBLE], [Y, 8, MPI.DOUBLE]), {}),
    "allreduce fewer": ("Allreduce", ([X, 5, MPI.DOUBLE], (Y, 5, MPI.DOUBLE)), {}),
    "allreduce tuples": ("Allreduce", ((X, MPI.DOUBLE), (Y, MPI.DOUBLE)), {}),
    "allreduce mixed": ("Allreduce", (X, [Y, MPI.DOUBLE]), {}),
    "allreduce matrix": ("Allreduce", (X.reshape(2, 4), Y.reshape(2, 4)), {}),
    "allreduce columns": ("Allreduce", (X.reshape(2, 4, order="F"), Y.reshape(2, 4, order="F")), {}),
    "allreduce number": ("Allreduce", (np.array(1.0), np.array(0.0)), {}),
    "reduce_scatter_block": ("Reduce_scatter_block", (X, Y), {}),
    "reduce_scatter_block in place": ("Reduce_scatter_block", (MPI.IN_PLACE, Y), {}),
    "reduce_scatter": ("Reduce_scatter", (X, Y, [8]), {}),
    "reduce_scatter keywords": ("Reduce_scatter", (X, Y), {"op": MPI.MAX, "recvcounts": (8,)}),
    "reduce": ("Reduce", (X, Y), {}),
    "reduce root": ("Reduce", (X, Y, MPI.SUM, 0), {}),
    "reduce in place": ("Reduce", (MPI.IN_PLACE, Y), {}),
    "gather": ("Gather", (X, Y), {}),
    "gather in place": ("Gather", (MPI.IN_PLACE, Y), {"root": 0}),
    "scatter": ("Scatter", (X, Y), {}),
    "scatter root": ("Scatter", (X, Y, 0), {}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_call_is_known_from_the_second_time_on(comm: topocomm.Comm, name: str) -> None:
    method, args, keywords = PLAIN[name]
    for _ in range(4):
        assert getattr(comm, method)(*args, **keywords) is None
    assert comm._memo_counts() == {"native": 3, "programs": 0, "misses": 1, "remembered": 1}


class Exporter:
    """Memory that is reached by DLPack."""

    def __init__(self) -> None:
        self.array = np.zeros(8)

    def __dlpack__(self, **more: Any) -> Any:
        return self.array.__dlpack__(**more)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Subclass(np.ndarray):  # type: ignore[type-arg]
    """An array of the program's own."""


OTHERS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "count and code": ("Allreduce", ([X, 8, "d"], [Y, 8, "d"]), {}),
    "count of NumPy's": ("Allreduce", ([X, np.int64(8), MPI.DOUBLE], [Y, 8, MPI.DOUBLE]), {}),
    "count and displacement": ("Bcast", ([Y, (7, 1), MPI.DOUBLE],), {}),
    "no count": ("Bcast", ([Y, None, MPI.DOUBLE],), {}),
    "nothing counted": ("Bcast", ([Y, 0, MPI.DOUBLE],), {}),
    "counts in an array": ("Reduce_scatter", (X, Y, np.array([8])), {}),
    "counts not given": ("Reduce_scatter", (X, Y), {}),
    "counts in place": ("Reduce_scatter", (MPI.IN_PLACE, Y, [8]), {}),
    "code": ("Allreduce", ([X, "d"], [Y, "d"]), {}),
    "derived": ("Bcast", ([Y, MPI.DOUBLE.Create_contiguous(2).Commit()],), {}),
    "pairs": ("Allreduce", ([np.zeros(2), MPI.DOUBLE_INT], [np.zeros(2), MPI.DOUBLE_INT], MPI.MAXLOC), {}),
    "view": ("Allreduce", (memoryview(X), memoryview(Y)), {}),
    "bytes": ("Bcast", (bytearray(8),), {}),
    "dlpack": ("Bcast", (Exporter(),), {}),
    "subclass": ("Bcast", (Y.view(Subclass),), {}),
    "empty": ("Bcast", (np.zeros(0),), {}),
    "root of NumPy's": ("Bcast", (Y, np.int64(0)), {}),
    "algorithm": ("Bcast", (Y,), {"algorithm": "native"}),
    "user operation": ("Allreduce", (X, Y, MPI.Op.Create(lambda a, b, t: None, commute=True)), {}),
    "none is in place": ("Allreduce", (None, Y), {}),
    "constant root": ("Bcast", (np.broadcast_to(Y, (1, 8)),), {}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arguments_go_through_python(comm: topocomm.Comm, name: str) -> None:
    method, args, keywords = OTHERS[name]
    for _ in range(3):
        getattr(comm, method)(*args, **keywords)
    assert hits(comm) == 0


@pytest.mark.parametrize(
    "args",
    [
        (X, Y[::2]),
        (X, Y[:4]),
        (X, np.zeros(8, "f4")),
        (X.astype(">f8"), Y.astype(">f8")),
        (X, np.frombuffer(bytes(64))),
        (X, Y, MPI.BAND),
        (X, Y, "sum"),
        (X, [Y, MPI.INT]),
        (X, [Y, 4, MPI.DOUBLE]),
        ([X, -1, MPI.DOUBLE], [Y, -1, MPI.DOUBLE]),
        ([X, 1 << 70, MPI.DOUBLE], Y),
        (X,),
        (X, Y, MPI.SUM, 0),
        (np.zeros(8, "M8[s]"), Y),
        ([X, MPI.DATATYPE_NULL], Y),
    ],
    ids=[
        *("strided", "shorter", "another type", "byte order", "read-only", "bitwise operation", "no operation"),
        *(
            "another datatype",
            "another count",
            "negative count",
            "huge count",
            "one buffer",
            "one argument more",
            "times",
            "no datatype",
        ),
    ],
)
def test_a_mistake_raises_what_mpi4py_raises(comm: topocomm.Comm, args: tuple[Any, ...]) -> None:
    for _ in range(2):
        comm.Allreduce(X, Y)
    wanted: list[type] = []
    for target in (MPI.COMM_SELF, comm, comm):
        with pytest.raises((Exception,)) as caught:
            target.Allreduce(*args)
        wanted.append(caught.type)
    assert wanted[1:] == wanted[:1] * 2
    assert hits(comm) == 1


@pytest.mark.parametrize("code", [*"?bBhHiIlLqQfdgFDG"])
def test_the_type_is_the_array_s(comm: topocomm.Comm, code: str) -> None:
    """Found by a product and a logical operation with itself: only then does the library look at the elements."""
    x = np.array([1, 0, 1, 1], code)
    for op in (MPI.PROD, MPI.LOR) if code not in "FDG" else (MPI.PROD,):
        for _ in range(3):
            y = np.zeros(4, code)
            try:
                MPI.COMM_SELF.Allreduce(x, y, op)
            except MPI.Exception:
                with pytest.raises(MPI.Exception):
                    comm.Allreduce(x, y, op)
            else:
                comm.Allreduce(x, y, op)
                assert (x == y).all()
    assert hits(comm) > 0


def test_a_size_of_another_class_is_another_call() -> None:
    """All sizes of a collective that is always the library's are one call."""
    comm = topocomm.Comm(MPI.COMM_SELF, algorithm="native")
    for n in range(1, 50):
        comm.Allreduce(np.ones(n), out := np.zeros(n))
        assert (out == 1).all()
    counts = comm._memo_counts()
    assert counts is not None
    assert (counts["misses"], counts["remembered"], counts["native"]) == (1, 1, 48)


def test_more_calls_than_there_is_room_for(comm: topocomm.Comm) -> None:
    codes = ["b", "h", "i", "l"]
    names = ("SUM", "PROD", "MAX", "MIN", "BAND", "BOR", "BXOR", "LAND", "LOR")
    kinds = [(np.array([3], code), getattr(MPI, name)) for code in codes for name in names]
    assert len(kinds) > 2 * KNOWN
    for _ in range(3):
        for x, op in kinds:
            y = np.zeros(1, x.dtype)
            comm.Allreduce(x, y, op)
            assert y[0] == 3
    counts = comm._memo_counts()
    assert counts is not None
    assert counts["native"] + counts["misses"] == 3 * len(kinds)
    assert KNOWN <= counts["remembered"] <= KNOWN + counts["misses"] // 8
    assert counts["native"] > KNOWN


def test_a_freed_communicator_knows_nothing() -> None:
    for free in (topocomm.Comm.Free, MPI.Comm.Free):
        comm = topocomm.Comm(MPI.COMM_SELF.Dup())
        for _ in range(2):
            comm.Allreduce(X, Y)
        assert hits(comm) == 1
        free(comm)
        with pytest.raises(MPI.Exception) as caught:
            comm.Allreduce(X, Y)
        assert caught.value.Get_error_class() == MPI.ERR_COMM
        counts = comm._memo_counts()
        assert counts is None or counts["native"] == 1


@pytest.mark.parametrize(("name", "value"), [("TOPOCOMM_MEMO", "0"), ("TOPOCOMM_CHECK", "always")])
def test_nothing_is_known_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    comm = topocomm.Comm(MPI.COMM_SELF, algorithm="native")
    for _ in range(3):
        comm.Allreduce(X, Y)
    assert (X == Y).all()
    assert comm._memo_counts() is None


def test_only_a_wrapped_communicator_remembers() -> None:
    comm = topocomm.Comm()
    assert comm == MPI.COMM_NULL
    assert comm._memo_counts() is None
    with pytest.raises(MPI.Exception):
        comm.Barrier()
    with pytest.raises(TypeError):
        Recogniser.Barrier(MPI.COMM_SELF)  # type: ignore[arg-type]


class Counting(topocomm.Comm):
    """A program's own communicator."""

    calls = 0

    def Allreduce(self, *args: Any, **keywords: Any) -> None:
        """Count calls."""
        self.calls += 1
        super().Allreduce(*args, **keywords)


def test_a_subclass_may_override_a_call() -> None:
    comm = Counting(MPI.COMM_SELF)
    for _ in range(3):
        comm.Allreduce(X, Y)
    assert (comm.calls, hits(comm)) == (3, 2)


def test_communicators_of_every_kind_remember(comm: topocomm.Comm) -> None:
    made = [comm.Dup(), comm.Split(), comm.Create_cart([1]), comm.Create_graph([1], [0])]
    made.append(comm.Create_dist_graph_adjacent([0], [0]))
    kinds = (MPI.Intracomm, MPI.Intracomm, MPI.Cartcomm, MPI.Graphcomm, MPI.Distgraphcomm)
    for other, kind in zip(made, kinds, strict=True):
        assert isinstance(other, kind)
        assert isinstance(other, Recogniser)
        assert type(other).__module__ == "mpi4py.MPI"
        for _ in range(EARLY):
            other.Allreduce(X, Y)
        assert other._memo_counts() is None, "it made few calls"
        for _ in range(4):
            other.Allreduce(X, Y)
        assert hits(other) == 2
        other.Free()
    with pytest.raises(TypeError):
        topocomm.comm.Cartcomm(MPI.COMM_SELF)


def test_pickles_and_copies_remember_by_themselves() -> None:
    comm = topocomm.Comm(MPI.COMM_SELF)
    comm.Allreduce(X, Y)
    for other in (pickle.loads(pickle.dumps(comm)), copy.copy(comm)):
        for _ in range(3):
            other.Allreduce(X, Y)
        assert hits(other) == 2


def test_no_reference_and_no_memory_is_lost(comm: topocomm.Comm) -> None:
    x, y, op, kind = np.ones(8), np.zeros(8), MPI.SUM, MPI.DOUBLE
    held = (x, y, op, kind, MPI.IN_PLACE, MPI.Exception, type(comm), None)
    calls: list[Any] = [
        lambda: comm.Allreduce(x, y, op),
        lambda: comm.Allreduce([x, kind], [y, kind]),
        lambda: comm.Bcast(buf=y, root=0),
        lambda: comm.Allreduce([x, 8, kind], [y, 8, kind]),
        lambda: comm.Reduce_scatter(x, y, [8]),
        lambda: comm.Allreduce(MPI.IN_PLACE, y),
        lambda: comm.Allreduce(x, y[::2]) if False else comm.Bcast([y, 8, kind]),
        comm.Barrier,
    ]

    def wrong() -> None:
        with pytest.raises(MPI.Exception):
            comm.Allreduce(x, y, MPI.BAND)

    calls.append(wrong)
    for call in calls * 50:
        call()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in held]
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        for call in calls[:-1]:
            for _ in range(20_000):
                call()
        for _ in range(200):
            wrong()
        gc.collect()
        end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(thing) for thing in held]
    assert [abs(a - b) for a, b in zip(before[:-1], after[:-1], strict=True)] == [0] * (len(held) - 1)
    assert abs(after[-1] - before[-1]) < 100, "None"
    assert end - start < 20_000


def test_a_communicator_and_its_memo_end() -> None:
    before = 0
    gc.freeze()  # what other tests left need not be looked at a hundred times
    for _ in range(100):
        comm = topocomm.Comm(MPI.COMM_SELF.Dup())
        comm.cycle = comm  # type: ignore[attr-defined]
        comm.Allreduce(X, Y)
        comm.Free()
        gone = weakref.ref(comm)
        del comm
        gc.collect()
        assert gone() is None
        before = before or sys.getrefcount(topocomm.Comm)
    gc.unfreeze()
    assert sys.getrefcount(topocomm.Comm) < before + 10


def test_signatures_are_those_of_mpi4py_with_an_algorithm():
    """Calls that are made in C say their parameters, as tools and programs that wrap calls ask for them."""
    for name in ("Allgather", "Alltoall", "Allreduce", "Reduce_scatter_block", "Bcast", "Reduce", "Gather", "Scatter",
                 "Barrier", "Reduce_scatter"):  # fmt: skip
        theirs = inspect.signature(getattr(MPI.Intracomm, name)).parameters
        *ours, added = inspect.signature(getattr(topocomm.Comm, name)).parameters.values()
        assert [parameter.name for parameter in ours] == list(theirs)
        assert [p.default is p.empty for p in ours] == [p.default is p.empty for p in theirs.values()], name
        assert (added.name, added.kind, added.default) == ("algorithm", added.KEYWORD_ONLY, None)
        assert name in str(getattr(topocomm.Comm, name).__doc__)


def test_types_that_the_library_lacks_are_left_out(monkeypatch):
    """Open MPI 4.1 refuses to say anything of some types that mpi4py names."""

    def size_of(datatype: MPI.Datatype) -> int:
        if datatype == MPI.LONG_DOUBLE:
            raise MPI.Exception(MPI.ERR_TYPE)
        return int(buffers.size_of(datatype))

    everything = dict(recall._types())
    monkeypatch.setattr(recall, "size_of", size_of)
    assert dict(recall._types()) == {k: v for k, v in everything.items() if k != library.handle(MPI.LONG_DOUBLE)}
    assert library.handle(MPI.LONG_DOUBLE) in everything
