"""The provenance of a result: processor, versions, MPI library. Host names are not recorded."""

from __future__ import annotations

import importlib
import math
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from topocomm.cli.console import version
from topocomm.topology.live.inside import cpu_quota

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = [
    "count_nodes", "cpu_model", "mpi_library", "package_version", "thread_level", "today", "usable_cores",
    "versions", "waiting",
]  # fmt: skip


def cpu_model() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Count the cores that this process may run on: those of its affinity mask, at most its control groups' quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else min(allowed, math.ceil(quota))


def today() -> str:
    """Return date and time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def package_version(name: str) -> str | None:
    """Return the version of an installed package; None when it is not installed."""
    try:
        return installed_version(name)
    except PackageNotFoundError:
        pass
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, AttributeError):
        return None


def mpi_library() -> str:
    """Return name and version of the MPI library, such as ``MPICH 4.2.1``. Needs mpi4py, does not start MPI."""
    from mpi4py import MPI

    name, numbers = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, numbers))}"


def thread_level() -> str:
    """Return the thread level that MPI was started with, such as ``MULTIPLE``. Needs MPI started."""
    from mpi4py import MPI

    levels = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
    return {getattr(MPI, f"THREAD_{level}"): level for level in levels}[MPI.Query_thread()]


_YIELDS = ("OMPI_MCA_mpi_yield_when_idle", "I_MPI_THREAD_YIELD", "I_MPI_WAIT_MODE", "MPIR_CVAR_POLLS_BEFORE_YIELD")


def waiting() -> str:
    """Say how waiting ranks behave: what the environment asks of the MPI library, else that it is the library's own."""
    asked = [f"{name}={os.environ[name]}" for name in _YIELDS if name in os.environ]
    return ", ".join(asked) or "as the MPI library does by itself"


def versions() -> dict[str, str]:
    """Collect the versions of all that takes part in a measurement. Needs mpi4py, does not start MPI."""
    from mpi4py import MPI

    found = {name: package_version(name) or "unknown" for name in ("mpi4py", "numpy")}
    return {
        "topocomm": version(),
        "python": platform.python_version(),
        **found,
        "mpi_library": mpi_library(),
        "mpi_standard": "{}.{}".format(*MPI.Get_version()),
        "system": f"{platform.system()} {platform.release()}",
        "implementation": sys.implementation.name,
    }


def count_nodes(world: MPI.Intracomm) -> int:
    """Count the nodes that the processes of `world` run on: groups that share memory. Collective."""
    from mpi4py import MPI

    shared = world.Split_type(MPI.COMM_TYPE_SHARED, world.rank)
    nodes = world.allreduce(int(shared.rank == 0), MPI.SUM)
    shared.Free()
    return int(nodes)
