"""Places in the order of their labels, where that order says how they are wired."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from topocomm.topology.topology import IntArray, Topology

__all__ = ["in_label_order", "label_numbers"]


def label_numbers(labels: npt.NDArray[Any]) -> IntArray:
    """Labels as numbers that sort like them: as whole numbers where all are, else as text."""
    known, which = np.unique([str(label) for label in labels], return_inverse=True)
    if all(text.isdecimal() and len(text) < 18 for text in known):
        return np.array([int(text) for text in known], np.int64)[which]
    return which.reshape(-1).astype(np.int64)


def in_label_order(topology: Topology) -> Topology:
    """The same ranks, with places of every level counted by their labels instead of by their lowest rank.

    Around a torus neighbours have neighbouring labels, whatever the order of the ranks.
    """
    numbers = [label_numbers(topology.labels[:, level]) for level in range(len(topology.levels))]
    out = Topology(topology.levels, topology.labels)
    for level in range(len(topology.levels)):
        path = np.stack(numbers[: level + 1], axis=1)
        out.places[:, level] = np.unique(path, axis=0, return_inverse=True)[1].reshape(-1)
    return out
