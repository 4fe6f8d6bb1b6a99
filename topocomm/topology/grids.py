"""Which rank sits at which position of a Cartesian grid, so that few neighbours are in different places. No MPI.

Ranks stand in topology order, so that places are intervals; positions are put in many orders, and the one counts in
which the fewest neighbours are parted, over all levels. The orders, next to the ranks' own:

* lines along each axis, as they are and to and fro;
* tiles: where all places of a level hold equally many, boxes of as many positions, of these boxes of the next outer
  level, and so on, the boxes with the least surface first (node-aware mapping: W. Gropp, "Using node and socket
  information to implement MPI Cartesian topologies", Parallel Computing 85, 2019);
* halves of halves: the box is halved along its longest axis again and again (k-d tree), or cut where the cut falls
  between two places (hyperplane), which serves places of unequal sizes, too (S. Hunold, K. von Kirchbach, M. Lehr,
  C. Schulz, J. L. Träff, "Efficient process-to-node mapping algorithms for stencil computations", CLUSTER 2020).

All is counted in whole numbers, so that every rank finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice, permutations, product

import numpy as np

from topocomm.arrays import IntArray
from topocomm.errors import TopologyError
from topocomm.topology.topology import Topology

__all__ = ["cart_order", "parted"]

_MOST_AXES = 24
"""Orders of the axes that are tried: all of four."""
_MOST_TILES = 4
"""Shapes of tiles that are tried at each level, the least surface first."""


def parted(topology: Topology, order: IntArray, dims: Sequence[int], periods: Sequence[bool]) -> list[int]:
    """Count the pairs of neighbours in different places, for each level, outermost first.

    ``order`` has the rank at each position, in row-major order. Around a periodic axis the ends are neighbours; with
    two positions these are a second pair.
    """
    grid = topology.places[order].reshape(*dims, len(topology.levels))
    total = np.zeros(len(topology.levels), np.int64)
    for axis, periodic in enumerate(periods):
        ahead = np.roll(grid, -1, axis)
        differ = ahead != grid
        if not periodic:
            differ = differ.take(range(dims[axis] - 1), axis)
        total += differ.sum(axis=tuple(range(len(dims))))
    return [int(count) for count in total]


def cart_order(topology: Topology, dims: Sequence[int], periods: Sequence[bool]) -> IntArray:
    """Find the rank at each position of a grid, in row-major order, then the ranks that have none.

    Where no other order parts fewer neighbours the ranks' own is kept. Raises TopologyError if the grid has more
    positions than there are ranks, or if an axis is shorter than 1.
    """
    cells = math.prod(dims)
    if min(dims, default=1) < 1 or cells > topology.size:
        raise TopologyError(f"a grid of {' x '.join(map(str, dims))} does not fit {topology.size} ranks")
    everyone = np.arange(topology.size, dtype=np.int64)
    best, least = everyone, _cost(topology, everyone[:cells], dims, periods)
    if not topology.has_distance or not dims:
        return best
    for ranks in _rank_orders(topology, cells):
        for positions in _position_orders(topology, ranks[:cells], tuple(dims)):
            order = np.empty(cells, np.int64)
            order[positions] = ranks[:cells]
            cost = _cost(topology, order, dims, periods)
            if cost < least:
                best, least = np.concatenate([order, ranks[cells:]]), cost
    return best


def _cost(topology: Topology, order: IntArray, dims: Sequence[int], periods: Sequence[bool]) -> tuple[int, int]:
    """Neighbours parted, over all levels down to the node; then over those inside it."""
    counts = parted(topology, order, dims, periods)
    inner = topology.levels.index("node") + 1 if "node" in topology.levels else len(counts)
    return sum(counts[:inner]), sum(counts[inner:])


def _rank_orders(topology: Topology, cells: int) -> Iterator[IntArray]:
    """The ranks in topology order; and where some have no position, from the largest place of the outermost level."""
    yield topology.order
    if cells < topology.size:
        outer = topology.places[topology.order, 0]
        size = np.bincount(outer)[outer]
        yield topology.order[np.lexsort((np.arange(topology.size), outer, -size))]


def _position_orders(topology: Topology, ranks: IntArray, dims: tuple[int, ...]) -> Iterator[IntArray]:
    """Orders of the positions, each as their row-major numbers."""
    for axes in islice(permutations(range(len(dims))), _MOST_AXES):
        yield _lines(dims, axes, False)
        yield _lines(dims, axes, True)
    columns = [topology.places[ranks, level] for level in range(len(topology.levels))]
    borders = [np.concatenate([[0], np.flatnonzero(np.diff(column)) + 1, [len(ranks)]]) for column in columns]
    yield from (_numbers(tile, dims) for tile in _tiles(dims, _equal_sizes(columns), borders))
    for depth in range(len(borders)):
        yield _numbers(_parts(dims, borders[depth:]), dims)


def _numbers(cells: IntArray, dims: tuple[int, ...]) -> IntArray:
    """Row-major numbers of cells, an array (cells, axes)."""
    numbers: IntArray = np.ravel_multi_index(tuple(cells.T), dims).astype(np.int64)
    return numbers


def _lines(dims: tuple[int, ...], axes: Sequence[int], to_and_fro: bool) -> IntArray:
    """Lines of the last of ``axes``, beside each other along the one before it, and so on."""
    shape = [dims[axis] for axis in axes]
    walk = np.indices(shape).reshape(len(shape), -1).T.copy()
    if to_and_fro:
        for depth in range(1, len(shape)):
            before = np.ravel_multi_index(tuple(walk[:, :depth].T), shape[:depth]) % 2 == 1
            walk[before, depth] = shape[depth] - 1 - walk[before, depth]
    cells = np.empty_like(walk)
    cells[:, list(axes)] = walk
    return _numbers(cells, dims)


def _equal_sizes(columns: Sequence[IntArray]) -> list[int]:
    """How many of the next inner places each place holds, innermost level first, as long as all hold equally many."""
    sizes: list[int] = []
    unit = 1
    for column in reversed(columns):
        counts = np.bincount(np.unique(column, return_inverse=True)[1].reshape(-1))
        if counts.min() != counts.max() or counts[0] % unit:
            break
        if counts[0] > unit:
            sizes.append(int(counts[0]) // unit)
            unit = int(counts[0])
    return sizes


def _tiles(dims: tuple[int, ...], sizes: Sequence[int], borders: Sequence[IntArray]) -> Iterator[IntArray]:
    """Cells tile by tile, for tiles of ``sizes[0]`` cells, tiles of these, and so on; also without any tiles.

    ``borders`` are those of all levels, as numbers of cells before them.
    """
    yield _halves(dims, {})
    yield _parts(dims, borders)
    if not sizes:
        for axes, to_and_fro in product(islice(permutations(range(len(dims))), _MOST_AXES), (False, True)):
            yield np.stack(np.unravel_index(_lines(dims, axes, to_and_fro), dims), axis=1).astype(np.int64)
        return
    shapes = sorted(_shapes(sizes[0], dims), key=lambda shape: (sum(sizes[0] // side for side in shape), shape))
    coarse = [border[border % sizes[0] == 0] // sizes[0] for border in borders]
    for shape in shapes[:_MOST_TILES]:
        inside = np.indices(shape).reshape(len(dims), -1).T
        for outer in _tiles(tuple(d // s for d, s in zip(dims, shape, strict=True)), sizes[1:], coarse):
            yield (outer[:, None, :] * np.array(shape) + inside[None]).reshape(-1, len(dims))


def _shapes(size: int, dims: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Boxes of ``size`` cells whose sides divide those of the grid."""
    sides = [[side for side in range(1, d + 1) if d % side == 0 and size % side == 0] for d in dims]
    yield from (shape for shape in product(*sides) if math.prod(shape) == size)


