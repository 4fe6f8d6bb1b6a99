"""Where the ranks of a wrapped communicator, and of all communicators made of them, sit; and what chooses for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from mpi4py import MPI

from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.choose.measured import Tuning
    from topocomm.choose.modelled import Chooser, ModelCache
    from topocomm.model.machine import Machine

__all__ = ["Members", "Places", "Ranks"]

Ranks = tuple[int, ...] | None
"""The ranks of a derived communicator in the one that was wrapped; None for all of them in their order."""

_MOST_CHOOSERS = 64


class Places:
    """The topology, machine and tuning of a wrapped communicator, for any of its ranks.

    Communicators of the same ranks have one chooser, so that one more of a kind costs next to nothing; the last
    :data:`_MOST_CHOOSERS` are kept.
    """

    def __init__(
        self, topology: Topology, machine: Machine | None, tuning: Tuning | None, memory: ModelCache | None, engine: str
    ) -> None:
        self.engine = engine
        self.topology = topology
        self.machine = machine
        self.tuning = tuning
        self._memory = memory
        self.chooser: Callable[[Ranks], Chooser] = lru_cache(_MOST_CHOOSERS)(self._chooser)

    @property
    def memory(self) -> ModelCache:
        """What the model has worked out; shared by the communicators that are made from one another."""
        if self._memory is None:
            from topocomm.choose.modelled import ModelCache

            self._memory = ModelCache()
        return self._memory

    def _chooser(self, ranks: Ranks) -> Chooser:
        from topocomm.choose.modelled import Chooser

        name, numbers = MPI.get_vendor()
        library = f"{name} {'.'.join(map(str, numbers))}"  # as tuning files have it
        topology = self.topology if ranks is None else self.topology.restrict(ranks)
        return Chooser(topology, self.machine, self.tuning, library, self.memory, self.engine)


class Members:
    """The ranks of a communicator, by which those of derived ones are found, also when it has been freed."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._group, self._size = comm.Get_group(), comm.Get_size()
        weakref.finalize(self, _free, self._group).atexit = False

    def ranks_of(self, comm: MPI.Intracomm, wrapped: Ranks) -> Ranks:
        """Return the ranks of ``comm`` in the communicator that was wrapped, of which these are ``wrapped``. Local."""
        members = comm.Get_group()
        try:
            ranks = MPI.Group.Translate_ranks(members, None, self._group)
        finally:
            members.Free()
        if wrapped is not None:
            return tuple(wrapped[rank] for rank in ranks)
        return None if len(ranks) == self._size and ranks == list(range(len(ranks))) else tuple(ranks)


def _free(group: MPI.Group) -> None:
    if not MPI.Is_finalized():
        group.Free()
