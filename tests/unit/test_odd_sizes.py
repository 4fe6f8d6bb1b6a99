"""Elements whose size does not divide the alignment of scratch memory, on so many ranks that copies are indexed."""

from __future__ import annotations

import numpy as np
import pytest

from topocomm.algorithms import TABLE, make_schedule
from topocomm.engines import local
from topocomm.schedule.blocks import block_cuts
from topocomm.topology import groups_of, reorder_ranks

P = 24
TRIPLE = np.dtype([("x", np.int64, (3,))])
"""24 bytes."""


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.empty(len(a), TRIPLE)
    out["x"] = a["x"] + b["x"]
    return out


@pytest.mark.parametrize("collective", ["reduce", "reduce_scatter", "allreduce"])
def test_elements_of_24_bytes(collective: str) -> None:
    machine = reorder_ranks(groups_of([7, 3, 9, 5]), "random:1")
    rng = np.random.default_rng(3)
    inputs = [np.empty(67, TRIPLE) for _ in range(P)]
    for one in inputs:
        one["x"] = rng.integers(0, 1000, (67, 3))
    total = sum(one["x"] for one in inputs)
    cuts = block_cuts(67, P)
    for name, algorithm in TABLE[collective].items():
        if algorithm.power_of_two:
            continue
        for way in algorithm.ways:
            schedule = make_schedule(collective, name if way == "none" else f"{name}:{way}", machine)
            outputs = local.run(schedule, inputs, add)
            for rank, out in enumerate(outputs):
                if collective == "reduce_scatter":
                    assert (out["x"] == total[cuts[rank] : cuts[rank + 1]]).all(), (name, way, rank)
                elif collective == "allreduce" or rank == 0:
                    assert (out["x"] == total).all(), (name, way, rank)
