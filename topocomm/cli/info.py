"""``python -m topocomm info``: versions, the MPI library, what this build has, and the topology."""

from __future__ import annotations

import argparse
import platform
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from topocomm.cli import provenance
from topocomm.cli.console import launched_rank, version
from topocomm.errors import Error
from topocomm.topology.live.measured import MEASURED

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show versions, MPI library, build features and, under mpiexec, the topology"

_PACKAGES = ("mpi4py", "numpy", "cffi", "numba", "matplotlib")
_CORE = "topocomm.rma._core"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option: a placement file."""
    parser.add_argument(
        "--topology",
        metavar="FILE",
        help="describe this file (placement, or a site's description) instead; measured: probe, under mpiexec",
    )


def run(args: argparse.Namespace) -> int:
    """Print ``key: value`` lines. MPI is started only by mpiexec: without it, or without mpi4py, there is less to
    show.
    """
    facts = _facts()
    if launched_rank() is not None and find_spec("mpi4py"):
        facts.update(_placement(args.topology))
    elif args.topology == MEASURED:
        raise Error(f"--topology {MEASURED} sends messages: start it under mpiexec -n RANKS")
    elif args.topology:
        facts.update(_placement_file(args.topology))
    else:
        facts["topology"] = "known under mpiexec only (mpiexec -n 4 python -m topocomm info [--topology measured])"
    core, job = _core_is_built(), launched_rank() is not None and find_spec("mpi4py") is not None
    transports = _transports(job) if core else []
    if launched_rank() in (None, 0):
        width = max(map(len, facts)) + 1
        for key, value in facts.items():
            print(f"{key + ':':<{width}} {value}")
        print(*transports, sep="\n", end="\n" if transports else "")
    return 0


def _transports(job: bool) -> list[str]:
    """List the transports of notified RMA; in an MPI job, where this is collective, emulated ones are measured."""
    from topocomm.rma.capability import report

    title, advice = "emulated transports against plain messages", "mpiexec -n 2 python -m topocomm info"
    if not job:
        return ["transports of notified RMA:", report(), f"{title}: not measured, no MPI job ({advice})"]
    from mpi4py import MPI

    from topocomm.rma.comparison import compare_emulated
    from topocomm.rma.context import Context

    world = MPI.COMM_WORLD
    with Context(world) as context:
        found = report(context)
    compared = compare_emulated(world)
    if world.rank:
        return []
    measured = [f"{title}, between ranks 0 and 1 of {world.size}:", *(f"  {c}" for c in compared)]
    if world.size < 2:
        measured = [f"{title}: not measured with 1 rank ({advice})"]
    return ["transports of notified RMA:", found, *measured]


def _facts() -> dict[str, str]:
    facts = {"topocomm": version(), "python": platform.python_version()}
    facts.update({name: provenance.package_version(name) or "not installed" for name in _PACKAGES})
    facts["MPI library"] = _mpi()
    facts["C core"] = "built" if _core_is_built() else f"not built (no module {_CORE})"
    facts["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    facts["processor"] = f"{provenance.cpu_model()}, {provenance.usable_cores()} cores usable"
    return facts


def _core_is_built() -> bool:
    """Look for the extension module without importing it, or the package around it, which needs it."""
    import topocomm

    folder, name = _CORE.split(".")[1:]
    return PathFinder.find_spec(name, [str(Path(place) / folder) for place in topocomm.__path__]) is not None


def _mpi() -> str:
    """Name library and standard; mpi4py finds its library only when it is imported, which must not start MPI here."""
    if not find_spec("mpi4py"):
        return "none (mpi4py is not installed)"
    import mpi4py

    started = mpi4py.rc.initialize
    try:
        mpi4py.rc.initialize = launched_rank() is not None
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return f"cannot be loaded: {str(error).splitlines()[0]}"
    finally:
        mpi4py.rc.initialize = started
    return "{}, MPI {}.{}".format(provenance.mpi_library(), *MPI.Get_version())


def _placement(topology: str | None) -> dict[str, str]:
    """Describe ranks, nodes and levels of the running job. Collective."""
    from mpi4py import MPI

    from topocomm import Comm

    world = MPI.COMM_WORLD
    nodes = provenance.count_nodes(world)
    comm = Comm(world, topology=topology)
    origin = MEASURED if topology == MEASURED else f"from {topology}" if topology else "discovered"
    facts = {
        "ranks": f"{world.size} on {nodes} node{'s' if nodes != 1 else ''}",
        "topology": f"{comm.machine_topology.describe()} ({origin})",
    }
    sources = comm.machine_sources
    return facts | {f"source {k}": line for k, line in enumerate(sources, 1)} if topology is None else facts


def _placement_file(name: str) -> dict[str, str]:
    """Describe a placement file without a job. Raises TopologyError."""
    from topocomm.topology import Topology, read_site

    placement = read_site(name)
    if placement.ranks is not None:
        return {"topology": f"{Topology(placement.levels, placement.ranks).describe()} (from {name})"}
    if placement.nodes is None:
        raise Error(f"{name}: places neither ranks nor nodes")
    levels = " > ".join((*placement.levels, "node"))
    return {"topology": f"{len(placement.nodes)} nodes, levels {levels} (from {name})"}
