"""The collective methods of mpi4py's communicators, read from mpi4py itself."""

from __future__ import annotations

import inspect
from functools import cache

from mpi4py import MPI

from topocomm.collectives import COLLECTIVES, RELATIVES

__all__ = ["BLOCKING", "FORMS", "OBJECTS", "PREPARED", "STARTED", "methods"]

BLOCKING, STARTED, PREPARED, OBJECTS = FORMS = "blocking", "non-blocking", "persistent", "objects"

_TO_ONE_RANK = {"dest", "source"}


@cache
def methods() -> dict[str, tuple[str, str]]:
    """Return each collective method of mpi4py's communicators with its collective and form, in the table's order.

    A method is taken for a collective if it has a persistent form and names no rank to send to or to receive from.
    Calls that make communicators have none.
    """
    names = {*dir(MPI.Intracomm), *dir(MPI.Topocomm), *dir(MPI.Intercomm)}
    known = [*(c.method for c in COLLECTIVES.values()), *(r.method for r in RELATIVES.values())]
    found = sorted({name.removesuffix("_init") for name in names if name.endswith("_init")} & names)
    bases = [base for base in found if not _TO_ONE_RANK & {*inspect.signature(getattr(MPI.Topocomm, base)).parameters}]
    bases.sort(key=lambda base: known.index(base) if base in known else len(known))
    forms = [(BLOCKING, "{0}"), (STARTED, "I{1}"), (PREPARED, "{0}_init"), (OBJECTS, "{1}")]
    every = [(base, form, name.format(base, base.lower())) for base in bases for form, name in forms]
    return {name: (base.lower(), form) for base, form, name in every if name in names}
