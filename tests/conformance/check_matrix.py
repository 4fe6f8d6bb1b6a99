"""Every collective and algorithm over communicators, topologies, datatypes, operations, counts, roots, in place and
buffer forms, against the MPI library: the product sampled, every value of every dimension dealt in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import PAD, Deck, Memory, check, communicators, topologies
from mpi4py import MPI

import topocomm
from topocomm.algorithms import TABLE
from topocomm.collectives import COLLECTIVES, REDUCING

_ARITHMETIC = ("SUM", "PROD", "MAX", "MIN")
_LOGICAL = ("LAND", "LOR", "LXOR")
_BITS = ("BAND", "BOR", "BXOR")


def _pair(value: str, mpi: MPI.Datatype) -> tuple[Any, MPI.Datatype, tuple[str, ...]]:
    return np.dtype([("value", value), ("index", "i4")], align=True), mpi, ("MINLOC", "MAXLOC")


def _number(name: str, ops: tuple[str, ...]) -> tuple[Any, MPI.Datatype, tuple[str, ...]]:
    dtype = np.dtype(name)
    return dtype, MPI.Datatype.fromcode(dtype.char), ops


TYPES: dict[str, tuple[Any, MPI.Datatype, tuple[str, ...]]] = {
    **{
        name: _number(name, _ARITHMETIC + _LOGICAL + _BITS)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong")
    },
    **{name: _number(name, _ARITHMETIC) for name in ("float32", "float64", "longdouble")},
    **{name: _number(name, ("SUM", "PROD")) for name in ("complex64", "complex128", "clongdouble")},
    "bool": _number("bool", _LOGICAL),
    "byte": (np.dtype("u1"), MPI.BYTE, _BITS),
    "float_int": _pair("f4", MPI.FLOAT_INT),
    "double_int": _pair("f8", MPI.DOUBLE_INT),
    "long_int": _pair("i8", MPI.LONG_INT),
    "two_int": _pair("i4", MPI.TWOINT),
    "short_int": _pair("i2", MPI.SHORT_INT),
    "longdouble_int": _pair("longdouble", MPI.LONG_DOUBLE_INT),
}
FORMS = ("array", "type", "count", "displ", "code", "four", "columns", "view", "count only", "tuple")
PLACES = ("apart", "apart", "in place", "none", "aliased")
_SHIFT = 3


@dataclass
class Case:
    """One sample; the same on every rank."""

    collective: str
    algorithm: str | None
    kind: str
    op: str
    count: int
    root: int
    place: str
    sendform: str
    recvform: str
    seed: int


class Decks:
    """The dimensions of one collective."""

    def __init__(self, collective: str, p: int, seed: int) -> None:
        self.collective, self.serial = collective, 0
        seed = (seed * len(COLLECTIVES) + list(COLLECTIVES).index(collective)) * 10
        self.kinds = Deck(list(TYPES), seed)
        self.ops = {kind: Deck(ops, seed) for kind, (_, _, ops) in TYPES.items()}
        self.counts = Deck(sorted({0, 1, 2, p - 1, p, p + 1, 127, 4096}), seed + 1)
        self.roots = Deck(range(p), seed + 2)
        self.places = Deck(PLACES, seed + 3)
        self.send, self.recv = Deck(FORMS, seed + 4), Deck(FORMS, seed + 5)

    def deal(self, algorithm: str | None, size: int) -> Case:
        """A sample for a communicator of ``size`` ranks."""
        self.serial += 1
        kind = self.kinds.deal()
        while self.collective == "gather" and algorithm is None and TYPES[kind][0].names:
            kind = self.kinds.deal()  # MPICH 5.0.2's own Gather finds that many pairs do not match
        return Case(
            self.collective, algorithm, kind, self.ops[kind].deal(), self.counts.deal(), self.roots.deal() % size,
            self.places.deal(), self.send.deal(), self.recv.deal(), self.serial * 1000,
        )  # fmt: skip


def values(case: Case, n: int, rank: int) -> Any:
    """``n`` elements that differ by rank and by position, such that the operation is well defined on them."""
    dtype, _, _ = TYPES[case.kind]
    rng = np.random.default_rng(case.seed + rank)
    if dtype.names:
        out = np.zeros(n, dtype)
        out["value"], out["index"] = rng.integers(-3, 3, n), rng.integers(0, 100, n)
        return out
    if dtype.kind == "b" or case.op in _LOGICAL:
        return rng.integers(0, 2, n).astype(dtype)
    if dtype.kind in "iu" and case.op == "SUM":  # without overflow, which has no meaning that libraries agree on
        return rng.integers(0, 16, n).astype(dtype) - (8 if dtype.kind == "i" else 0)
    if dtype.kind in "iu" and case.op == "PROD":
        return np.where(rng.integers(0, 2, n) == 1, 2 if rank < 6 else 1, 1).astype(dtype)
    if dtype.kind in "iu":
        return rng.integers(0, 256, n * dtype.itemsize, np.uint8).view(dtype)
    real = rng.uniform(0.5, 1.5, n)
    if dtype.kind == "c":
        return (real + 1j * rng.uniform(-0.5, 0.5, n)).astype(dtype)
    return (real * rng.choice([-1, 1], n)).astype(dtype)


def spec(memory: Memory, kind: str, count: int, form: str) -> Any:
    """The memory as a buffer argument in one of mpi4py's forms; ``count`` elements a block."""
    dtype, mpi, _ = TYPES[kind]
    array = memory.data.view(dtype)
    start = PAD - _SHIFT * dtype.itemsize
    early = memory.all[start : start + memory.nbytes + _SHIFT * dtype.itemsize].view(dtype)
    bare = dtype.names is None and kind != "byte"
    if form == "type" or (not bare and form in ("array", "code", "columns", "view", "count only")):
        return [array, mpi]
    if form == "tuple":
        return (array, count, mpi)
    if form == "count":
        return [array, count, mpi]
    if form == "displ":
        return [early, (count, _SHIFT), mpi]
    if form == "four":
        return [early, count, _SHIFT, mpi]
    if form == "code":
        return [array, dtype.char]
    if form == "count only":
        return [array, count]
    if form == "view":
        return memoryview(array)
    return array.reshape((2, -1), order="F") if form == "columns" and len(array) % 2 == 0 and len(array) else array


