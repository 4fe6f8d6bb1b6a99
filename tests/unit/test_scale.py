"""One rank's schedule at 65,536 ranks is small (how long it takes is measured by bench/scale.py)."""

import tracemalloc

import pytest

from topocomm import Topology
from topocomm.algorithms import make_schedule
from topocomm.topology import dragonfly, groups_of, reorder_ranks

MACHINES = {
    "equals": lambda: Topology.flat(65536),
    "dragonfly, shuffled": lambda: reorder_ranks(dragonfly(32, 16, 16, 8), "random:1"),
    "unequal groups": lambda: groups_of([25536, 20000, 15000, 5000]),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("collective", "name"), [("allreduce", "rabenseifner"), ("allgather", "recursive_doubling")])
def test_memory_of_one_rank(machine, collective, name):
    topology = MACHINES[machine]()
    tracemalloc.start()
    try:
        part = make_schedule(collective, name, topology).part(12345)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 16 <= len(part.rounds) <= 40
    assert peak <= 16 * 2**20
