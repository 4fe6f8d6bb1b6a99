"""The collectives of mpi4py that topocomm has no schedules for: where decisions are traced, their first use is, too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mpi4py import MPI

__all__ = ["note_uncovered"]

_BASES = (
    "barrier", "bcast", "gather", "gatherv", "scatter", "scatterv", "allgather", "allgatherv", "alltoall", "alltoallv",
    "alltoallw", "reduce", "allreduce", "reduce_scatter_block", "reduce_scatter", "scan", "exscan",
    "neighbor_allgather", "neighbor_allgatherv", "neighbor_alltoall", "neighbor_alltoallv", "neighbor_alltoallw",
)  # fmt: skip


def _names() -> list[str]:
    """Return every collective call that mpi4py's communicators have, in the order of :data:`_BASES`."""
    known = {*dir(MPI.Intracomm), *dir(MPI.Topocomm)}
    forms = [(base.capitalize(), f"I{base}", f"{base.capitalize()}_init", base) for base in _BASES]
    return [name for four in forms for name in four if name in known]


NAMES = _names()


def note_uncovered(comm: Any, note: Callable[[str], None]) -> None:
    """Have ``comm`` call ``note(name)`` before each call of a collective that its class takes from mpi4py as it is."""
    for name in NAMES:
        own: Any = getattr(type(comm), name, None)
        if own is getattr(MPI.Topocomm, name):
            setattr(comm, name, partial(_noted, own, comm, name, note))


def _noted(call: Callable[..., Any], comm: Any, name: str, note: Callable[[str], None], *args: Any, **more: Any) -> Any:
    note(name)
    return call(comm, *args, **more)
