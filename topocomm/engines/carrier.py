"""What carries messages of an engine over MPI: an address, without the engine."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["Carrier"]


@dataclass(frozen=True, slots=True)
class Carrier:
    """What carries the messages of one communicator: a communicator, its rank of every member, and a tag.

    Messages between two ranks match in order, so one tag is enough for a run; runs that are under way at the same time
    have different ones.
    """

    comm: MPI.Intracomm
    ranks: Sequence[int]
    tag: int
    kept: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """Objects that all have in common who send with these tags: they count runs."""
