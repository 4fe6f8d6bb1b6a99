"""From options to a printed report: set up, then size by size measure, print and record."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mpi4py import MPI

from topocomm.choose.rule import Decision
from topocomm.cli import provenance
from topocomm.cli.arguments import UsageError
from topocomm.cli.bench.columns import Line, Result, Table
from topocomm.cli.bench.contenders import AUTO, NATIVE, Contender, Selection, contenders, selection_of
from topocomm.cli.bench.data import MOST_CHARACTERS
from topocomm.cli.bench.flags import BenchOptions
from topocomm.cli.bench.osu import Datatype, sizes
from topocomm.cli.bench.overlap import measure_overlap, waited
from topocomm.cli.bench.pt2pt import measure_messages, pair_of
from topocomm.cli.bench.results import Record
from topocomm.cli.bench.timing import Repeats, VerificationError, able, measure, statistics
from topocomm.cli.bench.workloads import WORKLOADS, Shape, Workload
from topocomm.cli.console import log, version
from topocomm.cli.plot import draw_results
from topocomm.comm import Comm
from topocomm.engines import ENGINES
from topocomm.errors import AlgorithmError
from topocomm.model.network import Network
from topocomm.model.optimum import time_bound

__all__ = ["report"]

_ALWAYS = (50, 90, 99)


@dataclass
class Report:
    """One report in the making. `known` collects what each contender was seen to be unable to do, so it is logged
    once.
    """

    options: BenchOptions
    world: MPI.Intracomm
    """All ranks: barriers and statistics are over them."""
    group: MPI.Intracomm
    """The ranks of one call: all of them, or those of this rank's share of ``--split``."""
    contenders: Sequence[Contender]
    optional: frozenset[str]
    known: set[tuple[str, str]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(contender.name for contender in self.contenders)

    @property
    def percentiles(self) -> tuple[int, ...]:
        """The percentiles to compute: those asked for, and for the JSON the usual ones."""
        return tuple(dict.fromkeys((*self.options.percentiles, *_ALWAYS)))

    def table(self) -> Table:
        options = self.options
        return Table(options.benchmark, self.names, options.full, options.validation, options.percentiles)

    def say(self, text: str) -> None:
        """Print a line of the report, on rank 0."""
        if self.world.rank == 0:
            print(text, flush=True)

    def remark(self, name: str, reason: str) -> None:
        """Log once, from rank 0, why a contender is n/a."""
        if self.world.rank == 0 and (name, reason) not in self.known:
            log(f"{name}: n/a: {reason}")
        self.known.add((name, reason))


def report(options: BenchOptions) -> int:
    """Measure, print and write what `options` ask for. Collective over MPI.COMM_WORLD; returns the exit code.

    Raises UsageError, AlgorithmError or TopologyError, the same on every rank, before anything is measured.
    """
    world = MPI.COMM_WORLD.Dup()
    unfit = _unfit(options, world.size)
    if unfit:
        if world.rank == 0:
            print(unfit, file=sys.stderr, flush=True)
        world.Barrier()
        return 1
    selection = Selection((NATIVE,), frozenset())
    if not options.benchmark.point_to_point:
        selection = selection_of(options.benchmark.collective, options.algorithms)
    group = cast("MPI.Intracomm", world.Split(options.split.group(world.rank))) if options.split else world
    found = contenders(group, options.benchmark.collective, selection, options.engine, options.files)
    return _report(Report(_limited(options, world), world, group, found, selection.optional, set()))


def _unfit(options: BenchOptions, ranks: int) -> str | None:
    """Say why this number of ranks cannot run the benchmark, in OSU's words; None if it can. Raises UsageError."""
    if options.benchmark.point_to_point and ranks != 2:
        return "This test requires exactly two processes"
    if ranks < 2:
        return "This test requires at least two processes"
    if options.split:
        if not options.split.even(ranks):
            words = f"{options.split.kind} {options.split.n}"
            raise UsageError(f"--split {words!r}: {ranks} ranks do not make groups of equal size, two or more each")
        ranks = sum(options.split.group(rank) == 0 for rank in range(ranks))
    if options.root >= ranks:
        raise UsageError(f"-k fixed:{options.root}: there is no such rank among {ranks}")
    if options.benchmark.reduces and ranks > MOST_CHARACTERS and any(kind.itemsize == 1 for kind in options.datatypes):
        raise UsageError(f"-T mpi_char: a sum over {ranks} ranks overflows a character")
    return None


def _limited(options: BenchOptions, world: MPI.Intracomm) -> BenchOptions:
    """Limit the largest message to the memory limit. Raises UsageError if nothing is left."""
    most = options.memory // world.size if options.benchmark.blocks else options.memory
    if options.benchmark.point_to_point or options.most <= most:
        return options
    if most < options.least:
        raise UsageError(f"-M {options.memory} leaves {most} bytes a message, less than the smallest, {options.least}")
    if world.rank == 0:
        log(f"largest message limited to {most} bytes; -M allows more")
    return replace(options, most=most)


def _report(run: Report) -> int:
    benchmark, world = run.options.benchmark, run.world
    nodes = provenance.count_nodes(world)
    _try_smallest(run)
    context = _context(run, nodes)
    record = Record(benchmark, run.names, world.size, nodes, context, run.options.in_place)
    run.say(f"\n# topocomm MPI {benchmark.title} v{version()}")
    for key, value in context.items():
        run.say(f"# {key}: {value}")
    failure = None
    for datatype in run.options.datatypes:
        if benchmark.collective != "barrier":
            run.say(f"# Datatype: {datatype.name}.")
        run.say(run.table().header())
        failure = failure or _rows(run, datatype, record)
    problem = world.bcast(_keep(run.options, record, drawn=failure is None) if world.rank == 0 else None)
    if problem:
        raise UsageError(problem)
    if failure and world.rank == 0:
        print(f"DATA VALIDATION ERROR: {failure}", file=sys.stderr, flush=True)
    world.Barrier()
    return 1 if failure else 0


def _keep(options: BenchOptions, record: Record, drawn: bool) -> str | None:
    """Write the files that were asked for, pictures only of right results; returns why not, else None."""
    try:
        if options.json:
            record.write(options.json)
        for picture in options.pictures if drawn and record.rows else ():
            draw_results(record.document(), picture)
            log(f"wrote {picture}")
    except OSError as error:
        return f"{error.filename}: cannot be written: {error.strerror}"
    return None


def _try_smallest(run: Report) -> None:
    """Let an algorithm that was named but cannot run be refused before anything is printed. Raises AlgorithmError."""
    datatype = run.options.datatypes[0]
    smallest = next(_sizes(run.options, datatype, run.group.size), None)
    if smallest is not None and not run.options.benchmark.point_to_point:
        _able(run, _workload(run.options, run.group, datatype, smallest))


def _rows(run: Report, datatype: Datatype, record: Record) -> str | None:
    """Measure, print and record every size of one type; returns a validation error, else None."""
    options = run.options
    for size in _sizes(options, datatype, run.group.size):
        iterations, warmup = options.loops(size)
        failure, results = None, None
        try:
            results = _measured(run, datatype, size, Repeats(iterations, warmup, options.validation, options.settle))
        except VerificationError as error:
            failure = f"{options.benchmark.name} at size {size}: {error}"
        row = Line(size, iterations, failure is None, results or dict.fromkeys(run.names))
        choices = _choices(run, size)
        if run.world.rank == 0:
            if results or options.validation:
                print(run.table().line(row), flush=True)
            record.add(datatype.name, row, choices, _bound(run, size))
        if failure:
            return failure
    return None


def _sizes(options: BenchOptions, datatype: Datatype, ranks: int) -> Iterator[int]:
    """List the sizes to measure, in bytes; 0 for a benchmark without messages."""
    least = ranks if options.benchmark.collective == "reduce_scatter_block" else 1
    if options.benchmark.collective == "barrier":
        return iter([0])
    return sizes(options.least, options.most, datatype.itemsize * least)


def _measured(run: Report, datatype: Datatype, size: int, repeats: Repeats) -> dict[str, Result | None]:
    """Measure one size; returns results by contender, None where one cannot run. Raises VerificationError."""
    options, world = run.options, run.world
    if options.benchmark.point_to_point:
        pair = pair_of(world, datatype, size, options.window)
        return {NATIVE: measure_messages(options.benchmark.name, pair, repeats, run.percentiles)}
    workload = _workload(options, run.group, datatype, size)
    calls = _able(run, workload)
    if options.benchmark.nonblocking:
        started = measure_overlap(world, calls, workload, repeats)
        return {name: started.get(name) for name in run.names}
    seconds = measure(world, calls, workload, repeats)
    keep = options.per_iteration
    measured = {name: statistics(world, mine, run.percentiles, keep) for name, mine in zip(calls, seconds, strict=True)}
    return {name: measured.get(name) for name in run.names}


def _workload(options: BenchOptions, world: MPI.Intracomm, datatype: Datatype, size: int) -> Workload:
    roots = range(world.size) if options.rotate else (options.root,)
    count = size // datatype.itemsize
    shape = Shape(world.rank, world.size, datatype, count, roots, options.in_place, options.misaligned)
    return WORKLOADS[options.benchmark.collective](shape)


def _able(run: Report, workload: Workload) -> dict[str, Callable[..., Any]]:
    """Collect the calls of the contenders that can run this workload; the others are logged.

    Raises AlgorithmError where one of the others was named explicitly.
    """
    calls = {}
    for contender in run.contenders:
        reason = contender.why_not
        if contender.comm is not None:
            call = calls[contender.name] = contender.call(run.options.benchmark.method)
            reason = able(run.world, waited(call) if run.options.benchmark.nonblocking else call, workload) or ""
        if reason:
            if contender.name not in run.optional:
                raise AlgorithmError(reason)
            calls.pop(contender.name, None)
            run.remark(contender.name, reason)
    return calls


def _choices(run: Report, size: int) -> Mapping[str, Mapping[str, str]]:
    """Describe topocomm's decision for each of its contenders at a size."""
    found = {}
    for contender in run.contenders:
        if contender.ours:
            choice = _decision(run, contender, contender.ours, size)
            found[contender.name] = {
                "algorithm": choice.algorithm,
                "engine": choice.engine,
                "reordering": choice.reordering,
                "why": choice.why,
            }
    return found


def _bound(run: Report, size: int) -> float | str:
    """Return the microseconds below which no schedule goes at a size, or say why they are not known."""
    contender = next((contender for contender in run.contenders if contender.ours), None)
    ours = contender.ours if contender else None
    if contender is None or ours is None:
        return "topocomm was not measured, so nobody says where the ranks sit"
    if run.options.split:
        return "several communicators share the links"
    choice = _decision(run, contender, ours, size)
    if choice.chooser is None or choice.nbytes is None or not ours.machine_topology.has_distance:
        return "no rank is farther than another"
    machine, topology = choice.chooser.machine, ours.machine_topology
    if machine.source.startswith("assumed"):
        return "the links' speeds are assumed; --machine FILE says them"
    bound = time_bound(run.options.benchmark.collective, Network(machine, topology), choice.nbytes, run.options.root)
    return bound.seconds * 1e6


def _decision(run: Report, contender: Contender, comm: Comm, size: int) -> Decision:
    """Ask topocomm's decision at a size; it counts bytes of the whole vector, the column Size those of one block."""
    benchmark = run.options.benchmark
    found = comm.explain(benchmark.collective, size * run.group.size if benchmark.blocks else size)
    if benchmark.nonblocking and contender.name == AUTO:
        return replace(found, algorithm=NATIVE, engine=NATIVE, why="automatic: ours are taken by name")
    return found


def _context(run: Report, nodes: int) -> dict[str, str]:
    """Collect the lines above the table."""
    ranks = run.world.size
    context = {
        "MPI": provenance.mpi_library(),
        "Ranks": f"{ranks} on {nodes} node{'s' if nodes != 1 else ''}",
        "Threads": provenance.thread_level(),
        "Waiting": provenance.waiting(),
    }
    if run.options.split:
        context["Communicators"] = f"{ranks // run.group.size} of {run.group.size} ranks at once"
    if run.options.misaligned:
        context["Buffers"] = f"{run.options.misaligned} bytes after an address that 64 divides"
    for contender in run.contenders:
        if contender.ours:
            context["Engine"] = run.options.engine or os.environ.get("TOPOCOMM_ENGINE") or ENGINES[0]
            context["Placement"] = contender.ours.machine_topology.describe()
            context[f"Algorithm {contender.name}"] = _chosen(run, contender, contender.ours)
    return context


def _chosen(run: Report, contender: Contender, comm: Comm) -> str:
    """Describe algorithm, reordering and engine on a communicator, with the size from which each holds."""
    spans: list[tuple[int, str]] = []
    options = run.options
    for size in _sizes(options, options.datatypes[0], run.group.size):
        choice = _decision(run, contender, comm, size)
        text = f"{choice.algorithm} (reordering {choice.reordering}, engine {choice.engine})"
        text = NATIVE if choice.algorithm == NATIVE else text
        if not spans or spans[-1][1] != text:
            spans.append((size, text))
    return ", ".join(text if len(spans) == 1 else f"from {size} {text}" for size, text in spans)
