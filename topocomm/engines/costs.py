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
    {"c": Costs(0.25e-6, 0.1e-6, 0.15e-6), "python": Costs(4e-6, 1.5e-6, 6.5e-6)},
)
"""Engine → costs, of two libraries the dearer. A call of ``c``: what an allreduce takes more than the library's own by
the same messages (``bench.library_cost``, two ranks of one host; under MPICH it takes a microsecond less there, which
the choice leaves out until it is measured between hosts, too). A message of ``c``: what a round
takes more than the same messages in plain C (``bench.engines``), although a library's collective takes more, too. Of
``python`` what ``bench.overhead`` measures.
"""
