"""The whole study for one MPI library: every placement, collective, size and variant on one emulated cluster.

    python -m bench.studies.cluster_placements --algorithm auto,ring

The library is that of the Python that runs this. Results are kept in bench/results/cluster_<mpi>.json, written after
each placement; the table goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec, reported
from bench.record import RESULTS, command

PLACEMENTS = "block,cyclic,random:1"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure collectives under all placements on the emulated cluster.")
    parser.add_argument("--racks", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=4, help="hosts per rack")
    parser.add_argument("--link", default="40mbit")
    parser.add_argument("--uplink", default="40mbit")
    parser.add_argument("--placement", default=PLACEMENTS, help="with commas between")
    parser.add_argument("--algorithm", default="", help="variants beside native, with commas between")
    parser.add_argument("--collective", help="with commas between (default: all)")
    parser.add_argument("--size", default="1024,32768,1048576", help="bytes, with commas between")
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=900, help="seconds per placement")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    return parser.parse_args()


def busy_share(seconds: float = 1) -> float:
    """The share of all cores that others use while nothing of ours runs: figures from a busy machine are worth less."""

    def ticks() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]

    before = ticks()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(ticks(), before, strict=True)]
    idle = spent[3] + spent[4]
    return round(1 - idle / max(1, sum(spent)), 2)


def measure(cluster: Cluster, placement: str, options: argparse.Namespace) -> dict[str, Any]:
    """The report of one placement."""
    path = cluster.scratch / "report.json"
    program = [sys.executable, "-m", "bench.studies.cluster_collectives", "--json", str(path)]
    program += ["--size", options.size, "--samples", str(options.samples), "--algorithm", options.algorithm]
    if options.collective:
        program += ["--collective", options.collective]
    busy = busy_share()
    done = cluster.mpiexec(program, placement=placement, timeout=options.timeout, capture=True)
    if done.returncode:
        raise ClusterError(f"{placement}: return code {done.returncode}\n{done.stdout}{done.stderr}")
    report: dict[str, Any] = json.loads(path.read_text())
    report["context"]["command"] = command()
    report["context"]["busy_before"] = busy
    return report


def table(reports: Sequence[Mapping[str, Any]]) -> str:
    """One line per collective, size and placement: medians, the bound, bytes over uplinks."""

    def lines() -> Iterator[Sequence[str]]:
        names = list(reports[0]["rows"][0]["variants"])
        uplinks = [f"{name} uplinks kB" for name in names]
        yield ["collective", "size", "placement", *(f"{name} ms" for name in names), "bound ms", *uplinks]
        yield ["---", "---:", "---", *("---:" for _ in range(2 * len(names) + 1))]
        for rows in zip(*(report["rows"] for report in reports), strict=True):
            for report, row in zip(reports, rows, strict=True):
                results = [row["variants"][name] for name in names]
                values = [f"{value:.2f}" for value in (*(r["median_ms"] for r in results), row["bound_ms"])]
                values += [f"{result['uplink_bytes'] / 1e3:.0f}" for result in results]
                yield [row["collective"], str(row["size"]), report["context"]["cluster"]["placement"], *values]

    return "\n".join(f"| {' | '.join(line)} |" for line in lines())


def run_study(options: argparse.Namespace) -> None:
    mpi = detect_mpi(find_mpiexec(sys.executable))
    kept = options.results / f"cluster_{mpi}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    reports = []
    with Cluster(options.racks, options.hosts, link=options.link, uplink=options.uplink) as cluster:
        for placement in options.placement.split(","):
            print(f"{mpi}: {placement}", file=sys.stderr, flush=True)
            reports.append(measure(cluster, placement, options))
            study = {"format": "topocomm-collectives-study", "version": 1, "mpi": mpi, "reports": reports}
            kept.write_text(json.dumps(study, indent=1) + "\n")
    print(table(reports))


def main() -> int:
    options = parse_arguments()
    return reported("study", lambda: run_study(options))


if __name__ == "__main__":
    sys.exit(main())