class Arguments:
    """A case made into memory and arguments of one rank; for the oracle or for topocomm."""

    def __init__(self, case: Case, rank: int, p: int, oracle: bool) -> None:
        self.case, self.rank, self.p, self.oracle = case, rank, p, oracle
        self.send: Memory | None = None
        self.recv: Memory | None = None
        self.result: slice | None = None
        self.more: tuple[Any, ...] = ()
        self.dtype = TYPES[case.kind][0]
        self.place = case.place
        getattr(self, "_" + case.collective)()
        self.before = None if self.send is None else self.send.all.copy()

    def _memory(self, n: int, data: Any = None, at: int = 0) -> Memory:
        memory = Memory(n * self.dtype.itemsize)
        if data is not None:
            memory.data.view(self.dtype)[at : at + len(data)] = data
        return memory

    def _two(self, send: int, recv: int, own: slice, counts: tuple[int, int], here: bool = True) -> None:
        """A send and a receive buffer; in place the input is in ``own`` of the receive buffer."""
        data = values(self.case, send, self.rank)
        if self.place == "apart" or not here:
            self.send, self.recv = self._memory(send, data), self._memory(recv)
            sendarg = spec(self.send, self.case.kind, counts[0], self.case.sendform)
        else:
            self.recv = self._memory(max(recv, send), data, own.start)
            part = self.recv.data.view(self.dtype)[own]
            apart = self.place == "aliased" and not self.oracle
            sendarg = [part, TYPES[self.case.kind][1]] if apart else None if self.place == "none" else MPI.IN_PLACE
        assert self.recv is not None
        recvarg = spec(self.recv, self.case.kind, counts[1], self.case.recvform)
        if self.place == "aliased" and here and not self.oracle and recv < send:
            recvarg = [self.recv.data.view(self.dtype)[:recv], TYPES[self.case.kind][1]]
        self.args = (sendarg, recvarg)
        self.result = slice(0, recv)

    def _allgather(self) -> None:
        n = self.case.count
        self._two(n, self.p * n, slice(self.rank * n, (self.rank + 1) * n), (n, n))

    def _alltoall(self) -> None:
        n = self.case.count
        self._two(self.p * n, self.p * n, slice(0, self.p * n), (n, n))

    def _allreduce(self) -> None:
        n = self.case.count
        self._two(n, n, slice(0, n), (n, n))
        self.more = (getattr(MPI, self.case.op),)

    def _scan(self) -> None:
        self._allreduce()

    def _exscan(self) -> None:
        self._allreduce()
        if self.rank == 0:  # of no account, but it may be written
            self.result = slice(0, 0)

    def _reduce_scatter_block(self) -> None:
        n = self.case.count
        total = self.p * n
        self._two(total, n, slice(0, total), (n, n))
        self.more = (getattr(MPI, self.case.op),)

    def _reduce_scatter(self) -> None:
        n = self.case.count
        counts = [(n + 2 * i) % (n + 3) for i in range(self.p)]
        gathered = self.place == "apart" and self.case.sendform in ("array", "type", "count only")
        mine = None if gathered else counts  # mpi4py gathers them
        total, own = sum(counts), counts[self.rank]
        here = self.place != "apart"
        self._two(total, own, slice(0, total), (total, total if here else own))
        self.more = (mine, getattr(MPI, self.case.op))

    def _bcast(self) -> None:
        n = self.case.count
        at_root = self.rank == self.case.root
        memory = self._memory(n, values(self.case, n, self.rank) if at_root else None)
        self.send, self.recv = (memory, None) if at_root else (None, memory)
        self.args = (spec(memory, self.case.kind, n, self.case.recvform),)
        self.more = (self.case.root,)
        self.result = None if at_root else slice(0, n)

    def _reduce(self) -> None:
        n = self.case.count
        at_root = self.rank == self.case.root
        self._two(n, n, slice(0, n), (n, n), here=at_root)
        self.more = (getattr(MPI, self.case.op), self.case.root)
        self._unless_root(at_root)

    def _gather(self) -> None:
        n = self.case.count
        at_root = self.rank == self.case.root
        self._two(n, self.p * n, slice(self.rank * n, (self.rank + 1) * n), (n, n), here=at_root)
        self.more = (self.case.root,)
        self._unless_root(at_root)

    def _unless_root(self, at_root: bool) -> None:
        """Elsewhere than at the root the receive buffer is None or is not touched."""
        if not at_root:
            self.result = None
            if self.place != "none":
                self.args = (self.args[0], None)

    def _scatter(self) -> None:
        n = self.case.count
        at_root = self.rank == self.case.root
        data = values(self.case, self.p * n, self.rank)
        self.more = (self.case.root,)
        if not at_root:
            self.recv, self.result = self._memory(n), slice(0, n)
            self.args = (None, spec(self.recv, self.case.kind, n, self.case.recvform))
            return
        self.send = self._memory(self.p * n, data)
        sendarg = spec(self.send, self.case.kind, n, self.case.sendform)
        if self.place == "apart":
            self.recv, self.result = self._memory(n), slice(0, n)
            self.args = (sendarg, spec(self.recv, self.case.kind, n, self.case.recvform))
        elif self.place == "aliased" and not self.oracle:
            own = self.send.data.view(self.dtype)[self.rank * n : (self.rank + 1) * n]
            self.args = (sendarg, [own, TYPES[self.case.kind][1]])
        else:
            self.args = (sendarg, None if self.place == "none" else MPI.IN_PLACE)

    def _barrier(self) -> None:
        self.args = ()

    def vectors(self) -> tuple[Any, Any]:
        """The arguments of the vector form of a gather."""
        send, recv = self.args
        if recv is None or self.recv is None:
            return send, None
        n, mpi = self.case.count, TYPES[self.case.kind][1]
        return send, [self.recv.data.view(self.dtype), ([n] * self.p, [n * i for i in range(self.p)]), mpi]

    def outcome(self) -> Any:
        """The elements that the collective delivers here."""
        if self.recv is None or self.result is None:
            return np.empty(0, self.dtype)
        return self.recv.data.view(self.dtype)[self.result]

    def clean(self) -> None:
        """Canaries stand and send buffers are as they were."""
        for memory in (self.send, self.recv):
            assert memory is None or memory.intact(), f"written outside the buffer: {self.case}"
        assert self.send is None or (self.send.all == self.before).all(), f"send buffer changed: {self.case}"
        if self.recv is not None and self.result is None:
            assert (self.recv.all == Memory(self.recv.nbytes).all).all(), f"receive buffer of no account: {self.case}"


