"""What the launched checks share: their registry, communicators, topologies, memory with canaries, samples.

A check is a function of one communicator (a duplicate of the world, made for it); it raises AssertionError on the ranks
that see something wrong. Nothing here uses topocomm's collectives: the oracle is the MPI library's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from mpi4py import MPI

import topocomm
from topocomm.topology import Topology

Check = Callable[[MPI.Intracomm], None]
CHECKS: dict[str, tuple[int, Check]] = {}
CANARY = 0xA5
PAD = 256
"""Bytes before and after the data of a Memory."""

T = TypeVar("T")


def check(ranks: int = 1) -> Callable[[Check], Check]:
    """List a check that needs at least ``ranks`` ranks."""

    def add(function: Check) -> Check:
        assert function.__name__ not in CHECKS
        CHECKS[function.__name__] = ranks, function
        return function

    return add


def expected(ranks: int) -> list[str]:
    """Names of the checks that run on so many ranks."""
    return [name for name, (need, _) in CHECKS.items() if need <= ranks]


class Deck(Generic[T]):
    """Deals the values of one dimension in random order, every one before any comes again; alike on every rank."""

    def __init__(self, values: Sequence[T], seed: int) -> None:
        self.values, self.rng, self.left = list(values), np.random.default_rng(seed), list[int]()

    def deal(self) -> T:
        """The next value."""
        if not self.left:
            self.left = list(self.rng.permutation(len(self.values)))
        return self.values[self.left.pop()]


class Memory:
    """Bytes between canaries."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.all = np.full(nbytes + 2 * PAD, CANARY, np.uint8)

    @property
    def data(self) -> Any:
        """The bytes between the canaries."""
        return self.all[PAD : PAD + self.nbytes]

    def intact(self) -> bool:
        """Whether nobody wrote outside."""
        return bool((self.all[:PAD] == CANARY).all() and (self.all[PAD + self.nbytes :] == CANARY).all())


def topologies(p: int) -> dict[str, Topology]:
    """Artificial machines: the ranks of one process of real cores pretend to be apart."""
    rng = np.random.default_rng(p)
    return {
        "flat": Topology.flat(p),
        "pairs": Topology(("node",), [[r // 2] for r in range(p)]),
        "cyclic": Topology(("node",), [[r % 2] for r in range(p)]),
        "unequal": Topology(("group",), [[0 if r in (1, 2, 4) else 1 if r != 5 else 2] for r in range(p)]),
        "apart": Topology(("node",), [[r] for r in range(p)]),
        "random3": Topology(("group", "switch", "node"), rng.integers(0, 2, (p, 3))),
    }


def communicators(world: MPI.Intracomm) -> Iterator[tuple[str, MPI.Intracomm]]:
    """Communicators of many kinds, one at a time, to the ranks that belong to them; freed when the next is asked for.

    ``world`` may be wrapped: then all but those made by way of an intercommunicator are its children.
    """
    p, r = world.Get_size(), world.Get_rank()
    shuffle = np.random.default_rng(p).permutation(p)
    yield "world", world
    recipes: dict[str, Callable[[], Any]] = {
        "dup": world.Dup,
        "reversed": lambda: world.Split(0, -r),
        "shuffled": lambda: world.Split(0, int(shuffle[r])),
        "interleaved": lambda: world.Split(0, r % 2 * p + r),
        "halves": lambda: world.Split(r % 2, -r),
        "some": lambda: world.Split(MPI.UNDEFINED if r == p // 2 else 0, r),
        "group": lambda: _of_group(world),
        "cart": lambda: world.Create_cart(MPI.Compute_dims(p, 2), periods=[True, False], reorder=True),
        "merged": lambda: _merged(world, False),
        "merged, high first": lambda: _merged(world, True),
    }
    for name, make in recipes.items():
        if name.startswith("merged") and p == 1:
            continue
        comm = make()
        if comm != MPI.COMM_NULL:
            yield name, comm
            comm.Free()


def _of_group(world: MPI.Intracomm) -> MPI.Intracomm:
    p = world.Get_size()
    everyone = world.Get_group()
    chosen = everyone.Incl(list(range(p - 1, -1, -1))[: max(p - 1, 1)])
    comm = world.Create_group(chosen) if chosen.Get_rank() != MPI.UNDEFINED else MPI.COMM_NULL
    chosen.Free()
    everyone.Free()
    return comm


def _merged(world: MPI.Intracomm, high_first: bool) -> MPI.Intracomm:
    """The low and the high third of the ranks, joined by an intercommunicator; the high ones first if so wanted."""
    p, r = world.Get_size(), world.Get_rank()
    cut = max(p // 3, 1)
    low = r < cut
    part = world.Split(0 if low else 1, r)
    inter = part.Create_intercomm(0, world, cut if low else 0, 7)
    merged = inter.Merge(low if high_first else not low)
    inter.Free()
    part.Free()
    return merged


def wrap(comm: MPI.Intracomm, name: str = "cyclic", **settings: Any) -> topocomm.Comm:
    """``comm`` wrapped as if its ranks sat in one of the artificial machines."""
    return topocomm.Comm(comm, topology=topologies(comm.Get_size())[name], **settings)


def raised(function: Callable[[], object]) -> BaseException | None:
    """The exception that a call raises, or None."""
    try:
        function()
    except Exception as e:
        return e
    return None
