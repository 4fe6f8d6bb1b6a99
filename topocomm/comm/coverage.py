"""Who makes each collective call of mpi4py's communicators: topocomm, when and by what, or the MPI library, and why.

The methods are read from mpi4py, so that none is forgotten; whether one is topocomm's from the classes that wrap; the
reasons from :mod:`topocomm.collectives`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpi4py import MPI

from topocomm.collectives import COLLECTIVES, PREFIXES, RELATIVES
from topocomm.comm.methods import BLOCKING, OBJECTS, PREPARED, STARTED, methods
from topocomm.engines import ENGINES

__all__ = ["Row", "coverage"]

LIBRARY = "MPI library"

_BY_ENGINES = f"engine {' or '.join(ENGINES)}"
_BY_ITSELF = "at MPI_THREAD_MULTIPLE"
_THROUGH_MEMORY = "ranks of one host have a core each"
_OBJECTS_OF_ALL = "allreduce", "allgather", "bcast"
"""Calls on objects for which frames travel in messages where they do not go through memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method of mpi4py's communicators."""

    method: str
    collective: str
    form: str
    """One of :data:`topocomm.comm.methods.FORMS`."""
    by: str
    """What makes the call: topocomm's engines or memory that ranks share, or the MPI library alone."""
    when: str
    """When topocomm makes it, and who does else; why it never does."""

    @property
    def is_ours(self) -> bool:
        """True if topocomm makes the call in some cases."""
        return self.by != LIBRARY


def coverage() -> list[Row]:
    """Return a row for each method of :func:`methods`."""
    return [Row(name, *found, *_facts(name, *found)) for name, found in methods().items()]


def is_overridden(method: str) -> bool:
    """Tell whether a wrapped communicator has a method of its own."""
    from topocomm.comm.comm import Cartcomm, Comm

    kind: Any = Cartcomm if method not in dir(Comm) else Comm
    return getattr(kind, method) is not getattr(MPI.Topocomm, method)


def _facts(method: str, collective: str, form: str) -> tuple[str, str]:
    """Return what makes a call, and when or why."""
    if not is_overridden(method):
        return LIBRARY, _why_not(collective, form)
    if form == OBJECTS:
        return _facts_of_objects(collective)
    shared = "" if collective in PREFIXES else ", or shared memory"
    if form == STARTED:
        return f"{_BY_ENGINES}{shared}", f"an algorithm is named, {_BY_ITSELF}, else the MPI library"
    if form == PREPARED:
        return f"{_BY_ENGINES}{shared}", f"as {COLLECTIVES[collective].method}, {_BY_ITSELF}, else the MPI library"
    if collective in COLLECTIVES:
        return f"{_BY_ENGINES}{shared}", "as named, measured or modelled, else the MPI library"
    relative = RELATIVES[collective]
    by = _BY_ENGINES if collective == "allgatherv" else "messages between pairs"
    return by, f"an algorithm is named for {relative.governed_by}, else the MPI library: {relative.why}"


def _facts_of_objects(collective: str) -> tuple[str, str]:
    if collective == "barrier":
        return _facts("Barrier", collective, BLOCKING)
    if collective in _OBJECTS_OF_ALL:
        return "shared memory, or frames", f"memory where {_THROUGH_MEMORY}, else frames by a call of the MPI library"
    return "shared memory", f"{_THROUGH_MEMORY}, else mpi4py"


def _why_not(collective: str, form: str) -> str:
    relative = RELATIVES.get(collective)
    if relative is not None and not relative.governed_by:
        return relative.why
    if collective not in COLLECTIVES and relative is None:
        return "not known to topocomm"
    if form == OBJECTS:
        return "mpi4py pickles and sends; no frames are written for it"
    return f"no {form} form is written"
