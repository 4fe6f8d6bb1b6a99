"""The table of a report, as text: OSU's columns, then ours to the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan

from topocomm.cli.bench.osu import Benchmark

__all__ = ["FIELD_WIDTH", "Line", "Overlap", "Result", "Table"]

FIELD_WIDTH = 20
_SIZE_WIDTH = 10
_ITERATIONS_WIDTH = 12
_SINGLE_WIDTH = 17


@dataclass(frozen=True)
class Overlap:
    """Computing beside a non-blocking call, and the call alone, in microseconds; the share of the call that is hidden
    behind the computing, in percent.
    """

    compute: float
    call: float
    percent: float


@dataclass(frozen=True)
class Result:
    """The result of one contender at one size, in the benchmark's unit; min and max are over ranks."""

    average: float
    least: float
    most: float
    percentiles: dict[int, float] = field(default_factory=dict)
    samples: tuple[float, ...] = ()
    """Every iteration on the slowest rank, where that was asked for."""
    overlap: Overlap | None = None
    """Of a non-blocking call, whose average is that of starting, computing and waiting together."""


_NOTHING = Result(nan, nan, nan, overlap=Overlap(nan, nan, nan))


@dataclass(frozen=True)
class Line:
    """One size: the results by contender, None where the contender cannot run."""

    size: int
    iterations: int
    passed: bool
    results: dict[str, Result | None]


@dataclass(frozen=True)
class Table:
    """The columns of a report. The first of `contenders` fills OSU's columns, each further one adds two."""

    benchmark: Benchmark
    contenders: Sequence[str]
    full: bool = False
    validation: bool = False
    percentiles: Sequence[int] = ()

    @property
    def reference(self) -> str:
        """The denominator of ratios: native, or the first column where native is not measured."""
        return "native" if "native" in self.contenders else self.contenders[0]

    def ratio_of(self, other: str) -> tuple[str, str]:
        """Name the two contenders whose quotient stands beside the column of `other`.

        Beside native's own column that is the first contender's, whose other columns are OSU's.
        """
        return (self.contenders[0] if other == self.reference else other), self.reference

    def header(self) -> str:
        """Write the line of column titles."""
        benchmark = self.benchmark
        if benchmark.collective == "barrier":
            cells = [f"# {benchmark.metric}"]
        else:
            cells = [f"{'# Size':<{_SIZE_WIDTH}}", f"{benchmark.metric:>{FIELD_WIDTH}}"]
        if benchmark.nonblocking:
            cells += [f"{title:>{FIELD_WIDTH}}" for title in ("Compute(us)", "Pure Comm.(us)", "Overlap(%)")]
        if self.full:
            cells += [f"{title:>{FIELD_WIDTH}}" for title in ("Min Latency(us)", "Max Latency(us)")]
            cells += [f"{'Iterations':>{_ITERATIONS_WIDTH}}"]
        if self.validation:
            cells += [f"{'Validation':>{FIELD_WIDTH}}"]
        cells += [f"{f'P{percent} {benchmark.tail}':>{FIELD_WIDTH}}" for percent in self.percentiles]
        return "".join(cells + [_right(title) for title in self._further_titles()])

    def line(self, row: Line) -> str:
        """Write the line of one size."""
        base = row.results[self.contenders[0]] or _NOTHING
        if self.benchmark.collective == "barrier":
            cells = [_number(base.average, _SINGLE_WIDTH)]
        else:
            cells = [f"{row.size:<{_SIZE_WIDTH}}", _number(base.average)]
        if self.benchmark.nonblocking and base.overlap:
            cells += [_number(value) for value in (base.overlap.compute, base.overlap.call, base.overlap.percent)]
        if self.full:
            cells += [_number(base.least), _number(base.most)]
            cells += [f"{row.iterations:>{_ITERATIONS_WIDTH}}"]
        if self.validation:
            cells += [f"{'Pass' if row.passed else 'Fail':>{FIELD_WIDTH}}"]
        cells += [_number(base.percentiles.get(percent, nan)) for percent in self.percentiles]
        return "".join(cells + self._further_cells(row))

    def _further_titles(self) -> list[str]:
        titles = []
        for other in self.contenders[1:]:
            titles += [f"{other}({self.benchmark.unit})", "/".join(self.ratio_of(other))]
            titles += [f"{other} Overlap(%)"] if self.benchmark.nonblocking else []
        return titles

    def _further_cells(self, row: Line) -> list[str]:
        values = []
        for other in self.contenders[1:]:
            above, below = self.ratio_of(other)
            found = row.results[other] or _NOTHING
            values += [found.average, ratio(row, above, below)]
            values += [found.overlap.percent] if found.overlap and self.benchmark.nonblocking else []
        return [_number(value, _width(title)) for value, title in zip(values, self._further_titles(), strict=True)]


def ratio(row: Line, above: str, below: str) -> float:
    """Divide the average of one contender by that of another; NaN where either cannot run."""
    over, under = row.results[above], row.results[below]
    return over.average / under.average if over and under else nan


def _number(value: float, width: int = FIELD_WIDTH) -> str:
    return f"{'n/a':>{width}}" if isnan(value) else f"{value:>{width}.2f}"


def _width(title: str) -> int:
    """Return the width of one of our columns: a long algorithm name keeps two blanks before it."""
    return max(FIELD_WIDTH, len(title) + 2)


def _right(title: str) -> str:
    return f"{title:>{_width(title)}}"