def _name(collective: str) -> str:
    return collective.capitalize()


def close(case: Case, found: Any, wanted: Any, p: int) -> bool:
    """Equal; sums and products of floating-point numbers to rounding."""
    if found.dtype.names:
        return all(close(case, found[name], wanted[name], p) for name in found.dtype.names)
    if found.dtype.kind in "fc" and case.collective in REDUCING and case.op in ("SUM", "PROD"):
        eps = np.finfo(found.dtype).eps
        return bool((np.abs(found - wanted) <= 8 * p * eps * (1.5**p)).all())
    return bool((found == wanted).all())


def compare(plain: MPI.Intracomm, wrapped: topocomm.Comm, case: Case) -> None:
    """Run a case on both and compare."""
    rank, p = plain.Get_rank(), plain.Get_size()
    if case.place == "aliased" and (case.algorithm is None):
        case.place = "in place"  # the library's own may refuse aliases
    oracle, ours = Arguments(case, rank, p, True), Arguments(case, rank, p, False)
    if case.collective == "gather":  # see deal()
        plain.Gatherv(*oracle.vectors(), *oracle.more)
    else:
        getattr(plain, _name(case.collective))(*oracle.args, *oracle.more)
    getattr(wrapped, _name(case.collective))(*ours.args, *ours.more, algorithm=case.algorithm)
    ours.clean()
    found, wanted = ours.outcome(), oracle.outcome()
    assert close(case, found, wanted, p), f"{case} on rank {rank} of {p}: {found[:8]}, not {wanted[:8]}"
    if case.collective == "allreduce":
        same = [found[name] for name in found.dtype.names] if found.dtype.names else [found]
        bits = b"".join(np.ascontiguousarray(a).view("u1").reshape(-1, a.itemsize)[:, :10].tobytes() for a in same)
        everywhere = plain.allgather(bits)
        assert len(set(everywhere)) == 1, f"{case}: different bits on different ranks"


