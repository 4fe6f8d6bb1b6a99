"""Counts that entries of the table are made of: rounds, and bytes sent in vectors, among p equals (p ≥ 1)."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from topocomm.arrays import IntArray
from topocomm.topology import Topology

__all__ = ["floor_lg", "folds", "lg", "no_bytes", "one_round", "share", "subtree", "twice", "whole_vector", "widest"]


def lg(p: int) -> int:
    """Return ⌈lg p⌉."""
    return (p - 1).bit_length()


def floor_lg(p: int) -> int:
    """Return ⌊lg p⌋."""
    return p.bit_length() - 1


def folds(p: int) -> int:
    """Return 1 where p is folded to a power of two, else 0."""
    return 0 if p & (p - 1) == 0 else 1


def one_round(p: int) -> int:
    """Return 1, where there is somebody to talk to, else 0."""
    return min(p - 1, 1)


def no_bytes(p: int) -> Fraction:
    """Return 0: nothing but empty messages."""
    return Fraction(0)


def whole_vector(p: int) -> Fraction:
    """Return 1, where there is somebody to send the vector to, else 0."""
    return Fraction(min(p - 1, 1))


def share(p: int) -> Fraction:
    """Return the part of the vector that is all blocks but one's own."""
    return Fraction(p - 1, p)


def twice(p: int) -> Fraction:
    """Return twice the part of the vector that is all blocks but one's own."""
    return 2 * share(p)


def subtree(p: int) -> Fraction:
    """Return the part of the vector in the largest subtree below the root of a binomial tree."""
    return Fraction(max(p - (1 << lg(p) >> 1), 1 << lg(p) >> 2) if p > 1 else 0, p)


def widest(topology: Topology) -> list[int]:
    """Count the most places inside one place, at every depth of the nesting, outermost first."""

    def starts(places: IntArray) -> IntArray:
        return np.flatnonzero(np.diff(places, prepend=-1))

    return [int(np.bincount(outer[starts(inner)]).max()) for outer, inner in pairwise(topology.nesting)]
