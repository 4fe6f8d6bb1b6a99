"""``python -m topocomm verify``: prove schedules and programs, all numbers of ranks and random placements. No MPI.

On flat topologies and on a placement file every variant of an algorithm is proved: every way of its reordering, with
operands in the order of ranks, and every root (beyond 16 ranks: the first, a middle and the last one). On a random
placement one variant is drawn for each algorithm.

Of every schedule of up to ``--programs`` ranks the programs that run it are proved as well (topocomm/plan/prove.py);
up to 16 ranks in place, too, and in a random order of arrival besides, or in all orders where these are few.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from topocomm.algorithms import TABLE, Algorithm, find, make_schedule
from topocomm.algorithms.options import Options
from topocomm.cli.progress import Progress
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.errors import AlgorithmError, ProgramError, ScheduleError
from topocomm.plan.bind import bind
from topocomm.plan.prove import prove as prove_programs
from topocomm.schedule import Schedule
from topocomm.schedule.verify import verify
from topocomm.topology import Topology, random_places, read_site

__all__ = ["HELP", "Finding", "Task", "add_arguments", "plan_tasks", "prove", "prove_all", "run"]

HELP = "prove schedules and programs correct for ranges of ranks and random placements, without MPI"

_ALL_ROOTS = 16
_ORDERS = 16
"""Up to this many ranks, orders of arrival are run besides the proof, and programs in place are proved."""
_STATES = 100
"""All orders of arrival are run if they have at most this many states."""
_SHOWN = 20
_NEVER_IN_PLACE = ("scatter", "barrier")


@dataclass(frozen=True)
class Task:
    """One algorithm on one topology: ``size`` equal ranks, or random places of ``seed``, or ``placement``."""

    collective: str
    algorithm: str
    size: int
    seed: int | None = None
    placement: Topology | None = None
    programs: bool = False
    """Whether the programs are proved as well as the schedules."""

    def topology(self) -> Topology:
        """Make the topology to prove the schedules on."""
        if self.placement is not None:
            return self.placement
        return Topology.flat(self.size) if self.seed is None else random_places(self.size, self.seed)


@dataclass
class Finding:
    """The proofs of one algorithm, of one task or several."""

    collective: str
    algorithm: str
    schedules: int = 0
    random_places: int = 0
    ranks: tuple[int, int] = (0, 0)
    messages: int = 0
    blocks: int = 0
    programs: int = 0
    """Proofs of all ranks' programs of a schedule."""
    steps: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Finding) -> None:
        """Count ``other`` in."""
        if other.schedules:
            low = min(self.ranks[0] or other.ranks[0], other.ranks[0])
            self.ranks = (low, max(self.ranks[1], other.ranks[1]))
        self.schedules += other.schedules
        self.random_places += other.random_places
        self.messages += other.messages
        self.blocks += other.blocks
        self.programs += other.programs
        self.steps += other.steps
        self.faults += other.faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add algorithms, ranks and number of processes."""
    parser.add_argument("collective", nargs="*", metavar="COLLECTIVE", help=f"default all: {', '.join(COLLECTIVES)}")
    parser.add_argument("--algorithm", metavar="A,B", help="only these algorithms, options allowed (name:direct)")
    parser.add_argument("-p", dest="ranks", metavar="MIN:MAX", default="1:32", help="numbers of ranks (default 1:32)")
    parser.add_argument("--random", type=int, metavar="N", default=20, help="random placements (default 20)")
    parser.add_argument("--max-ranks", type=int, metavar="P", default=128, help="largest random placement (128)")
    parser.add_argument(
        "--programs", type=int, metavar="P", default=6, help="prove programs, too, of up to P ranks (default 6)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random placements (default 1)")
    parser.add_argument("--topology", metavar="FILE", help="prove on this placement (by rank) instead")
    parser.add_argument("-j", dest="jobs", type=int, metavar="JOBS", default=0, help="processes (default: all cores)")
    parser.add_argument("--json", metavar="FILE", help="write what was proved, too; - for stdout instead of the table")


def _range(text: str) -> range:
    low, colon, high = text.partition(":")
    if not low.isdecimal() or not (high.isdecimal() or not colon):
        raise AlgorithmError(f"-p {text!r} is no range of ranks; write -p 8 or -p 1:128")
    out = range(int(low), int(high or low) + 1)
    if len(out) == 0 or out[0] < 1:
        raise AlgorithmError(f"-p {text!r} holds no number of ranks from 1 up")
    return out


def _chosen(collectives: Sequence[str], names: str | None) -> list[tuple[str, str]]:
    """List pairs (collective, algorithm) to prove. Raises AlgorithmError for a name that no collective knows."""
    for collective in collectives:
        find_collective(collective)
    among = list(collectives) or list(COLLECTIVES)
    if names is None:
        return [(c, a) for c in among for a in TABLE[c]]
    out = []
    for name in names.split(","):
        found, error = [], None
        for collective in among:
            try:
                find(collective, name)
                found.append((collective, name))
            except AlgorithmError as e:
                error = error or e
        if error and not found:
            raise error
        out += found
    return out


def plan_tasks(
    chosen: Iterable[tuple[str, str]], ranks: range, samples: int, max_ranks: int, seed: int, placement: Topology | None
) -> list[Task]:
    """List all tasks, the largest first. Sizes of random placements are spread evenly by their logarithm."""
    rng = np.random.default_rng(seed)
    low, high = math.log(min(2, max_ranks)), math.log(max_ranks)
    sizes = [round(math.exp(x)) for x in rng.uniform(low, high, samples)]
    sizes[:1] = [max_ranks] * (samples > 0)
    tasks = []
    for collective, name in chosen:
        first = seed + 1000 * (collective == "reduce_scatter_block")  # the schedules of reduce_scatter: other places
        algorithm = find(collective, name)[0]
        if placement is not None:
            tasks.append(Task(collective, name, placement.size, None, placement))
            continue
        tasks += [Task(collective, name, p) for p in ranks]
        tasks += [Task(collective, name, _fit(algorithm, p), first + i) for i, p in enumerate(sizes)]
    return sorted((t for t in tasks if _can_run(t)), key=lambda t: -t.size)


def _fit(algorithm: Algorithm, p: int) -> int:
    return 1 << (p.bit_length() - 1) if algorithm.power_of_two else p


def _can_run(task: Task) -> bool:
    algorithm = find(task.collective, task.algorithm)[0]
    return algorithm.can_run(task.size)


def _roots(task: Task) -> list[int]:
    if not COLLECTIVES[task.collective].rooted:
        return [0]
    p = task.size
    return list(range(p)) if p <= _ALL_ROOTS else [0, p // 2 + 1, p - 1]


def _variants(task: Task, topology: Topology) -> Iterator[Schedule]:
    """Yield the schedules of a task: roots x ways and radices x order of operands."""
    algorithm, options = find(task.collective, task.algorithm)
    texts = [task.algorithm]
    if options == Options():
        reorders = make_schedule(task.collective, task.algorithm, topology).reordering != "none"
        texts += [f"{task.algorithm}:{way}" for way in algorithm.ways if reorders and way not in ("none", "local")]
        texts += [f"{task.algorithm}:radix={q}" for q in (3, 4) if algorithm.radix]
        texts += [f"{task.algorithm}:aggregate={n}" for n in (1, 4) if algorithm.aggregate]
    keeps_order = algorithm.in_order and (algorithm.name != "recursive_doubling" or topology.is_sorted)
    combos = [(t, r, o) for t in texts for r in _roots(task) for o in (False, True)[: 1 + keeps_order]]
    if task.seed is not None:
        draw = np.random.default_rng((task.seed, task.size, len(combos)))
        combos = [combos[int(draw.integers(len(combos)))]]
    for text, root, ordered in combos:
        yield make_schedule(task.collective, text, topology, root, ordered)


def prove(task: Task) -> Finding:
    """Prove every variant of one task; a fault ends it and is kept."""
    found = Finding(task.collective, task.algorithm, random_places=int(task.seed is not None))
    topology = task.topology()
    try:
        for schedule in _variants(task, topology):
            proof = verify(schedule)
            found.schedules += 1
            found.ranks = (topology.size, topology.size)
            found.messages += proof.messages
            found.blocks += proof.blocks
            if task.programs:
                _prove_programs(schedule, found)
    except (ScheduleError, ProgramError) as e:
        found.faults.append(f"{e} [{topology.describe()}{'' if task.seed is None else f', seed {task.seed}'}]")
    return found


def _prove_programs(schedule: Schedule, found: Finding) -> None:
    """Prove all ranks' programs, in place as well where MPI has that. Raises ProgramError for a fault."""
    few = schedule.size <= _ORDERS
    for in_place in (False, True)[: 1 + (few and schedule.collective not in _NEVER_IN_PLACE)]:
        programs = [bind(schedule, r, in_place and _has_place(schedule, r)) for r in range(schedule.size)]
        proof = prove_programs(programs, schedule, _STATES * few, int(few), schedule.size)
        found.programs += 1
        found.steps += proof.steps


