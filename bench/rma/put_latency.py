"""Notified puts from Python beside every means of the MPI library of this Python, 8 B to 4 MiB, when all is quiet.

    python -m bench.rma.put_latency [--sizes 8:4194304] [--runs 3]

Each size is a short job of its own, ``python -m bench.rma.put_notify put_latency --compare``, several times; of every
ratio the median over the jobs is kept, and the ratios of each, in bench/results/rma_put_latency_<mpi>.json. Sizes
measured again replace their rows there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.calm import calm
from bench.cluster import detect_mpi, find_mpiexec
from bench.record import RESULTS, keep
from bench.rma.core import environment

UP_TO_64K, LARGEST = 1 << 16, 1 << 22


def job(size: int, python: str = sys.executable) -> dict[str, Any]:
    """One run of the benchmark for one size, with what others used of the cores just before."""
    mpiexec = find_mpiexec(python)
    busy = calm(limit=3)
    words = [python, "-m", "mpi4py", "-m", "bench.rma.put_notify", "put_latency", "--compare", "--bind"]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "report.json"
        subprocess.run(
            [str(mpiexec), "-n", "2", *words, "-m", f"{size}:{size}", "--json", str(results)],
            capture_output=True, check=True, timeout=60, env=environment(mpiexec.parent.parent),
        )  # fmt: skip
        report: dict[str, Any] = json.loads(results.read_text())
    return {"busy_before": busy, **report}


def row(size: int, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the jobs, and each job's ratios."""
    found = [j["rows"][0] for j in jobs]
    names = [name for name in found[0] if name not in ("size", "time_per_notified")]
    middle = {name: round(statistics.median(f[name] for f in found), 2) for name in names}
    ratios = {name: round(statistics.median(f["time_per_notified"][name] for f in found), 3) for name in names[1:]}
    each = [{"busy_before": j["busy_before"], **f["time_per_notified"]} for j, f in zip(jobs, found, strict=True)]
    return {"size": size, "us": middle, "time_per_notified": ratios, "jobs": each}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The smallest ratio of each way, up to 64 KiB and above, with its size: below 1, notified puts were slower."""
    found: dict[str, Any] = {}
    for name in rows[0]["time_per_notified"]:
        for label, some in (("to_64KiB", [r for r in rows if r["size"] <= UP_TO_64K]),
                            ("above", [r for r in rows if r["size"] > UP_TO_64K])):  # fmt: skip
            if some:
                worst = min(some, key=lambda r: r["time_per_notified"][name])
                found.setdefault(name, {})[label] = [worst["time_per_notified"][name], worst["size"]]
    return found


def main() -> None:
    """Measure, merge, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default=f"8:{LARGEST}", metavar="MIN:MAX")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    low, _, high = args.sizes.partition(":")
    sizes = [1 << n for n in range(40) if int(low) <= 1 << n <= int(high or low)]
    mpi = detect_mpi(find_mpiexec(sys.executable))
    rows: dict[int, dict[str, Any]] = {}
    kept = RESULTS / f"rma_put_latency_{mpi}.json"
    if kept.exists():
        rows = {r["size"]: r for r in json.loads(kept.read_text())["rows"] if "us" in r}
    about: dict[str, Any] = {}
    for size in sizes:
        jobs = [job(size) for _ in range(args.runs)]
        rows[size] = row(size, jobs)
        print(size, rows[size]["us"], rows[size]["time_per_notified"], flush=True)
        about = {name: jobs[0][name] for name in ("benchmark", "mpi", "transport", "absent", "rounds")}
    ordered = [rows[size] for size in sorted(rows)]
    keep(f"rma_put_latency_{mpi}", {**about, "unit": "us one way", "smallest_ratio": summary(ordered), "rows": ordered})


if __name__ == "__main__":
    main()
