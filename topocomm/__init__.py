"""topocomm: topology-aware collectives and notified RMA for MPI applications in Python.

>>> from mpi4py import MPI
>>> import topocomm
>>> comm = topocomm.Comm(MPI.COMM_WORLD)     # the one changed line

``import topocomm`` does not start MPI; :class:`Comm` and what needs MPI are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from topocomm.errors import AlgorithmError, BufferError, Error, ScheduleError, TopologyError
from topocomm.topology import Topology

if TYPE_CHECKING:
    from topocomm.comm import Comm as Comm
    from topocomm.comm.operations import elementwise as elementwise
    from topocomm.rma.win import Win as Win

__version__ = "0.1.0"

__all__ = [
    "AlgorithmError",
    "BufferError",
    "Comm",
    "Error",
    "ScheduleError",
    "Topology",
    "TopologyError",
    "Win",
    "__version__",
    "elementwise",
]


def __getattr__(name: str) -> Any:
    if name == "Comm":
        from topocomm.comm import Comm

        return Comm
    if name == "elementwise":
        from topocomm.comm.operations import elementwise

        return elementwise
    if name == "Win":
        from topocomm.rma.win import Win

        return Win
    raise AttributeError(f"module 'topocomm' has no attribute {name!r}")
