"""Sources that say where the nodes of a job sit, one a module, the best first. No MPI.

A module has a :class:`~topocomm.topology.live.sources.host.Source`: a question that a node answers from its own files
and environment, and a function of all answers that places the nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.gcp import GCP
from topocomm.topology.live.sources.host import Host, Node, Placed, Source
from topocomm.topology.live.sources.kubernetes import KUBERNETES
from topocomm.topology.live.sources.place import PLACE
from topocomm.topology.live.sources.slingshot import SLINGSHOT
from topocomm.topology.live.sources.slurm import SLURM
from topocomm.topology.live.sources.xname import CRAY_XNAME

__all__ = ["OFF", "SOURCES", "Host", "Node", "Placed", "Source", "named_sources"]

OFF = "off"
SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "place": PLACE,
        "slurm": SLURM,
        "slingshot": SLINGSHOT,
        "xname": CRAY_XNAME,
        "kubernetes": KUBERNETES,
        "gcp": GCP,
    }
)
"""Name → source, the best first."""


def named_sources(words: str | None) -> tuple[str, ...]:
    """Read a value of ``TOPOCOMM_DISCOVER``: names between commas, the best first; ``off``: none; None: as usual.

    Raises TopologyError for an unknown name, and for one that is given twice.
    """
    if words is None:
        return tuple(name for name, source in SOURCES.items() if source.unasked)
    names = [name.strip() for name in words.split(",")]
    if names == [OFF]:
        return ()
    for name in names:
        if name not in SOURCES:
            raise TopologyError(f"unknown source {name!r}; known are {', '.join(SOURCES)}, and {OFF!r} alone")
        if names.count(name) > 1:
            raise TopologyError(f"source {name!r} is named twice")
    return tuple(names)