def _halves(box: tuple[int, ...], known: dict[tuple[int, ...], IntArray]) -> IntArray:
    """Cells of halves of halves along the longest axis; ``known`` keeps those of boxes met before."""
    if box not in known:
        axis = box.index(max(box))
        if box[axis] == 1:
            known[box] = np.zeros((1, len(box)), np.int64)
        else:
            low, high = _cut_box(box, axis, box[axis] // 2)
            shift = np.zeros(len(box), np.int64)
            shift[axis] = low[axis]
            known[box] = np.concatenate([_halves(low, known), _halves(high, known) + shift])
    return known[box]


def _cut_box(box: tuple[int, ...], axis: int, at: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (*box[:axis], at, *box[axis + 1 :]), (*box[:axis], box[axis] - at, *box[axis + 1 :])


def _parts(dims: tuple[int, ...], borders: Sequence[IntArray]) -> IntArray:
    """Cells of a grid that is cut again and again near the middle, where a border of places falls there.

    ``borders`` are those of every level, the outermost first, as numbers of ranks before them.
    """
    out = np.empty((math.prod(dims), len(dims)), np.int64)
    work = [(tuple(0 for _ in dims), dims, 0)]
    while work:
        corner, box, first = work.pop()
        cut = _cut(box, first, borders)
        if cut is None:
            out[first : first + math.prod(box)] = np.indices(box).reshape(len(box), -1).T + np.array(corner)
            continue
        axis, at = cut
        low, high = _cut_box(box, axis, at)
        beyond = (*corner[:axis], corner[axis] + at, *corner[axis + 1 :])
        work += [(corner, low, first), (beyond, high, first + math.prod(low))]
    return out


def _cut(box: tuple[int, ...], first: int, borders: Sequence[IntArray]) -> tuple[int, int] | None:
    """Find the axis and the place of the next cut; None for a box of one cell, or one that lies in one place."""
    cells = math.prod(box)
    axes = sorted(range(len(box)), key=lambda axis: (-box[axis], axis))
    inside = False
    for level in borders:
        low, high = np.searchsorted(level, [first, first + cells], "right").tolist()
        within = {border - first for border in level[low:high].tolist()} - {cells}
        inside = inside or bool(within)
        for axis in axes:
            side, face = box[axis], cells // box[axis]
            fitting = [at for at in range(1, side) if at * face in within and side <= 4 * min(at, side - at)]
            if fitting:
                return axis, min(fitting, key=lambda at: (abs(2 * at - side), at))
    return (axes[0], box[axes[0]] // 2) if inside else None
