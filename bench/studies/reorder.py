"""Neighbours on grids over the places of real jobs: how many are parted, beside the best known ways to map grids.

    python -m bench.studies.reorder                       # all jobs, some minutes
    python -m bench.studies.reorder --every 4             # each fourth of them

All jobs of ``bench/placements`` with 1 and 4 ranks a node, as 2-D and 3-D grids (MPI_Dims_create's), not periodic. The
rivals put node after node, in the order in which the ranks meet them; all but ``none`` know nodes only, as published:
``kdtree`` and ``hyperplane`` (Hunold et al., CLUSTER 2020) and ``nodecart`` (Gropp, 2019), re-implemented here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np

from bench.record import keep
from bench.studies.job_placements import jobs
from topocomm.arrays import IntArray
from topocomm.topology import Topology
from topocomm.topology.grids import cart_order, parted

PER_NODE = (1, 4)


def dims_of(size: int, axes: int) -> tuple[int, ...]:
    """The sides of a grid as even as can be, the longest first: factors dealt to the shortest side."""
    sides = [1] * axes
    for prime in sorted(_primes(size), reverse=True):
        sides[sides.index(min(sides))] *= prime
    return tuple(sorted(sides, reverse=True))


def _primes(n: int) -> list[int]:
    found, divisor = [], 2
    while n > 1:
        while n % divisor == 0:
            found.append(divisor)
            n //= divisor
        divisor += 1 if divisor * divisor <= n else n - divisor
    return found


def kdtree(dims: tuple[int, ...], _: int) -> IntArray:
    """Cells of halves: along the longest side, again and again."""
    return _split(dims, lambda box: (box.index(max(box)), max(box) // 2))


def hyperplane(dims: tuple[int, ...], per_node: int) -> IntArray:
    """Cells of parts that hold whole nodes where a cut near the middle of a long side gives such."""

    def cut(box: tuple[int, ...]) -> tuple[int, int] | None:
        cells = math.prod(box)
        if cells <= per_node:
            return None
        for axis in sorted(range(len(box)), key=lambda a: -box[a]):
            for at in sorted(range(1, box[axis]), key=lambda x: abs(2 * x - box[axis])):
                if at * (cells // box[axis]) % per_node == 0:
                    return axis, at
        return None

    return _split(dims, cut)


def nodecart(dims: tuple[int, ...], per_node: int) -> IntArray:
    """Boxes of one node's ranks, as even as the sides' divisors allow; rows where none fits."""
    boxes: list[tuple[int, ...]] = [()]
    for side in dims:
        boxes = [(*box, d) for box in boxes for d in range(1, side + 1) if side % d == 0]
    boxes = [box for box in boxes if math.prod(box) == per_node]
    if not boxes:
        return np.arange(math.prod(dims))
    box = min(boxes, key=lambda b: sum(per_node // side for side in b))
    outer = np.indices([d // b for d, b in zip(dims, box, strict=True)]).reshape(len(dims), -1).T
    inner = np.indices(box).reshape(len(dims), -1).T
    cells = (outer[:, None] * np.array(box) + inner[None]).reshape(-1, len(dims))
    numbers: IntArray = np.ravel_multi_index(tuple(cells.T), dims).astype(np.int64)
    return numbers


def _split(dims: tuple[int, ...], cut: Any) -> IntArray:
    out: list[IntArray] = []
    work = [((0,) * len(dims), dims)]
    while work:
        corner, box = work.pop()
        found = cut(box) if max(box) > 1 else None
        if found is None:
            cells = np.indices(box).reshape(len(box), -1).T + np.array(corner)
            out.append(np.ravel_multi_index(tuple(cells.T), dims))
            continue
        axis, at = found
        high = tuple(c + at * (k == axis) for k, c in enumerate(corner))
        work.append((high, tuple(s - at * (k == axis) for k, s in enumerate(box))))
        work.append((corner, tuple(at if k == axis else s for k, s in enumerate(box))))
    return np.concatenate(out)


RIVALS = {"kdtree": kdtree, "hyperplane": hyperplane, "nodecart": nodecart}


def spread(topology: Topology, per_node: int) -> Topology:
    """The same nodes with so many ranks each."""
    rows = np.repeat(topology.labels.astype(str), per_node, axis=0)
    nodes = np.repeat(np.arange(topology.size), per_node).astype(str)
    if "node" in topology.levels:
        return Topology(topology.levels, rows)
    return Topology((*topology.levels, "node"), np.column_stack([rows, nodes]))


def case(topology: Topology, dims: tuple[int, ...], per_node: int) -> dict[str, list[int]]:
    """Neighbours parted by level, for each way."""
    periods = (False,) * len(dims)
    ranks = np.arange(topology.size)
    found = {"none": parted(topology, ranks, dims, periods)}
    for name, rival in RIVALS.items():
        order = np.empty(topology.size, np.int64)
        order[rival(dims, per_node)] = ranks
        found[name] = parted(topology, order, dims, periods)
    found["topocomm"] = parted(topology, cart_order(topology, dims, periods), dims, periods)
    return found


def study(every: int) -> dict[str, Any]:
    """Compare the cases of each ``every``-th job."""
    at_most: dict[str, Counter[str]] = {"node": Counter(), "group": Counter()}
    over: dict[str, list[float]] = {}
    cases, seconds = 0, []
    for _, job in islice(jobs(), 0, None, every):
        for per_node in PER_NODE:
            topology = spread(job, per_node)
            for axes in (2, 3):
                began = time.perf_counter()
                found = case(topology, dims_of(topology.size, axes), per_node)
                seconds.append(time.perf_counter() - began)
                cases += 1
                mine = dict(zip(topology.levels, found["topocomm"], strict=True))
                for rival in ("none", *RIVALS):
                    theirs = dict(zip(topology.levels, found[rival], strict=True))
                    for level, counts in at_most.items():
                        counts[rival] += mine[level] <= theirs[level]
                        over.setdefault(f"{rival} {level}", []).append(mine[level] / max(1, theirs[level]))
    shares = {level: {rival: round(n / cases, 4) for rival, n in counts.items()} for level, counts in at_most.items()}
    ratios = {name: {"mean": round(float(np.mean(r)), 4), "worst": round(max(r), 4)} for name, r in over.items()}
    return {"cases": cases, "at_most_equal": shares, "over_rival": ratios, "seconds_a_case_at_most": max(seconds)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Neighbours on grids over the places of real jobs.")
    parser.add_argument("--every", type=int, default=1, help="take each N-th job only")
    figures = study(parser.parse_args().every)
    print(json.dumps(figures, indent=1))
    keep("reorder", figures)
    sys.exit(0)
