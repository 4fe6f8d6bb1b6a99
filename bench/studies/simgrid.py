"""Our choice beside SimGrid's own collectives and published rivals: 256 nodes, three machines, simulated.

    python -m bench.studies.simgrid ours --cache FILE [--machines M…] [--orders O…] [--collectives C…] [--sizes N…]
    python -m bench.studies.simgrid peers --cache FILE …
    python -m bench.studies.simgrid keep --cache FILE… [--name NAME]

Needs SimGrid (Debian: ``apt-get install libsimgrid-dev``). ``ours`` and ``peers`` append every finished simulation to
their cache, so they can be stopped and repeated; ``keep`` makes ``bench/results/simgrid_choice.json`` (or another
name) and ``docs/simgrid.png`` of them.

For every machine, order of ranks, collective and size: the algorithm that the time model puts first is replayed, and
so are the model's next ones (for the regret), the rivals (``textbook_bine``, …), and the MPI call as SimGrid's
selectors ompi, mpich, mvapich2 and impi run it. Platform, latencies, overheads, protocol (eager up to the machine's
limit) are the same for all (``simgrid_rules.cpp``); nobody pays for computation or copies. What a
selector computes is checked with data (``simgrid_check.cpp``) up to ``CHECKED`` bytes; who computes wrongly has failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from bench.studies.simgrid_replay import REPLAY, level, zone
from bench.studies.simgrid_report import report
from topocomm.algorithms import TABLE, make_schedule
from topocomm.algorithms.k_trees import UP_TO
from topocomm.algorithms.leveled import promising
from topocomm.model import Level, Machine, Network, Transfers, schedule_time, time_bound, transfers
from topocomm.model.export import simgrid_options, simgrid_platform, simgrid_trace
from topocomm.topology import Topology, dragonfly, fat_tree, reorder_ranks, torus

SELECTORS = ("ompi", "mpich", "mvapich2", "impi")
ORDERS = ("sorted", "cyclic", "random:1")
COLLECTIVES = ("allreduce", "allgather", "reduce_scatter", "alltoall", "bcast", "reduce")
SIZES = (1 << 10, 1 << 15, 1 << 20, 1 << 23, 1 << 26)
RIVALS = ("bine", "swing", "sparbit", "pat", "recexch")
SEGMENTS = (16, 64, 256)
RADICES = (2, 3, 4, 8)
OF_K_TREES = (10, 32)
FINE = 0.02
NEAR, MOST = 1.15, 2
"""For the regret at most ``MOST`` candidates beside the chosen one are replayed: the first of those that take at most
``NEAR`` times as long by the model."""
FREE = Level("rank", 1e15, 1e15, 0.0)
NIC = Level("rank", 12.5e9, 12.5e9, 0.0)
OVERHEAD = 0.5e-6
CHECKED = 1 << 17
"""Results of SimGrid's selectors are checked for vectors of at most this many bytes."""
WRONG = "wrong result"
RULES = 4
"""Number of the rules under which a row of the cache was simulated: rows of other rules are not read. 1: no overhead
for blocking sends, rendezvous only; 2: even shares of links, eager up to 8 KiB; 3: eager up to 8 KiB."""


@dataclass(frozen=True)
class Place:
    """A machine with its sorted placement, and SimGrid's zone for it (None: the model's routes, written out)."""

    machine: Machine
    topology: Topology
    zone: str | None


MACHINES = {
    "fat tree 4 x 8 x 8, 2:1 twice": Place(
        Machine("fat_tree", (level("pod", 16), level("switch", 4), level("node")), FREE, OVERHEAD),
        fat_tree(4, 8, 8),
        'topology="FAT_TREE" topo_parameters="3;8,8,4;1,4,4;1,1,1"',
    ),
    "dragonfly 8 x 8 x 4": Place(
        Machine("dragonfly", (Level("group", 25e9, 25e9, 0.25e-6), level("router"), level("node")), FREE, OVERHEAD),
        dragonfly(8, 8, 4),
        'topology="DRAGONFLY" topo_parameters="8,2;1,1;8,1;4"',
    ),
    "torus 8 x 8 x 4": Place(
        Machine("torus", (level("dim0"), level("dim1"), level("node")), NIC, OVERHEAD, (8, 8, 4)),
        torus((8, 8, 4)),
        None,
    ),
}


def candidates(collective: str, topology: Topology) -> list[str]:
    """List the candidates of our choice, apart from patterns: the table without the rivals, with their options."""
    names = []
    for name, algorithm in TABLE[collective].items():
        if is_rival(name) or (algorithm.power_of_two and topology.size & (topology.size - 1)):
            continue
        if algorithm.segments:
            names += [f"{name}:segments={s}" for s in (OF_K_TREES if name == "k_trees" else SEGMENTS)]
        elif not algorithm.levels:
            names += [name, *(f"{name}:radix={r}" for r in RADICES if algorithm.radix)]
    return names


def is_rival(name: str) -> bool:
    """Return True if an algorithm of the table is a published rival."""
    return name.removeprefix("textbook_") in RIVALS


