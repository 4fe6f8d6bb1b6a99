"""Topology: machine levels, the place of every rank, and the order of ranks that follows.

Knows no MPI, but for the modules in ``live/`` that ask a running job. The readers of sites' files are loaded when the
first file is read.
"""

from typing import TYPE_CHECKING, Any

from topocomm.topology.build import dragonfly, fat_tree, groups_of, random_places, reorder_ranks, torus, two_level
from topocomm.topology.files import Placement, dumps_nodes, dumps_placement, parse_placement, read_placement
from topocomm.topology.labels import in_label_order, label_numbers, places_by_label
from topocomm.topology.topology import Topology

if TYPE_CHECKING:
    from topocomm.topology.sites import read_site as read_site

__all__ = [
    "Placement",
    "Topology",
    "dragonfly",
    "dumps_nodes",
    "dumps_placement",
    "fat_tree",
    "groups_of",
    "in_label_order",
    "label_numbers",
    "parse_placement",
    "places_by_label",
    "random_places",
    "read_placement",
    "read_site",
    "reorder_ranks",
    "torus",
    "two_level",
]


def __getattr__(name: str) -> Any:
    if name != "read_site":
        raise AttributeError(f"module 'topocomm.topology' has no attribute {name!r}")
    from topocomm.topology.sites import read_site

    return read_site
