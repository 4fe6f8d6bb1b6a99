"""Private traffic: one duplicate for a wrapped communicator and all communicators made of its ranks.

The messages of schedules must never meet the program's own, so they go over a duplicate. MPI libraries have few
communicators to give (MPICH 2046) and take their time to make one; so a communicator that is derived from a wrapped one
sends over the same duplicate, to translated ranks, with tags of its own: ``number * TAGS`` and the :data:`TAGS` - 1
that follow. Communicators of one family are those that share a duplicate.

Why no message is received on another communicator than the one it was sent on:

1. A process draws no number twice from one family. A communicator takes a number only if every member drew this very
   number for it. So two communicators of a family that share a process have different numbers, whichever threads draw
   at the same time, and no number serves again after its communicator is freed.
2. Communicators that share no process exchange no messages.

Drawing is one ``MPI_Allreduce`` of two integers over the communicator itself when its first schedule runs, a second one
if the members drew different numbers. A communicator whose calls all go to the MPI library draws none. The duplicate
is made when a communicator is wrapped, and one whose settings name an algorithm of ours draws when it is derived: a
non-blocking call, which waits for nobody, can do neither.

A communicator becomes the first of a family of its own, with one more duplicate, where a member has no family (it was
made by ``Create_group`` or ``Idup``, and the duplicate is gone) or where the tags are used
up: after ``MPI_TAG_UB // TAGS`` numbers, 8 million in MPICH 5, at least 511 by the standard.

A process frees its duplicate with the last communicator of the family. That is in one order on all processes if the
derived communicators are freed before the one that was wrapped. If not, processes free it at different times, which
``MPI_Comm_free`` allows in practice: it is local in MPI libraries, as the standard expects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from topocomm.engines.carrier import Carrier

__all__ = ["TAGS", "Private"]

TAGS = 64
"""Tags of a communicator: of the engine, of the comparisons of calls, and room for calls under way at one time."""

_ABSENT = int(np.iinfo(np.int64).max)
_LEAST_TAG_UB = 32767

_keyval: list[int] = []


class Family:
    """A duplicate and the communicators that send over it."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm: MPI.Intracomm = comm.Dup()
        self.comm.Set_errhandler(MPI.ERRORS_RETURN)  # raised, for the handler of the communicator that called
        self._limit = (self.comm.Get_attr(MPI.TAG_UB) or _LEAST_TAG_UB) // TAGS
        self._lock = threading.Lock()
        self._next = 1  # 0 is the number of the communicator that was duplicated
        self._members = 1

    def draw(self, least: int) -> int:
        """Return a number that this process has not drawn before, at least ``least``; _ABSENT if there is none left."""
        with self._lock:
            number = max(self._next, least)
            self._next = number + 1
        return number if number < self._limit else _ABSENT

    def join(self) -> bool:
        """Count one more communicator; False if the last one is gone and the duplicate with it."""
        with self._lock:
            self._members += self._members > 0
            return self._members > 0

    def leave(self) -> None:
        """Count one communicator less; frees the duplicate with the last."""
        with self._lock:
            self._members -= 1
            last = self._members == 0
        if last and not MPI.Is_finalized():
            self.comm.Free()


@dataclass(frozen=True)
class _Membership:
    """A communicator's part in a family, kept as its attribute: it ends with the communicator, whoever frees that."""

    family: Family
    carrier: Carrier


def _end(_comm: MPI.Comm, _key: int, membership: _Membership) -> None:
    membership.family.leave()


class Private:
    """The private traffic of one communicator; of a wrapped one (no ``family``) or of one derived from it.

    ``settled`` says that all members are known to have been given the same family.
    """

    def __init__(self, comm: MPI.Intracomm, family: Family | None = None, settled: bool = False) -> None:
        self._comm = comm
        self._family = family
        self._settled = settled
        self._carrier: Carrier | None = None

    @property
    def is_open(self) -> bool:
        """True if the messages are carried: the same on all ranks between the same collective calls."""
        return self._carrier is not None

    def open(self) -> Carrier:
        """Return what carries the messages. Collective over the communicator when first called on it."""
        if self._carrier is None:
            self._carrier = self._open()
        return self._carrier

    def _open(self) -> Carrier:
        if not _keyval:
            _keyval.append(MPI.Comm.Create_keyval(delete_fn=_end))
        membership: Any = self._comm.Get_attr(_keyval[0])
        if membership is None:
            membership = self._join()
            self._comm.Set_attr(_keyval[0], membership)
        self._family, self._settled = membership.family, True
        carrier: Carrier = membership.carrier
        return carrier

    def _join(self) -> _Membership:
        """Become a member of the family if all members of the communicator can, else the first of another."""
        family = self._family if self._family is not None and self._family.join() else None
        number = _agree_on_number(self._comm, family)
        if number is not None and family is not None:
            return _Membership(family, Carrier(family.comm, _ranks(self._comm, family.comm), number * TAGS))
        if family is not None:
            family.leave()
        own = Family(self._comm)
        return _Membership(own, Carrier(own.comm, list(range(own.comm.Get_size())), 0))

    def hold(self) -> Callable[[], None]:
        """Keep the duplicate although the communicator is freed, until the function that this returns is called."""
        family = self._family
        assert family is not None  # something is under way over it
        family.join()
        return family.leave

    def settle(self) -> None:
        """Have a family, so that communicators derived from this one can be of it. Collective when first called."""
        if not self._settled:
            self.open()

    def derive(self, comm: MPI.Intracomm, settled: bool) -> Private:
        """Return the private traffic of ``comm``, derived from this communicator. Local.

        ``settled`` if every member of this communicator took part in making ``comm``, and called :meth:`settle` then.
        """
        return Private(comm, self._family, settled and self._settled)


def _agree_on_number(comm: MPI.Intracomm, family: Family | None) -> int | None:
    """Return the number that every member of ``comm`` drew for it; None if some member has none. Collective."""
    least = 0
    while True:
        drawn = family.draw(least) if family is not None else _ABSENT
        bounds = np.array([drawn, -drawn], np.int64)
        comm.Allreduce(MPI.IN_PLACE, bounds, MPI.MAX)
        largest, smallest = int(bounds[0]), -int(bounds[1])
        if largest == _ABSENT:
            return None
        if largest == smallest:
            return largest
        least = largest + 1


def _ranks(comm: MPI.Intracomm, carrying: MPI.Intracomm) -> list[int]:
    """Return the rank in ``carrying`` of every member of ``comm``."""
    members, everybody = comm.Get_group(), carrying.Get_group()
    try:
        return list(MPI.Group.Translate_ranks(members, None, everybody))
    finally:
        members.Free()
        everybody.Free()