def rivals(collective: str) -> list[str]:
    """The rivals' names for a collective."""
    return [name for name in TABLE[collective] if is_rival(name)]


class Study:
    """Simulations on one machine in one order of ranks."""

    def __init__(self, name: str, order: str, built: Path, limit: float) -> None:
        self.name, self.order, self.built, self.limit = name, order, built, limit
        place = MACHINES[name]
        self.sorted = place.topology
        self.topology = reorder_ranks(self.sorted, order)
        self.network = Network(place.machine, self.topology)
        self.options = [f"--cfg={option}" for option in simgrid_options(self.network)]
        self.options += [f"--cfg=smpi/os:0:{OVERHEAD!r}:0", "--cfg=network/loopback-bw:1e15"]
        self.options += ["--cfg=network/loopback-lat:0", "--cfg=contexts/stack-size:256", "--cfg=contexts/guard-size:0"]
        self.options += ["--cfg=smpi/display-timing:yes"]
        self.folder = Path(tempfile.mkdtemp())
        platform = zone(self.sorted, place.zone) if place.zone else simgrid_platform(self.network)
        (self.folder / "platform.xml").write_text(platform, encoding="utf-8")
        where = {tuple(row): i for i, row in enumerate(self.sorted.labels.tolist())}
        rows = [tuple(row) for row in self.topology.labels.tolist()]
        hosts = [f"n{where[row]}" if place.zone else f"r{r}" for r, row in enumerate(rows)]
        (self.folder / "hosts.txt").write_text("".join(f"{h}\n" for h in hosts), encoding="ascii")

    def close(self) -> None:
        shutil.rmtree(self.folder)

    @cache  # noqa: B019 (one study a process and order)
    def listed(self, collective: str, algorithm: str) -> Transfers:
        """List the messages of an algorithm, for the model."""
        return transfers(collective, algorithm, self.topology)

    def model(self, collective: str, nbytes: int) -> dict[str, float]:
        """Modelled seconds of all candidates, the fastest first."""
        names = candidates(collective, self.topology)
        names = [n for n in names if not n.startswith("k_trees") or nbytes <= UP_TO]
        if "leveled" in TABLE[collective]:
            price = partial(schedule_time, network=self.network, nbytes=nbytes)
            names += [f"leveled:{option}" for option in promising(collective, self.topology, price)]
        times = {n: schedule_time(self.listed(collective, n), self.network, nbytes) for n in names}
        close = [n for n in names if times[n] <= NEAR * min(times.values())]
        if len(close) > 1:  # again, event by event or nearly so
            times |= {n: schedule_time(self.listed(collective, n), self.network, nbytes, FINE) for n in close}
        return dict(sorted(times.items(), key=lambda pair: pair[1]))

    def smpirun(self, found: str, *command: str, rules: bool = True) -> tuple[float | None, str]:
        """The number that SimGrid prints where ``found`` says, or None and why there is none."""
        call = ["prlimit", f"--cpu={self.limit:.0f}", "smpirun", "-no-privatize", "-np", str(self.topology.size)]
        call += ["-wrapper", f"env LD_PRELOAD={self.built / 'rules.so'}"] if rules else []
        call += ["-platform", str(self.folder / "platform.xml"), "-hostfile", str(self.folder / "hosts.txt"), *command]
        done = subprocess.run([*call, *self.options], capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        number = re.search(rf"{found}: ([0-9.e+-]+)", text)
        if number is None or done.returncode:
            errors = re.findall(r"CRITICAL\] (.*)", text)
            return None, errors[0][:120] if errors else f"not ended after {self.limit:g} s of processor time"
        return float(number[1]), ""

    def replay(self, collective: str, algorithm: str, nbytes: int) -> tuple[float | None, str]:
        """Simulated seconds of one of our schedules."""
        schedule = make_schedule(collective, algorithm, self.topology)
        paths = []
        for rank in range(schedule.size):
            path = self.folder / f"rank{rank}.txt"
            path.write_text(simgrid_trace(schedule, rank, nbytes), encoding="ascii")
            paths.append(f"{path}\n")
        (self.folder / "traces.txt").write_text("".join(paths), encoding="utf-8")
        return self.smpirun("Simulated time", "-replay", str(self.folder / "traces.txt"), REPLAY)

    def selector(self, collective: str, selector: str, nbytes: int) -> tuple[float | None, str]:
        """Simulated seconds of SimGrid's own collective."""
        option = f"--cfg=smpi/coll-selector:{selector}"
        return self.smpirun("Collective time", str(self.built / "peer"), collective, str(nbytes), option)

    def check(self, collective: str, selector: str, nbytes: int) -> tuple[float | None, str]:
        """Count the elements that SimGrid's own collective gets wrong."""
        option, program = f"--cfg=smpi/coll-selector:{selector}", str(self.built / "check")
        return self.smpirun("Wrong elements", program, collective, str(nbytes), option, rules=False)


def build(folder: Path) -> Path:
    """Compile what SimGrid runs: the call that is timed, the check of its result, the rules for all."""
    here = Path(__file__).parent
    for name in ("peer", "check"):
        source = here / f"simgrid_{name}.cpp"
        subprocess.run(["smpicxx", "-std=gnu++17", "-O2", str(source), "-o", str(folder / name)], check=True)
    shared = ["g++", "-std=gnu++17", "-O2", "-shared", "-fPIC", str(here / "simgrid_rules.cpp")]
    subprocess.run([*shared, "-o", str(folder / "rules.so"), "-lsimgrid"], check=True)
    return folder


def read_cache(path: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return {key_of(row): row for row in rows if row.get("rules") == RULES}


def key_of(row: dict[str, Any]) -> tuple[str, ...]:
    return row["machine"], row["order"], row["collective"], str(row["bytes"]), row["who"]


class Cache:
    """Finished simulations: JSON rows by what they are of."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, read_cache(path)

    def once(self, base: dict[str, Any], who: str, simulate: Callable[[], tuple[float | None, str]]) -> float | None:
        """The simulated seconds of a row, simulated now if it is new; None if the simulation failed."""
        key = key_of({**base, "who": who})
        if key not in self.rows:
            seconds, why = simulate()
            self.add({**base, "who": who, "seconds": seconds, "why": why})
        found: float | None = self.rows[key]["seconds"]
        return found

    def add(self, row: dict[str, Any]) -> None:
        row["rules"] = RULES
        self.rows[key_of(row)] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def ours(study: Study, collective: str, nbytes: int, known: Cache) -> None:
    """Simulate our choice, the next candidates and the rivals."""
    base = {"machine": study.name, "order": study.order, "collective": collective, "bytes": nbytes}
    if key_of({**base, "who": "model"}) in known.rows and "done" in known.rows[key_of({**base, "who": "model"})]:
        return
    start = time.perf_counter()
    model = study.model(collective, nbytes)
    took = time.perf_counter() - start
    chosen, least = next(iter(model.items()))
    near = [n for n, t in model.items() if t <= NEAR * least][1 : 1 + MOST] if study.order == "sorted" else []
    times = {
        name: known.once(base, name, partial(study.replay, collective, name, nbytes))
        for name in [chosen, *near, *rivals(collective)]
    }
    bound = time_bound(collective, study.network, nbytes).seconds
    known.add({**base, "who": "model", "chosen": chosen, "seconds": least, "bound": bound, "took": took, "done": True})
    texts = [f"{n} {t * 1e6:.1f}" if t else f"{n} failed" for n, t in times.items()]
    print(f"{study.name[:9]} {study.order} {collective} {nbytes}: {', '.join(texts)}; model {least * 1e6:.1f}, "
          f"bound {bound * 1e6:.1f} us; choice {took:.1f} s", flush=True)  # fmt: skip


def peers(study: Study, collective: str, nbytes: int, known: Cache) -> None:
    """Simulate SimGrid's own."""
    base = {"machine": study.name, "order": study.order, "collective": collective, "bytes": nbytes}
    for selector in SELECTORS:
        right = nbytes > CHECKED or is_right(study, collective, selector, nbytes, known)
        time_it = partial(study.selector, collective, selector, nbytes)
        known.once(base, f"simgrid:{selector}", time_it if right else lambda: (None, WRONG))


def is_right(study: Study, collective: str, selector: str, nbytes: int, known: Cache) -> bool:
    """Check that SimGrid's own collective gives the right result, which no machine or order of ranks changes.

    Raises RuntimeError if SimGrid does not say.
    """
    base = {"machine": "any", "order": "any", "collective": collective, "bytes": nbytes}
    wrong = known.once(base, f"wrong:{selector}", partial(study.check, collective, selector, nbytes))
    if wrong is None:
        raise RuntimeError(f"{collective} of {nbytes} bytes by {selector}: no result to check")
    return wrong == 0


def run(args: argparse.Namespace) -> None:
    known, do = Cache(args.cache[0]), peers if args.what == "peers" else ours
    with tempfile.TemporaryDirectory() as name:
        built = build(Path(name))
        for machine, order in itertools.product(args.machines, args.orders):
            study = Study(machine, order, built, args.limit)
            try:
                for collective, nbytes in itertools.product(args.collectives, args.sizes):
                    do(study, collective, nbytes, known)
            finally:
                study.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["ours", "peers", "keep"])
    parser.add_argument("--cache", type=Path, nargs="+", required=True, help="keep: one or more; else the first")
    parser.add_argument("--machines", nargs="+", default=list(MACHINES))
    parser.add_argument("--orders", nargs="+", default=list(ORDERS))
    parser.add_argument("--collectives", nargs="+", default=list(COLLECTIVES))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--limit", type=float, default=30.0, help="seconds of processor time for one simulation")
    parser.add_argument("--name", default="simgrid_choice", help="keep: what the results are called")
    args = parser.parse_args()
    args.machines = [m for m in MACHINES if any(m.startswith(wanted) for wanted in args.machines)]
    if shutil.which("smpirun") is None or not Path(REPLAY).exists():
        print("SimGrid is missing: apt-get install libsimgrid-dev", file=sys.stderr)
        return 1
    if args.what != "keep":
        run(args)
    else:
        report([row for file in args.cache for row in read_cache(file).values()], is_rival, args.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
