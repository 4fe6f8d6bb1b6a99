"""Combinator: collect at the leaders of the outermost places, run an algorithm among these, hand the result down."""

from __future__ import annotations

from topocomm.algorithms.binomial import reduce_rounds
from topocomm.algorithms.entry import Form
from topocomm.algorithms.forms import all_slots, by_virtual_rank
from topocomm.algorithms.options import Options
from topocomm.schedule import Item, RankSchedule, Schedule, relabel, reverse_rounds
from topocomm.schedule.bulk import in_step, tree_up, widened
from topocomm.schedule.compose import FlatRounds
from topocomm.schedule.layout import near_first_layout
from topocomm.schedule.transfers import Transfers, chain, list_transfers
from topocomm.schedule.tree import Tree
from topocomm.topology import Topology

__all__ = ["among_leaders"]


def among_leaders(flat: FlatRounds, nslots: int) -> Form:
    """Run ``flat`` over vectors of ``nslots`` slots (0 or 1) among the leaders of the outermost places.

    Inside the places everything goes up and down a binomial tree.
    """
    vector = range(nslots)

    def build(topology: Topology, root: int, options: Options) -> Schedule:
        layout = near_first_layout(topology)
        tree = Tree(layout, outermost=1)

        def rounds(v: int) -> tuple[Item, ...]:
            up = reduce_rounds(tree, v, vector)
            middle: tuple[Item, ...] = ()
            if layout.depth and tree.parent(v) is None:
                leaders = layout.first[1][:-1]
                middle = relabel(flat(len(leaders), int(layout.places[1][v])), leaders, None)
            return up + middle + reverse_rounds(up)

        return all_slots(
            topology, nslots, by_virtual_rank(topology, rounds), in_order=bool(nslots) and topology.is_sorted
        )

    def bulk(topology: Topology, root: int, options: Options) -> Transfers:
        layout = near_first_layout(topology)
        up = tree_up(Tree(layout, outermost=1), True)
        parts = [up]
        if layout.depth:
            leaders = layout.first[1][:-1]
            size = len(leaders)
            among = list_transfers(Schedule(size, 1, lambda r: RankSchedule(range(1), flat(size, r), range(1))))
            parts.append(widened(among, leaders, topology.size))
        out = chain(*parts, up.reversed()).relabelled(topology.order)
        return out if nslots else in_step(out.size, 0, out.source, out.target, out.send_round, out.blocks * 0)

    return Form(build, bulk)
