"""Reduce by k-nomial trees: a rank combines what up to k - 1 children send at once. Reversed, broadcast.

Write ranks as numbers of digits 0 to k - 1: the parent of a rank has its lowest digit that is not 0 set to 0. In round
i a rank receives from all ranks that differ from it in digit i only, until it sends to its parent itself. Over places,
the ranks of a place combine at its leader, then leaders among themselves, with a radix k of each level's own
(``radix=8/4``: 8 on the nearest level, 4 on all others).

    p = 8, k = 4, reduce to 0   round 0         round 1
    rank 0                      from 1, 2, 3    from 4
    rank 4                      from 5, 6, 7    to 0

Few rounds of many messages suit small vectors: messages that come at once cost their senders no more than one does,
and a sender of eager messages need not wait between them. A receiver that is slow to combine wants a small k.

    Requires     a commutative operation
    Rounds       ⌈log_k p⌉; over places the sum over their levels
    Bytes sent   reduce: n per rank; bcast: n for each child, (k - 1) ⌈log_k p⌉ n at the root; n = bytes of the vector
    Cost         ⌈log_k p⌉ (α + (k - 1) n (β + γ)) (reduce)
    Memory       k - 1 vectors (reduce)
    Locality     G - 1 messages between G places, (G - 1) n bytes: the least
    Source       binomial trees generalised; in use for instance in MVAPICH2 and UCC
"""

from __future__ import annotations

from collections.abc import Iterator

from topocomm.schedule import Combine, Recv, Round, Send, Slots
from topocomm.schedule.tree import Tree

__all__ = ["RADIX", "children_of_root", "reduce", "rounds"]

RADIX = 4
"""If nobody says otherwise."""


def _weights(p: int, radix: int) -> Iterator[int]:
    weight = 1
    while weight < p:
        yield weight
        weight *= radix


def rounds(p: int, radix: int = RADIX) -> int:
    """Rounds of the root among p equals."""
    return sum(1 for _ in _weights(p, radix))


def children_of_root(p: int, radix: int = RADIX) -> int:
    """How many send to the root among p equals."""
    return sum(min(radix - 1, -(-p // weight) - 1) for weight in _weights(p, radix))


def reduce(tree: Tree, r: int, slots: Slots = range(1)) -> tuple[Round, ...]:
    """Rank r's rounds; the vector is ``slots`` on every rank."""
    out = [Round((), tuple(Recv(c, slots, Combine.AFTER) for c, _ in family)) for family in tree.families(r)]
    parent = tree.parent(r)
    if parent is not None:
        out.append(Round((Send(parent, slots),)))
    return tuple(out)
