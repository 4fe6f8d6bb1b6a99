"""Topology: machine levels, the place of every rank, and the order of ranks that follows. Knows no MPI
(but for :mod:`topocomm.topology.discover`, which asks a live communicator)."""

from topocomm.topology.build import dragonfly, fat_tree, groups_of, random_places, reorder_ranks, torus, two_level
from topocomm.topology.files import Placement, dumps_placement, parse_placement, read_placement
from topocomm.topology.topology import Topology

__all__ = [
    "Placement",
    "Topology",
    "dragonfly",
    "dumps_placement",
    "fat_tree",
    "groups_of",
    "parse_placement",
    "random_places",
    "read_placement",
    "reorder_ranks",
    "torus",
    "two_level",
]
