"""Where the ranks of a communicator sit in the machine, and the order that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from topocomm.arrays import IntArray
from topocomm.errors import TopologyError

__all__ = ["Topology"]


def _number_by_first_appearance(keys: npt.NDArray[Any]) -> IntArray:
    """Number equal entries alike, 0, 1, 2, … in the order in which they first appear."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank_of_key = np.empty(len(first), np.int64)
    rank_of_key[np.argsort(first)] = np.arange(len(first))
    return rank_of_key[inverse.reshape(-1)]


class Topology:
    """The machine levels and the place of every rank at each of them.

    Parameters
    ----------
    levels
        Names of the levels, outermost first, for instance ``("group", "switch", "node")``. May be empty: then
        all ranks are equally near.
    places
        One row a rank, one label a level. A label means a place only inside its enclosing place: node ``n0`` of
        group ``g0`` and node ``n0`` of group ``g1`` are two nodes.

    Raises
    ------
    TopologyError
        If there is no rank, a row has the wrong length, or two levels share a name.
    """

    def __init__(self, levels: Sequence[str], places: Sequence[Sequence[Any]] | npt.NDArray[Any]) -> None:
        self.levels: tuple[str, ...] = tuple(levels)
        if len(set(self.levels)) != len(self.levels):
            raise TopologyError(f"levels {list(self.levels)} name the same level twice; give each level its own name")
        self.size: int = len(places)
        if self.size == 0:
            raise TopologyError("a topology needs at least one rank, found none")
        if not isinstance(places, np.ndarray):
            for rank, row in enumerate(places):
                if len(row) != len(self.levels):
                    raise TopologyError(
                        f"rank {rank} has {len(row)} places, needs {len(self.levels)}: one for each of {self.levels}"
                    )
        table = np.asarray(places).reshape(self.size, -1) if self.levels else np.empty((self.size, 0), np.int64)
        if table.shape[1] != len(self.levels):
            raise TopologyError(f"places have {table.shape[1]} columns, needs {len(self.levels)}: {self.levels}")
        self.labels: npt.NDArray[Any] = table
        self.places: IntArray = self._path_numbers(table)

    @staticmethod
    def _path_numbers(table: npt.NDArray[Any]) -> IntArray:
        """Replace labels by place numbers that are unique over the machine, counted in order of first appearance."""
        out = np.empty(table.shape, np.int64)
        outer = np.zeros(len(table), np.int64)
        for level in range(table.shape[1]):
            inner = _number_by_first_appearance(table[:, level])
            outer = _number_by_first_appearance(outer * (int(inner.max()) + 1) + inner)
            out[:, level] = outer
        return out

    @classmethod
    def flat(cls, size: int) -> Topology:
        """``size`` ranks that are all equally near."""
        if size < 1:
            raise TopologyError(f"a topology needs at least one rank, found {size}")
        return cls((), np.empty((size, 0), np.int64))

    def renumbered(self, places: IntArray) -> Topology:
        """Return the same ranks and labels with other numbers of their places."""
        out = Topology.__new__(Topology)
        out.levels, out.size, out.labels, out.places = self.levels, self.size, self.labels, places
        return out

    # -- orders ------------------------------------------------------------------------------------------------

    @cached_property
    def order(self) -> IntArray:
        """The rank at every virtual rank: members of a place stand together, places by their lowest rank."""
        if not self.levels:
            return np.arange(self.size, dtype=np.int64)
        return np.lexsort(self.places.T[::-1]).astype(np.int64)

    @cached_property
    def virtual(self) -> IntArray:
        """The virtual rank (position in topology order) of every rank: the inverse of :attr:`order`."""
        out = np.empty(self.size, np.int64)
        out[self.order] = np.arange(self.size)
        return out

    @property
    def is_sorted(self) -> bool:
        """Whether the ranks already stand in topology order."""
        return bool((self.order == np.arange(self.size)).all())

    # -- queries -----------------------------------------------------------------------------------------------

    def level_index(self, level: str) -> int:
        """Position of a level by name. Raises TopologyError for an unknown one."""
        try:
            return self.levels.index(level)
        except ValueError:
            raise TopologyError(f"unknown level {level!r}; this topology has {list(self.levels)}") from None

    def groups(self, level: str) -> list[IntArray]:
        """The ranks of every place at ``level``, places in topology order, ranks ascending."""
        column = self.places[:, self.level_index(level)]
        by_place = np.argsort(column, kind="stable")
        return [np.asarray(g, np.int64) for g in np.split(by_place, np.flatnonzero(np.diff(column[by_place])) + 1)]

    def counts(self, level: str) -> IntArray:
        """How many ranks each place at ``level`` holds."""
        return np.bincount(self.places[:, self.level_index(level)])

    def meet(self, a: int, b: int) -> str | None:
        """The innermost level at which ranks ``a`` and ``b`` share a place; None if they share none."""
        shared = self.shared_levels(a, b)
        return self.levels[shared - 1] if shared else None

    def shared_levels(self, a: int, b: int) -> int:
        """How many levels, counted from the outermost, ranks ``a`` and ``b`` share: 0 is farthest."""
        return int((self.places[a] == self.places[b]).sum())

    @cached_property
    def _columns(self) -> list[list[int]]:
        return [column.tolist() for column in self.places.T]

    @cached_property
    def has_distance(self) -> bool:
        """True if some ranks are nearer to each other than others are, beyond the inside of one node."""
        return self.has_distance_among(range(self.size))

    def has_distance_among(self, ranks: Sequence[int]) -> bool:
        """Return :attr:`has_distance` of the topology restricted to ``ranks``, without making it."""
        kinds = [len({column[rank] for rank in ranks}) for column in self._columns]
        if "node" in self.levels and kinds[self.levels.index("node")] == 1:
            return False
        return any(1 < count < len(ranks) for count in kinds)

    def is_one_node_among(self, ranks: Sequence[int]) -> bool:
        """Return True if the topology says that ``ranks`` are on one node."""
        return "node" in self.levels and len({self._columns[self.levels.index("node")][rank] for rank in ranks}) == 1

    @cached_property
    def nesting(self) -> list[IntArray]:
        """The partitions of the virtual ranks, from one place that holds all to every rank alone.

        Each is an array over virtual ranks of place numbers that never decrease. Levels that part nothing more
        than their outer neighbour are left out, so every entry is finer than the one before.
        """
        columns = [self.places[self.order, level] for level in range(len(self.levels))]
        columns.append(np.arange(self.size, dtype=np.int64))
        chain = [np.zeros(self.size, np.int64)]
        for column in columns:
            starts = np.flatnonzero(np.diff(column, prepend=column[0] - 1))
            if len(starts) > chain[-1][-1] + 1:
                chain.append(np.repeat(np.arange(len(starts)), np.diff(starts, append=self.size)))
        return chain

    @cached_property
    def signature(self) -> str:
        """A short stable hash of levels and places up to renaming; equal topologies have equal signatures."""
        import hashlib

        text = repr((self.levels, self.size)).encode() + self.places.astype("<i8").tobytes()
        return hashlib.sha256(text).hexdigest()[:16]

    def restrict(self, ranks: Sequence[int] | IntArray) -> Topology:
        """The topology of a group made of ``ranks`` of this one, in the given order."""
        return Topology(self.levels, self.labels[np.asarray(ranks, np.int64)])

    def upto(self, level: str) -> Topology:
        """The same ranks seen only down to ``level``."""
        n = self.level_index(level) + 1
        return Topology(self.levels[:n], self.labels[:, :n])

    def describe(self) -> str:
        """One line: ranks, places at each level and whether the ranks stand in topology order."""
        parts = [f"{self.size} ranks"]
        for level in self.levels:
            c = self.counts(level)
            size = f"{c.min()}" if c.min() == c.max() else f"{c.min()}-{c.max()}"
            plural = "" if len(c) == 1 else "es" if level.endswith(("ch", "s", "x")) else "s"
            parts.append(f"{len(c)} {level}{plural} of {size}")
        return ", ".join(parts) + (", in topology order" if self.is_sorted else ", not in topology order")

    def __reduce__(self) -> tuple[type[Topology], tuple[tuple[str, ...], npt.NDArray[Any]]]:
        """Pickle without what follows from levels and labels."""
        return Topology, (self.levels, self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.signature == other.signature

    def __hash__(self) -> int:
        return hash(self.signature)

    def __repr__(self) -> str:
        return f"<Topology {self.describe()}>"
