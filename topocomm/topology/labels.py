"""Places in the order of their labels, where that order says how they are wired."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.topology.topology import Topology

__all__ = ["in_label_order", "label_numbers", "places_by_label"]


def label_numbers(labels: npt.NDArray[Any]) -> IntArray:
    """Labels as numbers that sort like them: whole numbers are themselves, in others ``n9`` comes before ``n10``."""
    if labels.dtype.kind in "iu" and labels.min(initial=0) >= 0:
        return labels.astype(np.int64)
    known, which = np.unique([str(label) for label in labels], return_inverse=True)
    which = which.reshape(-1)
    if all(text.isdecimal() and len(text) < 18 for text in known):
        return np.array([int(text) for text in known], np.int64)[which]
    order = sorted(range(len(known)), key=lambda k: _counted(str(known[k])))
    numbers = np.empty(len(known), np.int64)
    numbers[order] = np.arange(len(known))
    return numbers[which]


def _counted(label: str) -> tuple[tuple[str, int, str], ...]:
    """The label as a key that counts its runs of digits as numbers: text and number by turns, and the digits last, as
    1 and 01 differ."""
    return tuple((text, int(digits or 0), digits) for text, digits in re.findall(r"([^0-9]*)([0-9]*)", label))


def places_by_label(topology: Topology, depth: int) -> IntArray:
    """Return for every rank the number of its place at the level of this index, places counted by their labels."""
    places = topology.places[:, depth]
    one = np.zeros(int(places.max()) + 1, np.int64)
    one[places] = np.arange(topology.size)  # a rank of each place
    path = np.stack([label_numbers(topology.labels[one, level]) for level in range(depth + 1)], axis=1)
    number = np.unique(path, axis=0, return_inverse=True)[1].reshape(-1)
    return np.asarray(number[places], np.int64)


def in_label_order(topology: Topology) -> Topology:
    """The same ranks, with places of every level counted by their labels instead of by their lowest rank.

    Around a torus neighbours have neighbouring labels, whatever the order of the ranks.
    """
    out = Topology(topology.levels, topology.labels)
    for level in range(len(topology.levels)):
        out.places[:, level] = places_by_label(topology, level)
    return out
