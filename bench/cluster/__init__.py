"""An emulated cluster: network namespaces as hosts, real MPI over real TCP, every link shaped (see network.py).

Everything lives in namespaces named after this process, so that runs do not disturb each other, and deleting these
namespaces removes all of it: at the end, after an error, on Ctrl-C, and by the next run if this one is killed.

    python -m bench.cluster run --racks 4 --hosts 4 --link 40mbit --placement cyclic -- python program.py

    with Cluster(racks=2, hosts=2, link="100mbit") as cluster:
        cluster.mpiexec([sys.executable, "program.py"], placement="cyclic", timeout=60)
"""

from bench.cluster.command import main, reported
from bench.cluster.emulated import Cluster, context, counters_here, place, why_not
from bench.cluster.launchers import detect_mpi, find_mpiexec
from bench.cluster.namespaces import ClusterError, Traffic
from bench.cluster.network import bits_per_second

__all__ = [
    "Cluster",
    "ClusterError",
    "Traffic",
    "bits_per_second",
    "context",
    "counters_here",
    "detect_mpi",
    "find_mpiexec",
    "main",
    "place",
    "reported",
    "why_not",
]
