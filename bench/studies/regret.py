"""How much slower the choice is than the best candidate, by measurement on the emulated cluster.

    python -m bench.studies.regret measure block tuning --folder F     # and cyclic, and referee: four runs
    python -m bench.studies.regret report --folder F

Every placement is measured twice by ``python -m topocomm tune``. The first pass makes the tuning file; the second, the
referee, says what was best. Regret is the referee's time of the choice over that of its best candidate, less one: of
the choice after tuning, of the model's choice on the described machine, and of the MPI library's own call throughout.
A measurement goes on where an earlier one stopped. Results are kept in bench/results/regret_cluster.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.cluster import Cluster, place, reported
from bench.record import keep
from topocomm.choose.measured import Entry, Tuning, read_tuning
from topocomm.choose.modelled import Chooser
from topocomm.choose.rule import decide
from topocomm.model import parse_machine
from topocomm.topology import Topology

RACKS, HOSTS, LINK = 4, 4, "40mbit"
ORDERS = ("block", "cyclic")
PASSES = {"tuning": 5, "referee": 7}
"""Repetitions of every candidate that is not hopeless."""
COLLECTIVES, SIZES = "allreduce,allgather,bcast", "32K,128K,512K,1M"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Regret of the choice, by measurement on the emulated cluster.")
    actions = parser.add_subparsers(dest="action", required=True)
    measure = actions.add_parser("measure", help="one pass over one placement")
    measure.add_argument("order", choices=ORDERS)
    measure.add_argument("which", choices=PASSES)
    measure.add_argument("--seconds", default="150", help="start no further point after this time")
    for action in (measure, actions.add_parser("report", help="judge what was measured")):
        action.add_argument("--folder", type=Path, required=True, help="where the passes are kept")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    with Cluster(RACKS, HOSTS, link=LINK, uplink=LINK) as cluster:
        placement = options.folder / f"placement_{options.order}.json"
        placement.write_text(json.dumps(cluster.topology(place(options.order, RACKS, HOSTS))))
        (options.folder / "machine.json").write_text(json.dumps(cluster.machine()))
        program = [sys.executable, "-m", "topocomm", "tune", "--collectives", COLLECTIVES, "--sizes", SIZES]
        program += ["--topology", str(placement), "--repetitions", str(PASSES[options.which]), "--resume"]
        program += ["--save", str(options.folder / f"{options.which}_{options.order}.json")]
        env = {"TOPOCOMM_MACHINE": str(options.folder / "machine.json")}
        return cluster.mpiexec([*program, "--seconds", options.seconds], placement=options.order, env=env).returncode


def judge(folder: Path, order: str) -> Iterator[dict[str, Any]]:
    """Every point of one placement: who was chosen how, and the regret."""
    document = json.loads((folder / f"placement_{order}.json").read_text())
    topology = Topology(document["levels"], document["ranks"])
    machine = parse_machine((folder / "machine.json").read_text(), "machine of the cluster")
    tuning = Tuning(read_tuning(folder / f"tuning_{order}.json").entries, "tuning")
    for entry in read_tuning(folder / f"referee_{order}.json").entries:
        choosers = {
            "tuned": Chooser(topology, machine, tuning, entry.library),
            "model": Chooser(topology, machine, None, entry.library),
        }
        chosen = {name: decide(entry.collective, entry.nbytes, it).algorithm for name, it in choosers.items()}
        yield row(entry, order, {**chosen, "native": "native"})


def row(entry: Entry, order: str, chosen: dict[str, str]) -> dict[str, Any]:
    times = {name: timing.median for name, timing in entry.algorithms.items()}
    best = min(times, key=lambda name: (times[name], name))
    return {
        "collective": entry.collective,
        "bytes": entry.nbytes,
        "placement": order,
        "library": entry.library,
        "median_ms": {name: round(1e3 * seconds, 3) for name, seconds in times.items()},
        "spread_ms": {name: round(1e3 * timing.spread, 3) for name, timing in entry.algorithms.items()},
        "best": best,
        "chosen": chosen,
        "regret": {how: round(times[name] / times[best] - 1, 4) for how, name in chosen.items()},
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and largest regret of every way to choose, and how often it named the best."""
    return {
        how: {
            "mean_regret": round(statistics.mean(r["regret"][how] for r in rows), 4),
            "largest_regret": max(r["regret"][how] for r in rows),
            "best_named": sum(r["chosen"][how] == r["best"] for r in rows),
            "points": len(rows),
        }
        for how in ("tuned", "model", "native")
    }


def report(folder: Path) -> None:
    rows = [found for order in ORDERS for found in judge(folder, order)]
    print(f"{'collective':<12}{'bytes':>9} {'order':<8}{'best':<20}{'tuned':<30}{'model':<30}{'native':>8}")
    for r in rows:
        ways = [f"{r['chosen'][how]} {100 * r['regret'][how]:.1f} %" for how in ("tuned", "model")]
        print(f"{r['collective']:<12}{r['bytes']:>9} {r['placement']:<8}{r['best']:<20}{ways[0]:<30}{ways[1]:<30}"
              f"{100 * r['regret']['native']:>6.1f} %")  # fmt: skip
    found = summary(rows)
    for how, figures in found.items():
        mean, largest = (100 * figures[key] for key in ("mean_regret", "largest_regret"))
        print(f"{how}: mean regret {mean:.1f} %, largest {largest:.1f} %, best named in {figures['best_named']} "
              f"of {figures['points']}")  # fmt: skip
    cluster = {"racks": RACKS, "hosts": HOSTS, "link": LINK, "uplink": LINK}
    keep("regret_cluster", {"cluster": cluster, "repetitions": PASSES, "summary": found, "rows": rows})


def main() -> int:
    options = parse_arguments()
    return reported("study", lambda: measure(options) if options.action == "measure" else report(options.folder))


if __name__ == "__main__":
    sys.exit(main())
