"""Costs of the engines: seconds of processor time that they add to what the MPI library's own C code takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COSTS", "Costs"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that an engine adds."""

    call: float
    """To a call: arguments read, program looked up."""
    message: float
    """To a message."""
    reduced: float
    """To a message that is combined; what it is more than a plain one occupies the receiver."""


COSTS: Mapping[str, Costs] = MappingProxyType(
    {"c": Costs(1e-6, 0.25e-6, 0.3e-6), "python": Costs(4e-6, 1.5e-6, 6.5e-6)},
)
"""Engine → costs. Of ``c`` twice what ``bench.engines`` measures of a message, a round less the same messages in plain
C, so that a doubtful case stays with the MPI library; of ``python`` what ``bench.overhead`` does.
"""
