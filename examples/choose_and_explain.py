"""Choose an algorithm, and ask what would run and why.

    mpiexec -n 6 python examples/choose_and_explain.py

The machine is described by hand here, three nodes of two ranks with the ranks dealt out in turn, so that there is
something to choose on a laptop, too.
"""

import numpy as np
from mpi4py import MPI

import topocomm

world = MPI.COMM_WORLD
nodes = max(world.size // 2, 1)
machine = topocomm.Topology(("node",), [[f"node{rank % nodes}"] for rank in range(world.size)])

automatic = topocomm.Comm(world, topology=machine)
named = topocomm.Comm(world, topology=machine, algorithm={"allreduce": "rabenseifner", "bcast": "native"})

x, y = np.arange(10_000.0) + world.rank, np.empty(10_000)
named.Allreduce(x, y)  # by the communicator's word
named.Allreduce(x, y, algorithm="textbook_rabenseifner")  # by the call's word
named.Bcast(y)

if world.rank == 0:
    print(automatic.machine_topology.describe())
    for nbytes in (8, 80_000, 8_000_000):
        print(" would:", automatic.explain("allreduce", nbytes))
    for decision in named.decisions:
        print(" did:  ", decision)
