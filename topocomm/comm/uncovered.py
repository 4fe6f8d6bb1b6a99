"""The collectives of mpi4py that topocomm has no schedules for: where decisions are traced, their first use is, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

from topocomm.comm.methods import methods

__all__ = ["note_uncovered"]


def note_uncovered(comm: Any, note: Callable[[str], None]) -> None:
    """Have ``comm`` call ``note(name)`` before each call of a collective that its class takes from mpi4py as it is."""
    for name in methods():
        own: Any = getattr(type(comm), name, None)
        if own is getattr(MPI.Topocomm, name):
            setattr(comm, name, partial(_noted, own, comm, name, note))


def _noted(call: Callable[..., Any], comm: Any, name: str, note: Callable[[str], None], *args: Any, **more: Any) -> Any:
    note(name)
    return call(comm, *args, **more)
