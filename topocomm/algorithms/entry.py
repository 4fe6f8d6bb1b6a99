"""Entries of the table of algorithms: all that is known of one algorithm of one collective, given by its own file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from topocomm.algorithms.options import Options
from topocomm.schedule import Schedule
from topocomm.schedule.transfers import Transfers
from topocomm.topology import Topology

__all__ = ["Algorithm", "Builder", "Bulk", "Case", "Form", "Patterns"]

Builder: TypeAlias = Callable[[Topology, int, Options], Schedule]
"""``build(topology, root, options)``: the schedule of a collective."""
Bulk: TypeAlias = Callable[[Topology, int, Options], Transfers]
"""``bulk(topology, root, options)``: the messages of all ranks at once, those of the schedule."""
Patterns: TypeAlias = Callable[[int], list[str]]


@dataclass(frozen=True)
class Form:
    """One form of an algorithm in two views: its schedule, and all its messages at once.

    Without ``bulk`` messages are read from the schedule, rank by rank, which takes long for thousands of ranks.
    """

    build: Builder
    bulk: Bulk | None = None


@dataclass(frozen=True)
class Case:
    """One question to the model: a collective of ``nbytes`` bytes on a topology and a machine. Times in seconds."""

    collective: str
    topology: Topology
    nbytes: int
    """Bytes of the whole vector."""
    sending: float
    """Time that a message keeps its sender busy."""
    receiving: float
    """Time that a message keeps its receiver busy, combining included."""
    latency: float
    """Latency of the longest route, about."""
    speed: float
    """Bytes a second that a rank can send, about."""
    seconds: Callable[[Transfers], float]
    """Time of a list of messages on this machine; takes a moment."""
    patterns: Patterns | None = None
    """Gives the options of the most promising patterns of ``leveled``, at most N, if they are known without it."""


def _plain(case: Case) -> Sequence[str]:
    return ("",)


def _cheap(topology: Topology) -> str:
    return ""


@dataclass(frozen=True)
class Algorithm:
    """One entry of the table.

    On a flat topology no rank has more than ``rounds(p)`` rounds or sends more than ``sent(p)`` times the vector, and
    for p a power of two the busiest rank has exactly that.
    """

    name: str
    collective: str
    summary: str
    form: Form
    rounds: Callable[[int], int]
    sent: Callable[[int], Fraction]
    power_of_two: bool = False
    """Whether it needs a power of two of ranks."""
    in_order: bool = False
    """Whether it can combine operands in the order of ranks (some only if ranks stand in topology order)."""
    whole: bool = False
    """Whether every combining message carries the whole vector, so that an operation never sees a piece of it."""
    ways: tuple[str, ...] = ("none",)
    """The realisations of its reordering."""
    radix: bool = False
    radices: bool = False
    """Whether every level may have a radix of its own."""
    aggregate: bool = False
    levels: bool = False
    segments: bool = False
    trials: Callable[[Case], Sequence[str]] = _plain
    """The options with which the model tries it in a case; "" stands for none, no entry at all: not tried."""
    too_many: Callable[[Topology], str] = _cheap
    """Why it takes too long to price on a topology; "" if it does not."""

    @property
    def baseline(self) -> bool:
        """Whether this is a textbook form, in the order of ranks."""
        return self.name.startswith("textbook_")

    @property
    def requires(self) -> str:
        """The numbers of ranks that it takes, in words."""
        return "p a power of two" if self.power_of_two else "any p"

    def can_run(self, p: int) -> bool:
        """Whether it can run on p ranks."""
        return not (self.power_of_two and p & (p - 1))
