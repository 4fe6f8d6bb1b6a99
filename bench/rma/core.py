"""The C core beside its bounds and beside the MPI library of this Python, in C: builds, runs and keeps the figures.

    python -m bench.rma.core

``mpi.c`` (a notified put against a bare flag, MPI_Send/MPI_Recv and Intel's MPIX_Put_notify) is linked against this
environment's MPI only; ``core.c`` (notified puts against plain copies) knows no MPI. Each runs several times, when
the machine is quiet; kept in bench/results/rma_core_<mpi>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.calm import calm
from bench.cluster import detect_mpi, find_mpiexec
from bench.record import ROOT, keep

BOUND_COPY = "1048576"


def core_sources() -> list[str]:
    """The C core without libfabric: only shared memory is measured here."""
    names = (ROOT / "csrc" / "core").rglob("*.c")
    return sorted(str(path) for path in names if not path.name.startswith("ofi_"))


def build(compiler: Sequence[str], source: str, output: Path, env: Mapping[str, str]) -> None:
    """Compiles a benchmark together with the core."""
    command = [*compiler, "-std=gnu11", "-O2", "-pthread", f"-I{ROOT / 'csrc' / 'core'}", "-o", str(output)]
    subprocess.run([*command, str(Path(__file__).parent / source), *core_sources()], check=True, env=env)


def run(command: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """One run of a benchmark: its JSON object, and what others used of the cores just before it."""
    busy = calm()
    done = subprocess.run(command, capture_output=True, check=True, env=env, timeout=120)
    text = done.stdout.decode(errors="replace")
    figures: dict[str, Any] = json.loads(text[text.index("{") :])
    return {"busy_before": busy, **figures}


def environment(prefix: Path) -> dict[str, str]:
    """Make the environment in which the three MPI libraries of pip compile and start here."""
    yes = [f"{name}_ALLOW_RUN_AS_ROOT{end}" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")]
    return {**os.environ, **dict.fromkeys(yes, "1"), "I_MPI_ROOT": str(prefix), "I_MPI_PIN": "0",
            "OMPI_MCA_osc": "^ucx", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "PRTE_MCA_hwloc_default_binding_policy": "none"}  # fmt: skip


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The median over the runs of every ratio."""
    names = [name for name in runs[0] if "_per_" in name and not isinstance(runs[0][name], dict)]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in names}


def study(runs: int) -> tuple[str, dict[str, Any]]:
    """All runs of both benchmarks, taking turns."""
    mpiexec = find_mpiexec(sys.executable)
    mpi, prefix = detect_mpi(mpiexec), mpiexec.parent.parent
    env = environment(prefix)
    against_mpi, against_copy = [], []
    with tempfile.TemporaryDirectory(prefix="topocomm-") as folder:
        with_mpi, alone = Path(folder, "rma_mpi"), Path(folder, "rma_core")
        has_notify = "MPIX_Put_notify" in (prefix / "include" / "mpi.h").read_text(errors="replace")
        extra = ["-DPUT_NOTIFY"] if has_notify else []
        build([str(prefix / "bin" / "mpicc"), *extra], "mpi.c", with_mpi, env)
        build(["cc"], "core.c", alone, env)
        for _ in range(runs):
            against_mpi.append(run([str(mpiexec), "-n", "2", str(with_mpi)], env))
            against_copy.append(run([str(alone), "51", "2000"], env))
    sizes = against_copy[0]["copy_per_put"]
    copies = {size: round(statistics.median(r["copy_per_put"][size] for r in against_copy), 3) for size in sizes}
    return mpi, {
        "mpi": mpi,
        "median_of_runs": {**medians(against_mpi), "copy_per_put": copies},
        "put_notify": "in the MPI library" if has_notify else "absent: mpi.h has no MPIX_Put_notify",
        "against_mpi": against_mpi,
        "against_copy": against_copy,
    }


def main() -> None:
    """Run, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    mpi, figures = study(parser.parse_args().runs)
    keep(f"rma_core_{mpi}", figures)
    print(json.dumps(figures["median_of_runs"], indent=1))


if __name__ == "__main__":
    main()
