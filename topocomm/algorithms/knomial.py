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
from fractions import Fraction

from topocomm.algorithms.counting import whole_vector
from topocomm.algorithms.entry import Algorithm, Case, Form
from topocomm.algorithms.forms import WHOLE, at_root, backwards, by_virtual_rank
from topocomm.algorithms.options import Options
from topocomm.schedule import Combine, RankSchedule, Recv, Round, Schedule, Send
from topocomm.schedule.bulk import tree_up
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["ENTRIES", "RADIX", "TRIED"]

RADIX = 4
"""The radix if none is asked for."""
TRIED = (3, 4, 8)
"""Radices that the model tries; binomial trees are a candidate of their own."""


def _weights(p: int) -> Iterator[int]:
    weight = 1
    while weight < p:
        yield weight
        weight *= RADIX


def _rounds(p: int) -> int:
    return sum(1 for _ in _weights(p))


def _to_each_child(p: int) -> Fraction:
    return Fraction(sum(min(RADIX - 1, -(-p // weight) - 1) for weight in _weights(p)))


def _tree(topology: Topology, root: int, options: Options) -> Tree:
    return Tree(near_first_layout(topology), int(topology.virtual[root]), radices=options.radix or (RADIX,))


def _rank_rounds(tree: Tree, v: int) -> tuple[Round, ...]:
    out = [Round((), tuple(Recv(c, WHOLE, Combine.AFTER) for c, _ in family)) for family in tree.families(v)]
    parent = tree.parent(v)
    if parent is not None:
        out.append(Round((Send(parent, WHOLE),)))
    return tuple(out)


def _reduce(topology: Topology, root: int, options: Options) -> Schedule:
    tree = _tree(topology, root, options)
    rounds = by_virtual_rank(topology, lambda v: _rank_rounds(tree, v))
    return Schedule(topology.size, 1, lambda r: RankSchedule(WHOLE, rounds(r), at_root(WHOLE, r, root)), root)


def _bulk(topology: Topology, root: int, options: Options) -> Transfers:
    return tree_up(_tree(topology, root, options), True).relabelled(topology.order)


def _trials(case: Case) -> list[str]:
    return [f"radix={k}" for k in TRIED]


_REDUCE = Form(_reduce, _bulk)

ENTRIES = (
    Algorithm("knomial", "bcast", "small vectors: a k-nomial tree over places, a radix of its own on every level",
              backwards(_REDUCE), _rounds, _to_each_child, radix=True, radices=True, trials=_trials),
    Algorithm("knomial", "reduce", "small vectors: a k-nomial tree over places, a radix of its own on every level",
              _REDUCE, _rounds, whole_vector, whole=True, radix=True, radices=True, trials=_trials),
)  # fmt: skip
