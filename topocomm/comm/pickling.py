"""Pickling and copying of wrapped communicators: local, and with their settings.

As with mpi4py, only ``MPI.COMM_WORLD``, ``MPI.COMM_SELF`` and ``MPI.COMM_NULL`` can be pickled: other communicators
mean nothing elsewhere. What comes back must know what the other ranks know of it, for instance which calls they have
compared; so those that were wrapped with equal settings, topology, machine and tuning have one state on each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpi4py import MPI

from topocomm.comm import plain
from topocomm.comm.given import Origin
from topocomm.comm.places import Places
from topocomm.comm.settings import Settings
from topocomm.comm.state import Runtime
from topocomm.errors import TopologyError
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.choose.measured import Tuning
    from topocomm.model.machine import Machine

__all__ = ["Content", "content", "name_of", "restore", "shared"]

_NAMES = ("COMM_WORLD", "COMM_SELF")

_runtimes: dict[tuple[str, str], Runtime] = {}
"""State of MPI.COMM_WORLD and MPI.COMM_SELF, by name and what they were wrapped with."""


@dataclass(frozen=True)
class Content:
    """All that a communicator was wrapped with."""

    settings: Settings
    origin: Origin
    topology: Topology
    machine: Machine | None
    tuning: Tuning | None

    @property
    def digest(self) -> str:
        """A hash, equal for equal contents; where they are from does not count."""
        import hashlib

        labels = self.topology.levels, self.topology.labels.tolist()
        return hashlib.sha256(repr((self.settings, labels, self.machine, self.tuning)).encode()).hexdigest()


def name_of(comm: MPI.Comm) -> str | None:
    """Return the name that MPI has for a communicator which every process has; None if it has none."""
    return next((name for name in _NAMES if comm == getattr(plain, name)), None)


def content(runtime: Runtime) -> Content:
    """Return what a communicator was wrapped with."""
    return Content(runtime.settings, runtime.origin, runtime.topology, runtime.places.machine, runtime.places.tuning)


def shared(runtime: Runtime) -> Runtime:
    """Return the state for a communicator that was wrapped now: the one there is if it was before, with the same."""
    name = name_of(runtime.comm)
    return runtime if name is None else _runtimes.setdefault((name, content(runtime).digest), runtime)


def restore(name: str, found: Content) -> Runtime:
    """Return the state of the communicator ``name`` of MPI that was pickled. Local.

    Raises TopologyError if it was pickled in a job with another number of ranks.
    """
    key = name, found.digest
    if key not in _runtimes:
        comm = MPI.Intracomm(getattr(plain, name))
        if comm.Get_size() != found.topology.size:
            were, are = found.topology.size, comm.Get_size()
            raise TopologyError(f"MPI.{name} was pickled with {were} ranks, here it has {are}; wrap it anew")
        places = Places(found.topology, found.machine, found.tuning, None, found.settings.engine)
        _runtimes[key] = Runtime(comm, places, found.settings, found.origin)
    return _runtimes[key]
