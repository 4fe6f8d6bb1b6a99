"""Sizes, times and ratios in words, and the cases of a comparison that figures and sentences are about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from topocomm.cli.report.document import NATIVE, Part, Row, Variant
from topocomm.cli.report.statistics import Ratio, median, paired

__all__ = ["Case", "cases", "libraries", "size_words", "time_words", "times_words"]

_UNITS = ("B", "KiB", "MiB", "GiB")
_ALIKE = 0.05


@dataclass(frozen=True)
class Case:
    """One row with both sides: the MPI library's own call, and topocomm's in the same run."""

    part: Part
    row: Row
    native: Variant
    ours: Variant

    @property
    def left_native(self) -> bool:
        """True where topocomm left the call to the MPI library, so that any difference is noise."""
        return self.ours.algorithm == NATIVE

    @property
    def speed(self) -> Ratio:
        """The MPI library's time over topocomm's, turn by turn: above 1, topocomm is faster."""
        return paired(self.native.samples_us, self.ours.samples_us)

    @property
    def verdict(self) -> str:
        """``native``, ``alike`` (within 5 %), ``faster``, ``slower``, or ``unclear``: the interval holds 1."""
        if self.left_native:
            return "native"
        speed = self.speed
        if abs(speed.median - 1) <= _ALIKE:
            return "alike"
        if speed.low is not None and speed.high is not None and speed.low <= 1 <= speed.high:
            return "unclear"
        return "faster" if speed.median > 1 else "slower"

    @property
    def name(self) -> str:
        """The call in words."""
        return f"{self.row.collective} of {size_words(self.row.size)}, {self.part.place.placement}"

    def over_bound(self, variant: Variant) -> float | None:
        """Return a variant's time over the bound; None where there is no bound."""
        return median(variant.samples_us) / self.row.bound_us if self.row.bound_us else None


def cases(parts: Sequence[Part]) -> Iterator[Case]:
    """Yield the rows in which both sides were measured."""
    for part in parts:
        for row in part.rows:
            if row.ours is not None and NATIVE in row.variants:
                yield Case(part, row, row.variants[NATIVE], row.variants[row.ours])


def libraries(parts: Sequence[Part]) -> list[str]:
    """List the MPI libraries, in the order of the parts."""
    return list(dict.fromkeys(part.mpi for part in parts))


def size_words(size: int) -> str:
    """Write a number of bytes with a binary unit."""
    step = 0
    value: float = size
    while value >= 1024 and step < len(_UNITS) - 1:
        value, step = value / 1024, step + 1
    return f"{value:.4g} {_UNITS[step]}"


def time_words(us: float) -> str:
    """Write microseconds with three digits and a fitting unit."""
    for limit, unit, scale in ((1e3, "µs", 1.0), (1e6, "ms", 1e3)):
        if us < limit:
            return f"{us / scale:.3g} {unit}"
    return f"{us / 1e6:.3g} s"


def times_words(ratio: float) -> str:
    """Write a ratio with two or three digits and a times sign."""
    return f"{ratio:.2f}×" if ratio < 9.95 else f"{ratio:.0f}×"
