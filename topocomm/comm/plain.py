"""mpi4py's own ``MPI.COMM_WORLD`` and ``MPI.COMM_SELF``, also where ``topocomm run`` has put a wrapped one there.

Imported before that. Pickle finds an object by its name in a module, and so the plain world by its name here.
"""

from __future__ import annotations

from mpi4py import MPI

__all__ = ["COMM_SELF", "COMM_WORLD"]

COMM_WORLD = MPI.COMM_WORLD
COMM_SELF = MPI.COMM_SELF
