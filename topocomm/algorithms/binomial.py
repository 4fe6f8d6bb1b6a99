"""Binomial trees: gather and reduce; reversed, scatter and broadcast.

A rank collects from subtrees of 1, 2, 4, … ranks and then hands everything to its parent. Over places, the ranks of a
place collect at its leader along a binomial tree, and leaders collect along a binomial tree of places: everything
leaves a place once.

    p = 5, gather to 0     round 0        round 1        round 2
    rank 0                 from 1: 1      from 2: 23     from 4: 4
    rank 2                 from 3: 3      to 0: 23

    Requires     reduce: a commutative operation unless ranks stand in tree order (then operands are combined in order)
    Rounds       ⌈lg p⌉ at the root
    Bytes sent   gather: a rank sends its whole subtree once; reduce: n per rank; n = bytes of the vector
    Cost         ⌈lg p⌉ α + n (p - 1) / p β (gather), ⌈lg p⌉ (α + n (β + γ)) (reduce)
    Memory       a rank's subtree (gather), one vector (reduce)
    Locality     over places: G - 1 messages between G places, (G - 1) n bytes for broadcast and reduce: the least
    Source       R. Thakur, R. Rabenseifner, W. Gropp: Optimization of collective communication operations in MPICH,
                 IJHPCA 19 (2005), §4.3
"""

from __future__ import annotations

from topocomm.schedule import Combine, Recv, Round, Send, Slots
from topocomm.schedule.tree import Tree

__all__ = ["gather", "reduce"]


def gather(tree: Tree, r: int) -> tuple[Round, ...]:
    """Rank r's rounds; slot x holds the block of rank x."""
    rounds = [Round((), (Recv(child, subtree),)) for child, subtree in tree.children(r)]
    parent = tree.parent(r)
    if parent is not None:
        rounds.append(Round((Send(parent, tree.subtree(r)),)))
    return tuple(rounds)


def reduce(tree: Tree, r: int, slots: Slots = range(1)) -> tuple[Round, ...]:
    """Rank r's rounds; the vector is ``slots`` on every rank."""
    rounds = [Round((), (Recv(child, slots, Combine.AFTER),)) for child, _ in tree.children(r)]
    parent = tree.parent(r)
    if parent is not None:
        rounds.append(Round((Send(parent, slots),)))
    return tuple(rounds)
