"""Facts about the collectives, one record each: the only place that says which have a root, reduce, or count blocks.

:data:`COLLECTIVES` are those with schedules, :data:`RELATIVES` MPI's others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from topocomm.errors import AlgorithmError

__all__ = ["COLLECTIVES", "PREFIXES", "REDUCING", "RELATIVES", "ROOTED", "Collective", "Relative", "find_collective"]


@dataclass(frozen=True, slots=True)
class Collective:
    """One collective operation of MPI."""

    name: str
    method: str
    """Name of mpi4py's method for buffers."""
    rooted: bool = False
    """Whether one rank, the root, has another part than the others."""
    reduces: bool = False
    """Whether operands of several ranks are combined by an operation."""
    blocks: bool = False
    """Whether the whole vector consists of one block for each rank."""
    counts_block: bool = False
    """Whether the count of a call is that of one block; else it is that of the whole vector."""
    prefix: bool = False
    """Whether each rank gets what ranks up to its own give; every slot of a schedule holds a whole vector then."""

    @property
    def equal_slots(self) -> bool:
        """Whether all blocks of a schedule have the count of a call; else the vector is cut between them."""
        return self.prefix or self.counts_block


@dataclass(frozen=True, slots=True)
class Relative:
    """A collective operation of MPI that has no schedules of its own."""

    name: str
    why: str
    """Why it has none, and so is the MPI library's unless ``governed_by`` is named."""
    governed_by: str = ""
    """The collective for which an algorithm must be named so that topocomm makes the call; empty: it never does."""

    @property
    def method(self) -> str:
        """Name of mpi4py's method for buffers."""
        return self.name.capitalize()


_RECORDS = (
    Collective("allgather", "Allgather", blocks=True, counts_block=True),
    Collective("allreduce", "Allreduce", reduces=True),
    Collective("reduce_scatter", "Reduce_scatter", reduces=True, blocks=True),
    Collective("reduce_scatter_block", "Reduce_scatter_block", reduces=True, blocks=True, counts_block=True),
    Collective("alltoall", "Alltoall", blocks=True, counts_block=True),
    Collective("bcast", "Bcast", rooted=True),
    Collective("reduce", "Reduce", rooted=True, reduces=True),
    Collective("gather", "Gather", rooted=True, blocks=True, counts_block=True),
    Collective("scatter", "Scatter", rooted=True, blocks=True, counts_block=True),
    Collective("scan", "Scan", reduces=True, prefix=True),
    Collective("exscan", "Exscan", reduces=True, prefix=True),
    Collective("barrier", "Barrier"),
)
_NEIGHBOURS = "each rank exchanges with its own neighbours alone; reorder=True puts these near each other"
_RELATIVES = (
    Relative("gatherv", "only the root knows the counts, so ranks cannot agree on a schedule"),
    Relative("scatterv", "only the root knows the counts, so ranks cannot agree on a schedule"),
    Relative("allgatherv", "blocks of unequal size are not modelled, so nothing is chosen by itself", "allgather"),
    Relative("alltoallv", "no rank knows the counts of the others, so ranks cannot agree on a schedule", "alltoall"),
    Relative("alltoallw", "no rank knows the types of the others, so ranks cannot agree on a schedule", "alltoall"),
    *(
        Relative(f"neighbor_{name}", _NEIGHBOURS)
        for name in ("allgather", "allgatherv", "alltoall", "alltoallv", "alltoallw")
    ),
)

COLLECTIVES: Mapping[str, Collective] = MappingProxyType({record.name: record for record in _RECORDS})
"""Name → record, in the order in which ``python -m topocomm list`` shows them."""
RELATIVES: Mapping[str, Relative] = MappingProxyType({record.name: record for record in _RELATIVES})
"""Name → record of the collectives without schedules."""
ROOTED = tuple(name for name, record in COLLECTIVES.items() if record.rooted)
PREFIXES = tuple(name for name, record in COLLECTIVES.items() if record.prefix)
REDUCING = tuple(name for name, record in COLLECTIVES.items() if record.reduces)


def find_collective(name: str) -> Collective:
    """Return the record of a collective. Raises AlgorithmError if there is none of this name."""
    if name not in COLLECTIVES:
        raise AlgorithmError(f"unknown collective {name!r}; known are {', '.join(COLLECTIVES)}")
    return COLLECTIVES[name]