def _has_place(schedule: Schedule, rank: int) -> bool:
    """Tell whether a rank's input may be where its output will be: of a reduce or gather only the root's."""
    return rank == schedule.root or not find_collective(schedule.collective).rooted


def prove_all(tasks: Sequence[Task], jobs: int) -> Iterator[Finding]:
    """Prove all tasks in ``jobs`` processes, in the order in which they end."""
    if jobs == 1 or len(tasks) < 2:
        yield from map(prove, tasks)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(prove, tasks)


def run(args: argparse.Namespace) -> int:
    """Prove the schedules asked for and print a table; returns 0, or 1 after printing faults."""
    jobs = args.jobs or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if args.random < 0 or args.max_ranks < 1 or jobs < 1 or args.seed < 0:
        raise AlgorithmError("--random and --seed must be 0 or more, --max-ranks and -j at least 1")
    placement = _placement(args.topology) if args.topology else None
    chosen = _chosen(args.collective, args.algorithm)
    tasks = plan_tasks(chosen, _range(args.ranks), args.random, args.max_ranks, args.seed, placement)
    tasks = [replace(task, programs=task.size <= args.programs) for task in tasks]
    if not tasks:
        raise AlgorithmError("nothing to prove: the algorithms named need a power of two of ranks")
    findings = {key: Finding(*key) for key in chosen}
    progress, started = Progress(seconds=20), time.monotonic()
    for done, finding in enumerate(prove_all(tasks, jobs), 1):
        findings[finding.collective, finding.algorithm].add(finding)
        progress(done / len(tasks), f"{done}/{len(tasks)}; {finding.collective} {finding.algorithm}")
    progress.say(f"{len(tasks)}/{len(tasks)} proved, {time.monotonic() - started:.0f} s")
    return _report(list(findings.values()), time.monotonic() - started, args.json)


