"""Places in the order of their labels, where that order says how they are wired."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


def _by_label(topology: Topology, levels: int) -> Iterator[IntArray]:
    """Give for every rank the number of its place at each of the first levels, places counted by their labels."""
    outer = np.zeros(topology.size, np.int64)
    for level in range(levels):
        places = topology.places[:, level]
        one = np.zeros(int(places.max()) + 1, np.int64)
        one[places] = np.arange(topology.size)  # a rank of each place
        path = np.lexsort((label_numbers(topology.labels[one, level]), outer[one]))
        number = np.empty(len(path), np.int64)
        number[path] = np.arange(len(path))
        outer = number[places]
        yield outer


def places_by_label(topology: Topology, levels: int | None = None) -> list[IntArray]:
    """Return for every rank the number of its place at each of the first ``levels`` levels (None: all), places counted
    by their labels."""
    return list(_by_label(topology, len(topology.levels) if levels is None else levels))


def in_label_order(topology: Topology) -> Topology:
    """Return the same ranks, with places of every level counted by their labels instead of by their lowest rank.

    Around a torus neighbours have neighbouring labels, whatever the order of the ranks.
    """
    columns = places_by_label(topology)
    if not columns:
        return topology
    places = np.stack(columns, axis=1)
    return topology if (places == topology.places).all() else topology.renumbered(places)
