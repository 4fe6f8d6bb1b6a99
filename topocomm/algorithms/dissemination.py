"""Barrier by dissemination.

In round k rank r tells r + 2^k that it, and all it has heard of, have arrived.

    p = 5, rank 0 has heard of     start: 0     round 0: 40     round 1: 2340     round 2: all

The topology-aware barrier collects inside each outermost place along a binomial tree, disseminates among the
places' leaders, and releases down the same trees.

    Requires     any p
    Rounds       ⌈lg p⌉; over places of g ranks in G places ⌈lg G⌉ + 2 ⌈lg g⌉
    Bytes sent   none, but ⌈lg p⌉ empty messages per rank
    Cost         ⌈lg p⌉ α
    Memory       none
    Locality     over places: G ⌈lg G⌉ messages between places, whatever their sizes
    Source       D. Hensgen, R. Finkel, U. Manber: Two algorithms for barrier synchronization, IJPP 17 (1988)
"""

from __future__ import annotations

from topocomm.schedule import Recv, Round, Send

__all__ = ["barrier"]


def barrier(p: int, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; messages carry no slots."""
    rounds, step = [], 1
    while step < p:
        rounds.append(Round((Send((r + step) % p, range(0)),), (Recv((r - step) % p, range(0)),)))
        step *= 2
    return tuple(rounds)
