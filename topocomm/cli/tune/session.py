"""A tuning session: the points still to be measured, one after the other, kept after each of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mpi4py import MPI

from topocomm.algorithms import make_schedule
from topocomm.algorithms.table import check_ranks, find
from topocomm.choose.measured import Entry, Tuning, class_of, dumps_tuning, read_tuning
from topocomm.choose.measured.entries import NATIVE
from topocomm.choose.measured.files import write_text
from topocomm.cli import provenance
from topocomm.cli.bench.osu import BENCHMARKS, Datatype, datatype_of
from topocomm.cli.bench.timing import VerificationError, able
from topocomm.cli.bench.workloads import WORKLOADS, Shape, Workload
from topocomm.cli.console import log
from topocomm.cli.progress import Progress
from topocomm.cli.tune.asked import TuneOptions
from topocomm.cli.tune.point import measure_point
from topocomm.cli.tune.words import table, words
from topocomm.collectives import COLLECTIVES
from topocomm.comm import Comm
from topocomm.engines import ENGINES
from topocomm.errors import AlgorithmError, Error
from topocomm.topology import Topology

__all__ = ["tune"]


@dataclass(frozen=True)
class TunePoint:
    """One call at one size: bytes of the whole vector, and the elements that a `Shape` counts."""

    collective: str
    nbytes: int
    count: int


@dataclass
class Session:
    """The session as all ranks know it; ``book``, the figures measured, is up to date on rank 0 only."""

    options: TuneOptions
    world: MPI.Intracomm
    topology: Topology
    library: str
    candidates: dict[TunePoint, list[str]]
    book: Tuning

    def entry(self, point: TunePoint, algorithms: dict[str, Any]) -> Entry:
        """Make an entry of this session."""
        return Entry(
            point.collective,
            point.nbytes,
            self.world.size,
            self.topology.signature,
            class_of(point.collective, not self.options.ordered),
            self.library,
            ENGINES[0],
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            algorithms,
            self.topology.describe(),
        )

    def known(self, point: TunePoint) -> Entry | None:
        """Return the book's entry of a point, if it has every candidate; else None."""
        key = self.entry(point, {}).key
        for entry in self.book.entries:
            if (entry.key, entry.nbytes) == (key, point.nbytes):
                return entry if {NATIVE, *self.candidates[point]} <= set(entry.algorithms) else None
        return None


def tune(options: TuneOptions) -> int:
    """Measure, keep and print. Collective over MPI.COMM_WORLD; 0, or 1 when a result was wrong.

    Raises Error, the same on every rank, before anything is measured, for what cannot be measured or kept. What was
    measured before (``TOPOCOMM_TUNING``) has no part in it: it may name the file that is to be made.
    """
    world = MPI.COMM_WORLD.Dup()
    asked = Comm(world, topology=options.topology, tuning=Tuning())
    topology = asked.machine_topology
    able = {name: _candidates(options, name, topology) for name in options.collectives}
    book = _by_rank_0(world, lambda: _open(options))
    points = list(_points(options, world.size))
    candidates = _by_rank_0(
        world, lambda: {p: list(dict.fromkeys(able[p.collective] + _suggested(options, p, asked))) for p in points}
    )
    session = Session(options, world, topology, provenance.mpi_library(), candidates, book)
    if not points:
        raise Error(f"no size of {options.sizes[0]} to {options.sizes[-1]} bytes gives each of {world.size} ranks "
                    "an element; give larger --sizes")  # fmt: skip
    done, failure = _all_points(session, points)
    if world.rank == 0:
        for line in table(session.book, done, topology.describe(), session.library):
            print(line, flush=True)
        if failure:
            print(f"DATA VALIDATION ERROR: {failure}", file=sys.stderr, flush=True)
    world.Barrier()
    return 1 if failure else 0


def _by_rank_0(world: MPI.Intracomm, work: Callable[[], Any]) -> Any:
    """Do work on rank 0 and broadcast its result; an Error that it raises is raised on every rank. Collective."""
    found: Any = None
    if world.rank == 0:
        try:
            found = work()
        except Error as error:
            found = error
    found = world.bcast(found)
    if isinstance(found, Error):
        raise found
    return found


def _open(options: TuneOptions) -> Tuning:
    """Open the book to go on with. Writes it back at once: an unwritable file is refused before measuring."""
    book = Tuning()
    if options.save is None:
        return book
    if options.save.exists():
        if not options.resume:
            raise Error(f"{options.save} exists; --resume goes on with it, or name another file")
        book = read_tuning(options.save)
    write_text(options.save, dumps_tuning(book))
    return book


def _candidates(options: TuneOptions, collective: str, topology: Topology) -> list[str]:
    """List the algorithms that can run here. Raises AlgorithmError for one that was named and cannot."""
    names = []
    for name in options.names(collective):
        try:
            check_ranks(find(collective, name)[0], topology.size)
            if options.ordered:
                make_schedule(collective, name, topology, ordered=True)
        except AlgorithmError:
            if name in options.algorithms:
                raise
            continue
        names.append(name)
    return names


