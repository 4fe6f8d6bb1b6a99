"""Who meets whom: rounds of disjoint pairs in which everybody meets everybody once, and rounds of all with a few."""

from __future__ import annotations

import numpy as np

from topocomm.arrays import IntArray

__all__ = ["against_leaders", "rounds_of_tournament", "tournament"]


def rounds_of_tournament(size: int, at_once: int | None = None) -> int:
    """How many rounds :func:`tournament` has."""
    pairs = size // 2
    return (size - 1 + size % 2) * -(-pairs // max(1, pairs if at_once is None else at_once)) if pairs else 0


def tournament(size: int, seed: int, at_once: int | None = None, most: int | None = None) -> IntArray:
    """Everybody meets everybody once: an array (rounds, size) of partners, -1 for who rests.

    The circle method: one seat stands still while the others move on by one; ``size - 1`` rounds for an even
    ``size``, ``size`` for an odd one. ``seed`` shuffles the seats, so that pairs that meet in the same round differ
    from one seed to another. No more than ``at_once`` pairs meet in one round, if given; there are more rounds then.
    Only the first ``most`` rounds are made, if given.
    """
    seats = size + size % 2
    order = np.random.default_rng((size, seed)).permutation(seats)
    order[order == size] = -1  # the seat left empty by an odd size
    rounds = []
    for turn in range(seats - 1):
        ring = np.concatenate([order[:1], np.roll(order[1:], turn)])
        a, b = ring[: seats // 2], ring[seats // 2 :][::-1]
        meet = (a >= 0) & (b >= 0)
        rounds += _partners(a[meet], b[meet], size, at_once)
        if most is not None and len(rounds) >= most:
            break
    return np.array(rounds[:most], np.int64).reshape(-1, size)


def _partners(a: IntArray, b: IntArray, size: int, at_once: int | None) -> list[IntArray]:
    """The pairs ``a[i]``, ``b[i]`` as one row, or as several of at most ``at_once`` pairs."""
    step = max(1, len(a) if at_once is None else at_once)
    rows = []
    for start in range(0, len(a), step):
        row = np.full(size, -1, np.int64)
        some, others = a[start : start + step], b[start : start + step]
        row[some], row[others] = others, some
        rows.append(row)
    return rows


def against_leaders(leaders: IntArray, others: IntArray, size: int, seed: int) -> IntArray:
    """Every one of ``others`` meets every leader once: an array (rounds, size) of partners, -1 for who rests.

    Takes about ``max(len(leaders), len(others))`` rounds for every ``len(leaders)`` others.
    """
    rng = np.random.default_rng((size, seed))
    others, leaders = rng.permutation(others), rng.permutation(leaders)
    rounds = []
    for start in range(0, len(others), len(leaders)):
        batch = others[start : start + len(leaders)]
        for turn in range(len(leaders)):
            rounds += _partners(batch, np.roll(leaders, turn)[: len(batch)], size, None)
    return np.array(rounds, np.int64).reshape(-1, size)
