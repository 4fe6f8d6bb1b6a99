"""Topology: machine levels, the place of every rank, and the order of ranks that follows. Knows no MPI
(but for the modules that ask a live communicator: ``discover``, ``meeting`` and ``probe``)."""

from topocomm.topology.build import dragonfly, fat_tree, groups_of, random_places, reorder_ranks, torus, two_level
from topocomm.topology.files import Placement, dumps_nodes, dumps_placement, parse_placement, read_placement
from topocomm.topology.labels import in_label_order, label_numbers
from topocomm.topology.sites import read_site
from topocomm.topology.topology import Topology

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
    "random_places",
    "read_placement",
    "read_site",
    "reorder_ranks",
    "torus",
    "two_level",
]