def _suggested(options: TuneOptions, point: TunePoint, comm: Comm) -> list[str]:
    """Name the model's choice, with options, which names in the table lack; empty if algorithms were named."""
    if options.algorithms or options.ordered:
        return []
    name = comm.explain(point.collective, point.nbytes).algorithm
    return [] if name == NATIVE else [name]


def _datatype(collective: str) -> Datatype:
    return datatype_of(None, BENCHMARKS[collective])


def _points(options: TuneOptions, ranks: int) -> Iterator[TunePoint]:
    """Yield the grid in the order of measuring; a size is cut to whole elements, and blocks of equal size."""
    for collective in options.collectives:
        if collective == "barrier":
            yield TunePoint(collective, 0, 0)
            continue
        itemsize = _datatype(collective).itemsize
        blocks = ranks if BENCHMARKS[collective].blocks or collective.startswith("reduce_scatter") else 1
        for size in options.sizes:
            elements = size // itemsize // blocks
            if elements:
                nbytes = elements * blocks * itemsize
                yield TunePoint(collective, nbytes, elements if BENCHMARKS[collective].blocks else elements * blocks)


def _all_points(session: Session, points: list[TunePoint]) -> tuple[list[Entry], str | None]:
    """Measure the points not known; returns the entries of all points (rank 0), and a validation error or None."""
    options, world = session.options, session.world
    known = world.bcast([session.known(point) for point in points] if world.rank == 0 else None)
    todo = sum(entry is None for entry in known)
    progress, measured = Progress(shows=world.rank == 0, seconds=0), 0
    if todo < len(points):
        progress.say(f"{len(points) - todo} of {len(points)} points are in {options.save} and are skipped")
    comms: dict[tuple[str, str], MPI.Intracomm] = {}
    done: list[Entry] = []
    began = time.monotonic()
    for point, entry in zip(points, known, strict=True):
        if entry is None:
            late = options.seconds is not None and time.monotonic() - began > options.seconds
            if world.bcast(late):
                left = todo - measured
                more = ", --resume goes on" if options.save else ""
                progress.say(f"stopped after {options.seconds:g} s with {left} of {todo} points left{more}")
                break
            for name in session.candidates[point]:
                if (point.collective, name) not in comms:
                    comms[point.collective, name] = _communicator(session, point.collective, name)
            measured_by = {name: comms[point.collective, name] for name in session.candidates[point]}
            try:
                entry = _measured(session, point, {NATIVE: world, **measured_by})  # noqa: PLW2901
            except VerificationError as error:
                return done, f"{point.collective} of {point.nbytes} bytes: {error}"
            _keep(session, entry)
            measured += 1
            progress(measured / todo, f"{measured}/{todo} {words(entry)}")
        done.append(entry)
    progress.end()
    return done, None


def _communicator(session: Session, collective: str, name: str) -> MPI.Intracomm:
    """Make the communicator of a candidate that is not native."""
    return Comm(session.world, algorithm={collective: name}, topology=session.topology, tuning=Tuning())


def _measured(session: Session, point: TunePoint, comms: dict[str, MPI.Intracomm]) -> Entry:
    """Measure one point. Raises VerificationError, on every rank."""
    world, options = session.world, session.options
    shape = Shape(world.rank, world.size, _datatype(point.collective), point.count)
    workload = WORKLOADS[point.collective](shape)
    operation = _in_order(workload) if options.ordered else None
    calls = {}
    for name, comm in comms.items():
        call = getattr(comm, COLLECTIVES[point.collective].method)
        reason = able(world, call, workload)
        if reason is None:
            calls[name] = call
        elif world.rank == 0:
            log(f"{name}: {reason}")
    timings = measure_point(world, calls, workload, options.repetitions)
    if operation is not None:
        operation.Free()
    return session.entry(point, timings)


def _in_order(workload: Workload) -> MPI.Op:
    """Let a workload add by an operation that is not commutative for MPI; returns it, to be freed."""
    import numpy as np

    kind = workload.shape.datatype.dtype

    def add(a: Any, b: Any, _datatype: Any) -> None:
        np.add(np.frombuffer(a, kind), np.frombuffer(b, kind), out=np.frombuffer(b, kind))

    operation = MPI.Op.Create(add, commute=False)
    workload.arguments = [
        tuple(operation if isinstance(word, MPI.Op) else word for word in words) for words in workload.arguments
    ]
    return operation


def _keep(session: Session, entry: Entry) -> None:
    """Write the book with one more entry. Raises Error, on every rank, if it cannot be written any longer."""

    def write() -> None:
        session.book = session.book.with_entry(entry)
        if session.options.save is not None:
            write_text(session.options.save, dumps_tuning(session.book))

    _by_rank_0(session.world, write)
