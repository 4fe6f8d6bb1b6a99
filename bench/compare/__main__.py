"""Compare topocomm with MPI libraries: libraries × placements × collectives × sizes × engines; one file, one page.

    python -m bench.compare --plan                        # what would be measured, and how long it takes
    python -m bench.compare --out compare.json --report compare.html
    python -m bench.compare --node 2 --python .venv-mpich/bin/python,.venv-openmpi/bin/python

A unit is one collective under one library and placement. Each is written as soon as it is there; the same command goes
on where an earlier one was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.calm import busy_share
from bench.cluster import Cluster, place, reported
from bench.compare.bounds import bound_us
from bench.compare.collectives import COLLECTIVES
from bench.compare.peers import WAITING, Machine, Peer, peers_of
from bench.record import ROOT, command
from topocomm.cli.arguments import byte_count
from topocomm.cli.progress import Progress
from topocomm.cli.report.document import NATIVE, Part, read, write
from topocomm.cli.report.page import page

SIZES = "8,1K,16K,64K,256K,1M"
START, CALL, FACTOR = 5.0, 0.02, 3.0
"""Guesses for the plan: seconds to start a job, seconds of a short call, time of a long call over its bound."""


@dataclass(frozen=True)
class Unit:
    """One collective under one library and placement, at the sizes that can be shared evenly."""

    peer: Peer
    placement: str
    collective: str
    sizes: tuple[int, ...]

    def seconds(self, machine: Machine, variants: int, samples: int) -> float:
        """Guess the seconds that it takes."""
        if machine.node:
            return START + 0.3 * len(self.sizes) * variants
        order = place(self.placement, machine.racks, machine.hosts, machine.ranks_per_host)
        about = {"order": order, "hosts": machine.hosts, "links": [machine.link], "uplink": machine.uplink}
        calls = [CALL + FACTOR * 1e-6 * bound_us(self.collective, size, about) for size in self.sizes]
        return START + (samples + 4) * variants * sum(calls)

    def measured(self, parts: Sequence[Part], machine: Machine, variants: Sequence[str]) -> bool:
        """Return True if these parts hold all of it."""
        rows = [row for part in parts if _same(part, self.peer, machine, self.placement) for row in part.rows]
        there = {row.size for row in rows if row.collective == self.collective and set(variants) <= set(row.variants)}
        return set(self.sizes) <= there


def _same(part: Part, peer: Peer, machine: Machine, placement: str) -> bool:
    return (part.settings, part.place) == (peer.settings, machine.place(placement))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--plan", action="store_true", help="say what would be measured and how long it takes, and stop")
    add("--python", default=sys.executable, help="interpreters, one for each MPI library, with commas (default: this)")
    add("--settings", default="default,han", help="settings of the libraries, where they have them")
    add("--collectives", default=",".join(COLLECTIVES))
    add("--sizes", default=SIZES, help=f"bytes of the largest buffer of a rank (default {SIZES})")
    add("--placements", default="block,cyclic,random:1", help="of ranks on the racks")
    add("--variants", default="auto,auto@python", help="beside native: algorithms, @ENGINE behind; auto: the choice")
    add("--racks", type=int, default=4)
    add("--hosts", type=int, default=4, help="hosts per rack")
    add("--ranks-per-host", type=int, default=1)
    add("--link", default="40mbit")
    add("--uplink", default="40mbit")
    add("--node", type=int, default=0, metavar="RANKS", help="this many ranks on this node instead of racks")
    add("--samples", type=int, default=7, help="of every variant at every size")
    add("--level", default="multiple", help="thread level of MPI")
    add("--seconds", type=float, default=1e9, help="start no further unit after this time")
    add("--out", type=Path, default=ROOT / "bench" / "results" / "compare.json", metavar="FILE")
    add("--report", type=Path, metavar="FILE.html", help="make the page as well")
    return parser.parse_args()


def plan(options: argparse.Namespace, machine: Machine) -> list[Unit]:
    """List the units, a placement at a time."""
    sizes = [byte_count(text) for text in options.sizes.split(",")]
    units = []
    for placement in ["one node"] if machine.node else options.placements.split(","):
        for peer in peers_of(options.python.split(","), options.settings.split(",")):
            for name in options.collectives.split(","):
                fitting = tuple(size for size in sizes if COLLECTIVES[name].fits(size, machine.ranks))
                units.append(Unit(peer, placement, name, fitting))
    return [unit for unit in units if unit.sizes]


def merged(parts: Sequence[Part], new: Part) -> list[Part]:
    """Add the rows of a new part to those of the same library and place."""
    key = (new.settings, new.place)
    if not any((part.settings, part.place) == key for part in parts):
        return [*parts, new]
    return [replace(new, rows=part.rows + new.rows) if (part.settings, part.place) == key else part for part in parts]


def measure(unit: Unit, cluster: Cluster | None, machine: Machine, options: argparse.Namespace, out: Path) -> Part:
    """Run one unit. Raises ClusterError."""
    program = ["-m", "bench.compare.measure", "--collective", unit.collective, "--variants", options.variants]
    program += ["--size", ",".join(map(str, unit.sizes)), "--samples", str(options.samples)]
    busy = busy_share()
    machine.run(cluster, unit.peer, unit.placement, [*program, "--level", options.level, "--out", str(out)], 900)
    (part,) = read([out])
    return replace(
        part, mpi=part.mpi + unit.peer.label, settings=unit.peer.settings, place=machine.place(unit.placement),
        command=command(), waiting=WAITING[unit.peer.library],
        machine={**part.machine, "busy before": f"{busy:.0%}"},
    )  # fmt: skip


def run_study(options: argparse.Namespace) -> int:
    """Say how long it takes, measure what is missing, write after each unit."""
    machine = Machine(options.racks, options.hosts, options.link, options.uplink, options.ranks_per_host, options.node)
    variants = [NATIVE, *options.variants.split(",")]
    parts = read([options.out]) if options.out.exists() else []
    units = plan(options, machine)
    missing = [unit for unit in units if not unit.measured(parts, machine, variants)]
    guesses = [unit.seconds(machine, len(variants), options.samples) for unit in missing]
    print(
        f"{len(missing)} of {len(units)} units to measure, about {_duration(sum(guesses))}; kept in {options.out}",
        flush=True,
    )
    if options.plan:
        print(*(f"  {u.peer.settings}, {u.placement}: {u.collective}, {len(u.sizes)} sizes" for u in missing), sep="\n")
        return 0
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(machine.cluster()) if missing and not machine.node else None
        for unit, said in _paced(missing, guesses, options.seconds):
            said.say(f"{unit.peer.settings}, {unit.placement}: {unit.collective}")
            parts = merged(parts, measure(unit, cluster, machine, options, options.out.with_suffix(".unit")))
            options.out.with_suffix(".unit").unlink()
            write(parts, options.out)
    if options.report:
        options.report.write_text(page(parts), encoding="utf-8")
        print(f"wrote {options.report}")
    return 0


def _paced(units: Sequence[Unit], guesses: Sequence[float], most: float) -> Iterator[tuple[Unit, Progress]]:
    """Yield units under a progress bar that corrects the guess by what has passed; ends after `most` seconds."""
    progress, start, total = Progress("compare", seconds=0), time.monotonic(), sum(guesses)
    for number, unit in enumerate(units):
        spent, done = time.monotonic() - start, sum(guesses[:number])
        if spent > most:
            progress.say(f"{len(units) - number} units are left: the same command goes on")
            return
        left = (total - done) * (spent / done if done else 1)
        progress(done / total, f"{number} of {len(units)}, about {_duration(left)} left")
        yield unit, progress
    progress.done()


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def main() -> int:
    options = parse_arguments()
    return reported("compare", lambda: run_study(options))


if __name__ == "__main__":
    sys.exit(main())