def algorithms(collective: str, size: int) -> list[str | None]:
    """None for the automatic choice, and all names with all options that run on so many ranks."""
    names: list[str | None] = [None]
    for name, a in TABLE[collective].items():
        if not a.power_of_two or size & (size - 1) == 0:
            names += [name, *(f"{name}:{way}" for way in a.ways if way != "none")]
            names += [f"{name}:radix=3"] if a.radix else []
            names += [f"{name}:aggregate=2"] if a.aggregate else []
    return names


@check()
def every_collective_and_algorithm_agrees_with_the_library(world: MPI.Intracomm) -> None:
    p = world.Get_size()
    machines = [name for name in topologies(p) if name != "flat"]
    for name, plain in communicators(world):
        size, seed = plain.Get_size(), len(name) + p
        decks = {collective: Decks(collective, p, seed) for collective in COLLECTIVES}
        everywhere = ["flat", *machines] if p < 5 else ["cyclic", "random3"]
        for where in everywhere if name == "world" else [machines[seed % 5]]:
            wrapped = topocomm.Comm(plain, topology=topologies(size)[where])
            for collective in COLLECTIVES:
                for algorithm in algorithms(collective, size)[:: 1 if name == "world" else min(p, 5)]:
                    compare(plain, wrapped, decks[collective].deal(algorithm, size))
        if name == "world":
            assert sum(deck.serial for deck in decks.values()) >= 4 * len(TYPES), "too few samples"


@check()
def derived_communicators_agree_with_the_library(world: MPI.Intracomm) -> None:
    p = world.Get_size()
    for where in ("cyclic", "random3"):
        for name, wrapped in communicators(topocomm.Comm(world, topology=topologies(p)[where])):
            assert isinstance(wrapped, topocomm.Comm)
            plain = MPI.Intracomm(wrapped)
            decks = {collective: Decks(collective, p, len(name) + len(where)) for collective in COLLECTIVES}
            for collective in COLLECTIVES:
                compare(plain, wrapped, decks[collective].deal(None, plain.Get_size()))
