"""Where the ranks of a wrapped communicator, and of all communicators made of them, sit; and what chooses for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from mpi4py import MPI

from topocomm.choose.measured import Tuning
from topocomm.choose.modelled import Chooser, ModelCache
from topocomm.model.machine import Machine
from topocomm.topology import Topology

__all__ = ["Places", "Ranks", "ranks_in"]

Ranks = tuple[int, ...] | None
"""The ranks of a derived communicator in the one that was wrapped; None for all of them in their order."""

_MOST_CHOOSERS = 64


class Places:
    """The topology, machine and tuning of a wrapped communicator, for any of its ranks.

    Communicators of the same ranks have one chooser, so that one more of a kind costs next to nothing; the last
    :data:`_MOST_CHOOSERS` are kept.
    """

    def __init__(
        self, topology: Topology, machine: Machine | None, tuning: Tuning | None, memory: ModelCache, engine: str
    ) -> None:
        self.engine = engine
        self.topology = topology
        self.machine = machine
        self.tuning = tuning
        self.memory = memory
        self.chooser: Callable[[Ranks], Chooser] = lru_cache(_MOST_CHOOSERS)(self._chooser)

    def _chooser(self, ranks: Ranks) -> Chooser:
        name, numbers = MPI.get_vendor()
        library = f"{name} {'.'.join(map(str, numbers))}"  # as tuning files have it
        topology = self.topology if ranks is None else self.topology.restrict(ranks)
        return Chooser(topology, self.machine, self.tuning, library, self.memory, self.engine)


def ranks_in(comm: MPI.Intracomm, parent: MPI.Intracomm, of_parent: Ranks) -> Ranks:
    """Return the ranks that ``comm`` has of a wrapped communicator, given those of ``parent``, which it is made of."""
    members, everybody = comm.Get_group(), parent.Get_group()
    try:
        ranks = MPI.Group.Translate_ranks(members, None, everybody)
    finally:
        members.Free()
        everybody.Free()
    if of_parent is not None:
        return tuple(of_parent[rank] for rank in ranks)
    return None if len(ranks) == parent.Get_size() and ranks == list(range(len(ranks))) else tuple(ranks)