def _placement(path: str) -> Topology:
    placement = read_site(path)
    if placement.ranks is None:
        raise AlgorithmError(f"{path} places nodes, not ranks; verify needs the form with one row a rank")
    return Topology(placement.levels, placement.ranks)


def _report(findings: list[Finding], seconds: float, path: str | None) -> int:
    faults = [fault for f in findings for fault in f.faults]
    if path is not None:
        document = {"seconds": round(seconds, 1), "proved": [_row(f) for f in findings], "faults": faults}
        text = json.dumps(document, indent=1) + "\n"
        if path == "-":
            print(text, end="")
        else:
            Path(path).write_text(text, encoding="utf-8")
    if path != "-":
        print("\n".join(_table(findings)))
    for fault in faults[:_SHOWN]:
        print(f"wrong: {fault}", file=sys.stderr)
    if len(faults) > _SHOWN:
        print(f"wrong: and {len(faults) - _SHOWN} more", file=sys.stderr)
    return 1 if faults else 0


def _row(f: Finding) -> dict[str, object]:
    return {
        "collective": f.collective,
        "algorithm": f.algorithm,
        "schedules": f.schedules,
        "random_placements": f.random_places,
        "min_ranks": f.ranks[0],
        "max_ranks": f.ranks[1],
        "messages": f.messages,
        "blocks": f.blocks,
        "programs": f.programs,
        "steps": f.steps,
        "faults": len(f.faults),
    }


def _table(findings: list[Finding]) -> list[str]:
    counted = f"{'schedules':>10}{'ranks':>11}{'messages':>13}{'blocks':>15}{'programs':>10}"
    lines = [f"{'collective':21}{'algorithm':29}{counted}  proved"]
    for f in (*findings, _total(findings)):
        ranks = f"{f.ranks[0]}-{f.ranks[1]}" if f.ranks[0] != f.ranks[1] else f"{f.ranks[0]}"
        result = "WRONG" if f.faults else "yes" if f.schedules else "none ran"
        counts = f"{f.schedules:>10}{ranks:>11}{f.messages:>13}{f.blocks:>15}{f.programs:>10}"
        lines.append(f"{f.collective:21}{f.algorithm:29}{counts}  {result}")
    return lines


def _total(findings: list[Finding]) -> Finding:
    total = Finding("all", f"{len(findings)} algorithms")
    for f in findings:
        total.add(f)
    return total
