"""Levels from measured distances: what is nested, how many levels there are, and how sure that is. No MPI.

One half of the repeated measurements proposes levels: average linkage (UPGMA: R. R. Sokal and C. D. Michener, 1958)
of the logarithms of the distances; wherever the heights of successive merges jump, the places merged so far may be a
level. The other half judges them: a level stands if distances across its places are really larger than those inside.
So noise, which differs from repetition to repetition, gives no level, whatever it looks like once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import TopologyError

__all__ = ["RATIO", "Found", "FoundLevel", "find_levels", "join", "leaders_of", "level_names"]

FloatArray = npt.NDArray[np.float64]

RATIO = 1.25
"""Distances across the places of a level are at least so many times those inside (medians), unless told otherwise."""
SURE = 0.7
"""The least confidence of a level."""
CHANCE = 3.3
"""A level's confidence must be so many standard deviations above what chance gives: some twenty levels are proposed,
and in a hundred runs on nothing but noise one may stand."""
_MOST_CANDIDATES = 12
_MOST_SAMPLES = 40_000


@dataclass(frozen=True)
class FoundLevel:
    """One level that was found.

    ``places``
        The place of every end, numbered in order of first appearance.
    ``kind``
        Which distances show it: a key of what :func:`find_levels` was given.
    ``confidence``
        1 if in the judging half *every* distance across the places of this level is larger than every one inside,
        0 if it is so no more often than by chance: 2 P(across > inside) - 1, a rank statistic (Mann and Whitney 1947).
    ``inside``, ``across``
        Medians of these distances.
    """

    places: IntArray
    kind: str
    confidence: float
    inside: float
    across: float


@dataclass(frozen=True)
class Found:
    """The levels, outermost first, and how sure they are.

    ``confidence`` is the least of the levels' confidences. Without levels it is the share of distances in the judging
    half that repeat what was proposed for the same two ends, up to the ratio that makes a level: 1 says that a level
    would have shown, 0 that noise would have hidden it. Of several kinds the least counts, and no more than 1 less
    what the best level that was proposed has above chance. Fewer than three ends are flat with confidence 1.
    ``dropped`` names levels left out because they cross a surer one of another kind.
    """

    levels: tuple[FoundLevel, ...]
    confidence: float
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Judged:
    confidence: float
    above_chance: float
    inside: float
    across: float

    def stands(self, ratio: float) -> bool:
        return self.differs(ratio) and self.confidence >= SURE and self.above_chance > 0

    def differs(self, ratio: float) -> bool:
        return self.across >= ratio * self.inside


def find_levels(distances: Mapping[str, FloatArray], ratios: Mapping[str, float] | None = None) -> Found:
    """The levels that show in repeated distances between n ends.

    ``distances[kind]`` is an array (repetitions, n, n), symmetric, positive off the diagonal, in any unit;
    ``ratios[kind]`` is how many times larger than inside they must be across a level (default :data:`RATIO`). Levels
    of several kinds are put together where they nest; of two that cross, the surer is kept.

    Raises TopologyError for an array of another shape, fewer than two repetitions, or a distance that is missing or
    not positive.
    """
    shapes = {kind: np.shape(d) for kind, d in distances.items()}
    if len({shape[1:] for shape in shapes.values()}) != 1:
        raise TopologyError(f"distances must be arrays (repetitions, n, n) of one n, found {shapes}")
    found: list[FoundLevel] = []
    flat = 1.0
    for kind, values in distances.items():
        levels, sure_of_none = _of_one_kind(kind, _checked(kind, values), (ratios or {}).get(kind, RATIO))
        found += levels
        flat = min(flat, sure_of_none)
    kept: list[FoundLevel] = []
    dropped = []
    for level in sorted(found, key=lambda level: -level.confidence):
        same = [other for other in kept if (other.places == level.places).all()]
        if same:
            continue
        if all(_nested(level.places, other.places) for other in kept):
            kept.append(level)
        else:
            dropped.append(f"{_count(level.places)} places by {level.kind} cross those of a surer level")
    kept.sort(key=lambda level: _count(level.places))
    confidence = min(level.confidence for level in kept) if kept else flat
    return Found(tuple(kept), confidence, tuple(dropped))


def _checked(kind: str, values: FloatArray) -> FloatArray:
    d = np.asarray(values, np.float64)
    if d.ndim != 3 or d.shape[1] != d.shape[2] or d.shape[1] < 1:
        raise TopologyError(f"distances {kind!r} must be an array (repetitions, n, n), found shape {d.shape}")
    if len(d) < 2:
        raise TopologyError(f"distances {kind!r} need at least 2 repetitions, one to propose and one to judge")
    off = ~np.eye(d.shape[1], dtype=bool)
    bad = np.argwhere(~(np.isfinite(d) & (d > 0)) & off)
    if len(bad):
        repetition, a, b = map(int, bad[0])
        raise TopologyError(
            f"distance {kind!r} of {a} and {b} in repetition {repetition} is {d[repetition, a, b]:g}; needs > 0"
        )
    return d


def _of_one_kind(kind: str, d: FloatArray, ratio: float) -> tuple[list[FoundLevel], float]:
    """Levels of one kind of distance, outermost first, and how sure it would be that there is none."""
    judging = np.log(np.where(np.eye(d.shape[1], dtype=bool), 1.0, d[1::2]))
    proposing = np.median(np.log(np.where(np.eye(d.shape[1], dtype=bool), 1.0, d[0::2])), axis=0)
    chain: list[IntArray] = []
    verdicts: list[_Judged] = []
    against = 0.0
    for places in _proposals((proposing + proposing.T) / 2):
        trial = sorted([*chain, places], key=_count)
        judged = _judge(trial, judging)
        if all(verdict.stands(ratio) for verdict in judged):
            chain, verdicts = trial, judged
        else:
            alone = _judge([places], judging)[0]
            against = max(against, alone.above_chance if alone.differs(ratio) else 0.0)
    levels = [FoundLevel(p, kind, v.confidence, v.inside, v.across) for p, v in zip(chain, verdicts, strict=True)]
    return levels, min(1.0 - against, _repeated(proposing, judging, ratio)) if d.shape[1] > 2 else 1.0


def _repeated(proposing: FloatArray, judging: FloatArray, ratio: float) -> float:
    """The share of judged distances that are within ``ratio`` of what was proposed for the same two ends."""
    off = ~np.eye(len(proposing), dtype=bool)
    return float((np.abs(judging - proposing)[:, off] <= np.log(ratio)).mean())


def _proposals(d: FloatArray) -> list[IntArray]:
    """Partitions at the largest jumps between the heights of successive merges, largest jump first."""
    merges = _average_linkage(d)
    heights = np.array([height for height, _, _ in merges])
    jumps = np.diff(heights)
    cuts = [int(k) + 1 for k in np.argsort(-jumps, kind="stable")[:_MOST_CANDIDATES] if jumps[k] > 0]
    return [_cut(len(d), merges[:merged]) for merged in cuts]


def _average_linkage(d: FloatArray) -> list[tuple[float, int, int]]:
    """Merges ``(height, kept, gone)`` of clusters named by their lowest member, heights ascending. O(n³)."""
    d = d.copy()
    np.fill_diagonal(d, np.inf)
    weight = np.ones(len(d))
    merges = []
    for _ in range(len(d) - 1):
        a, b = sorted(divmod(int(d.argmin()), len(d)))
        merges.append((float(d[a, b]), a, b))
        mean = (weight[a] * d[a] + weight[b] * d[b]) / (weight[a] + weight[b])
        mean[a] = np.inf
        d[a], d[:, a] = mean, mean
        d[b], d[:, b] = np.inf, np.inf
        weight[a] += weight[b]
    return merges


def _cut(size: int, merges: Sequence[tuple[float, int, int]]) -> IntArray:
    """The places after some merges, numbered in order of first appearance."""
    places = np.arange(size, dtype=np.int64)
    for _, kept, gone in merges:
        places[places == gone] = kept
    return np.unique(places, return_inverse=True)[1].astype(np.int64)


def _judge(chain: Sequence[IntArray], logs: FloatArray) -> list[_Judged]:
    """For every level of a chain of partitions, outermost first: do distances across it exceed those inside it?

    Across are the pairs that share the next outer place but none of this level; inside are those that share a place
    of this level but none of the next inner.
    """
    above = np.triu(np.ones(logs.shape[1:], bool), 1)
    share = [np.equal.outer(places, places) for places in chain]
    outer = [np.ones_like(above), *share]
    classes = [above & outer[k] & ~share[k] for k in range(len(chain))] + [above & share[-1]]
    return [_compare(logs[:, inside].ravel(), logs[:, across].ravel()) for across, inside in pairwise(classes)]


def _compare(inside: FloatArray, across: FloatArray) -> _Judged:
    if not len(inside) or not len(across):
        return _Judged(0.0, 0.0, 1.0, 1.0)
    medians = float(np.exp(np.median(inside))), float(np.exp(np.median(across)))
    inside, across = (x[:: 1 + len(x) // _MOST_SAMPLES] for x in (inside, across))
    ascending = np.sort(inside)
    below = np.searchsorted(ascending, across, "left") + np.searchsorted(ascending, across, "right")
    score = float(below.mean()) / len(inside) - 1
    by_chance = np.sqrt((len(inside) + len(across) + 1) / (3 * len(inside) * len(across)))
    return _Judged(max(0.0, score), max(0.0, score - CHANCE * float(by_chance)), *medians)


def _count(places: IntArray) -> int:
    return int(places.max()) + 1


def _nested(a: IntArray, b: IntArray) -> bool:
    """Whether one of two partitions refines the other."""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == max(_count(a), _count(b))


def level_names(count: int) -> tuple[str, ...]:
    """Names of measured levels, outermost first: ``group`` is the innermost, ``group2`` encloses it, and so on."""
    return tuple(f"group{k}" if k > 1 else "group" for k in range(count, 0, -1))


def leaders_of(places: IntArray) -> IntArray:
    """The first end of every place."""
    return np.unique(places, return_index=True)[1].astype(np.int64)


def join(levels: Sequence[FoundLevel], leaders: IntArray, to_leaders: Mapping[str, FloatArray]) -> IntArray:
    """Places, one row (outermost first) for every end that took no part in :func:`find_levels`.

    ``leaders`` are ends of ``levels``, at least one of each innermost place; ``to_leaders[kind]`` holds the distances
    (ends, leaders). From the outermost level in, an end joins the place of its nearest leader if it is nearer than
    halfway (geometric mean) between the distances inside and across; else it stands alone, as -1.
    """
    count = len(next(iter(to_leaders.values())))
    rows = np.full((count, len(levels)), -1, np.int64)
    for end in range(count):
        among = np.arange(len(leaders))
        for depth, level in enumerate(levels):
            distance = to_leaders[level.kind][end, among]
            nearest = int(distance.argmin())
            if distance[nearest] >= np.sqrt(level.inside * level.across):
                break
            rows[end, depth] = level.places[leaders[among[nearest]]]
            among = among[level.places[leaders[among]] == rows[end, depth]]
    return rows
