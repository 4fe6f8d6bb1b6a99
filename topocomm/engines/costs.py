"""Costs of the engines: seconds of processor time that they add to what the MPI library's own C code takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

__all__ = ["COSTS", "Costs", "costs_of"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that an engine adds."""

    call: float
    """To a call: arguments read, program looked up; below 0 where the library itself takes longer for that."""
    message: float
    """To a message."""
    reduced: float
    """To a message that is combined; what it is more than a plain one occupies the receiver."""


COSTS: Mapping[str, Costs] = MappingProxyType(
    {"c": Costs(0.25e-6, 0.1e-6, 0.15e-6), "python": Costs(4e-6, 1.5e-6, 6.5e-6)},
)
"""Engine → costs, of two libraries the dearer. A call of ``c``: what an allreduce takes more than the library's own by
the same messages (``bench.library_cost``; under MPICH it takes a microsecond less). A message of ``c``: what a round
takes more than the same messages in plain C (``bench.engines``), although a library's collective takes more, too. Of
``python`` what ``bench.overhead`` measures.
"""

_SLOWER_LIBRARIES: Mapping[str, float] = MappingProxyType({"MPICH 5.": -1e-6})
"""Beginning of a library's name and version → the same of a call of ``c``, where a collective of the library was found
to cost it more: 1.06 us, at any thread level (``bench.library_cost``)."""


def costs_of(engine: str, library: str = "") -> Costs:
    """Return what an engine adds to the collectives of an MPI library, by name and version; "": of any."""
    call = next((c for name, c in _SLOWER_LIBRARIES.items() if engine == "c" and library.startswith(name)), None)
    return COSTS[engine] if call is None else replace(COSTS[engine], call=call)
