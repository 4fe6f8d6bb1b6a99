"""topocomm: topology-aware collectives and notified RMA for MPI applications in Python.

>>> from mpi4py import MPI
>>> import topocomm
>>> comm = topocomm.Comm(MPI.COMM_WORLD)     # the one changed line

``import topocomm`` opens two files and does not start MPI: :class:`Comm`, :class:`Topology`, :class:`Win`,
:func:`elementwise` and :func:`empty` with its kin are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from topocomm.errors import AlgorithmError, BufferError, Error, ScheduleError, TopologyError

if TYPE_CHECKING:
    from topocomm.comm import Comm as Comm
    from topocomm.comm.operations import elementwise as elementwise
    from topocomm.comm.requests import Prequest as Prequest
    from topocomm.comm.requests import Request as Request
    from topocomm.engines.memory import empty as empty
    from topocomm.engines.memory import empty_like as empty_like
    from topocomm.engines.memory import zeros as zeros
    from topocomm.rma.win import Win as Win
    from topocomm.topology import Topology as Topology

__version__ = "0.1.0"

__all__ = [
    "AlgorithmError",
    "BufferError",
    "Comm",
    "Error",
    "Prequest",
    "Request",
    "ScheduleError",
    "Topology",
    "TopologyError",
    "Win",
    "__version__",
    "elementwise",
    "empty",
    "empty_like",
    "zeros",
]


_LOADED_WHEN_USED = {
    "Comm": "topocomm.comm",
    "Topology": "topocomm.topology",
    "Prequest": "topocomm.comm.requests",
    "Request": "topocomm.comm.requests",
    "Win": "topocomm.rma.win",
    "elementwise": "topocomm.comm.operations",
    "empty": "topocomm.engines.memory",
    "empty_like": "topocomm.engines.memory",
    "zeros": "topocomm.engines.memory",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module 'topocomm' has no attribute {name!r}")
    found = getattr(import_module(_LOADED_WHEN_USED[name]), name)
    globals()[name] = found
    return found
