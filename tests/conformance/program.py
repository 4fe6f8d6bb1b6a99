"""Run all checks that fit the number of ranks: ``mpiexec -n 4 python -m mpi4py tests/conformance/program.py [name …]``.

With ``--reload`` first, engine ``python`` loads every program from its bytes, as engine ``c`` does.
Rank 0 prints a line for every check that passed on every rank; the exit code tells whether all did.
"""

from __future__ import annotations

import sys
import time
import traceback

import check_arrays  # noqa: F401
import check_choosing  # noqa: F401
import check_coverage  # noqa: F401
import check_engines  # noqa: F401
import check_errors  # noqa: F401
import check_habits  # noqa: F401
import check_kinds  # noqa: F401
import check_known  # noqa: F401
import check_matrix  # noqa: F401
import check_memory  # noqa: F401
import check_merging  # noqa: F401
import check_objects  # noqa: F401
import check_operations  # noqa: F401
import check_private  # noqa: F401
import check_shared  # noqa: F401
import check_stress  # noqa: F401
import check_types  # noqa: F401
import check_vectors  # noqa: F401
import check_waiting  # noqa: F401
from harness import CHECKS, Check, expected
from mpi4py import MPI

from topocomm.engines import python
from topocomm.plan.program import Program


def run(name: str, function: Check, control: MPI.Intracomm) -> bool:
    """One check on a communicator of its own; True if it passed on every rank."""
    world = MPI.COMM_WORLD.Dup()
    trouble = ""
    start = time.perf_counter()
    try:
        function(world)
    except Exception:
        trouble = traceback.format_exc()
        print(f"rank {control.rank} in {name}: {trouble}", file=sys.stderr, flush=True)
    everyone = control.allgather(trouble)
    if any(everyone):
        return False
    world.Free()
    if control.rank == 0:
        print(f"ok {name}", flush=True)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return True


def reload_programs() -> None:
    """Let the engine ``python`` see nothing of a program but its bytes."""
    load = python.load
    python.load = lambda program: load(Program.from_bytes(bytes(program)))


def main() -> None:
    """Run what the command line names, or all."""
    control = MPI.COMM_WORLD.Dup()
    names = sys.argv[1:]
    if "--reload" in names:
        names.remove("--reload")
        reload_programs()
    names = names or expected(control.size)
    failed = [name for name in names if not run(name, CHECKS[name][1], control)]
    if failed:
        raise SystemExit(f"failed: {failed}" if control.rank == 0 else 1)


if __name__ == "__main__":
    main()
