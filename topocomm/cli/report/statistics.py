"""Medians, quartiles and ratios of samples that were taken in turns; nothing is random, so pages can be made again."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

__all__ = ["Ratio", "median", "paired", "quartiles"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, with an interval that covers the true median with this probability (0 to 1).

    `low` and `high` are None for a single pair, which has no interval.
    """

    median: float
    low: float | None
    high: float | None
    coverage: float


def median(samples: Sequence[float]) -> float:
    """Return the median of at least one sample."""
    return float(statistics.median(samples))


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the first and third quartile of at least one sample."""
    if len(samples) == 1:
        return float(samples[0]), float(samples[0])
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return float(first), float(third)


def paired(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Divide samples that belong together, turn by turn; where the counts differ, the medians, without an interval.

    The interval runs from the k-th smallest to the k-th largest ratio, k the largest that covers the median with 95 %,
    and 1 where even the whole range covers less (5 samples or fewer): no distribution is assumed.
    """
    if len(above) != len(below) or len(above) < 2:
        return Ratio(median(above) / median(below), None, None, 0.0)
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    n = len(ratios)
    k = max((k for k in range(1, n // 2 + 1) if _coverage(n, k) >= CONFIDENCE), default=1)
    return Ratio(median(ratios), ratios[k - 1], ratios[n - k], _coverage(n, k))


def _coverage(n: int, k: int) -> float:
    """Return the probability that the median lies between the k-th smallest and the k-th largest of n samples."""
    return 1 - 2 * float(sum(comb(n, i) for i in range(k))) / 2.0**n
