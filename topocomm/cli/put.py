"""put_latency, put_bw, put_bibw and put_rate: notified puts between ranks 0 and 1, in OSU's form.

    mpiexec -n 2 python -m topocomm bench put_latency -m 8:65536 --compare

With ``--compare`` the same is measured, in alternating rounds of the same run, with MPI's own means: ``send`` (Send and
Recv), ``flag`` (Put, flush, then a flag put and flushed, polled by the target), ``pscw`` and ``fence``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from time import perf_counter
from typing import Any

import numpy as np

from topocomm import rma

__all__ = ["add_parser", "main"]

BENCHMARKS = {
    "put_latency": "OSU-style one-way latency of a notified put",
    "put_bw": "bandwidth of a window of notified puts",
    "put_bibw": "the same in both directions at once",
    "put_rate": "notified puts per second, a window at a time",
}
UNITS = {"put_latency": "Avg Latency(us)", "put_bw": "Bandwidth (MB/s)", "put_bibw": "Bandwidth (MB/s)",
         "put_rate": "Messages/s"}  # fmt: skip
ROUNDS = 9


def _wrong(name: str) -> None:
    """Ends both ranks: a benchmark that moves wrong data has no result."""
    from mpi4py import MPI

    print(f"{name}: wrong data", file=sys.stderr, flush=True)
    MPI.COMM_WORLD.Abort(1)


class Notified:
    """Notified puts of one size from each of two ranks to the other, a window of them at a time."""

    name = "notified"

    def __init__(self, comm: Any, context: rma.Context, size: int, window: int) -> None:
        self.peer = 1 - comm.rank
        self.memory = context.allocate((2, window, size), np.uint8)
        self.signals = [context.signal() for _ in range(2)]
        rows = [[self.memory.array[k, w] for w in range(window)] for k in range(2)]
        blocks = [self.memory.block(row, self.signals[k], self.peer, k) for k in range(2) for row in rows[k]]
        targets = context.exchange({self.peer: blocks})[self.peer]
        self.data = np.zeros(size, np.uint8)
        self.last = [self.memory.array[k, -1] for k in range(2)]
        self.plans = [context.plan() for _ in range(2)]
        for k in range(2):
            for w in range(window):
                self.plans[k].put(self.data, targets[k * window + w])
        self.sent = self.received = 0
        self.read: rma.Signal | None = None
        self.at_once = context.transport(self.peer) == "shm"  # complete when start returns

    def send(self, stamp: int) -> None:
        plan = self.plans[self.sent % 2]
        self.sent += 1
        if not self.at_once:
            plan.wait()
        self.data[:1] = stamp & 255
        plan.start(self.read)
        self.read = None

    def receive(self, stamp: int) -> None:
        k = self.received % 2
        self.received += 1
        if self.read is not None:
            self.read.rearm()
        self.signals[k].wait()
        row = self.last[k]
        if row.size and row[0] != stamp & 255:
            _wrong(self.name)
        self.read = self.signals[k]  # re-armed by the next send

    def both(self, stamp: int) -> None:
        self.send(stamp)
        self.receive(stamp)

    def finish(self) -> None:
        for plan in self.plans:
            plan.wait()


class Messages:
    """MPI's Send and Recv, or Isend and Irecv for a window."""

    name = "send"

    def __init__(self, comm: Any, context: Any, size: int, window: int) -> None:
        self.comm, self.peer, self.window = comm, 1 - comm.rank, window
        self.data, self.into = np.zeros(size, np.uint8), np.zeros((window, size), np.uint8)
        self.first, self.last = self.into[0], self.into[-1]

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        if self.window == 1:
            self.comm.Send(self.data, self.peer)
            return
        for request in [self.comm.Isend(self.data, self.peer) for _ in range(self.window)]:
            request.Wait()

    def receive(self, stamp: int) -> None:
        if self.window == 1:
            self.comm.Recv(self.first, self.peer)
        else:
            for request in [self.comm.Irecv(row, self.peer) for row in self.into]:
                request.Wait()
        if self.last.size and self.last[0] != stamp & 255:
            _wrong(self.name)

    def both(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        requests = [self.comm.Irecv(row, self.peer) for row in self.into]
        requests += [self.comm.Isend(self.data, self.peer) for _ in range(self.window)]
        for request in requests:
            request.Wait()

    def finish(self) -> None:
        pass


class Flag:
    """MPI Put, flush, and a flag put after it, which the target polls."""

    name = "flag"

    def __init__(self, comm: Any, context: Any, size: int, window: int) -> None:
        from mpi4py import MPI

        self.peer, self.window, self.size = 1 - comm.rank, window, size
        self.win = MPI.Win.Allocate(size * window + 8, 1, comm=comm)
        self.memory = np.frombuffer(self.win.tomemory(), np.uint8)
        self.memory[:] = 0
        self.count, self.seen = np.zeros(1, np.int64), 0
        self.data = np.zeros(size, np.uint8)
        comm.Barrier()
        self.win.Lock_all()

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Flush(self.peer)
        self.count += 1
        self.win.Put(self.count.view(np.uint8), self.peer, self.window * self.size)
        self.win.Flush(self.peer)

    def receive(self, stamp: int) -> None:
        self.seen += 1
        place = slice(self.window * self.size, self.window * self.size + 8)
        while int.from_bytes(self.memory[place].tobytes(), sys.byteorder) < self.seen:
            self.win.Sync()
        ahead = int(self.memory[0]) - stamp & 255 if self.size else 0
        if ahead > 1:  # nothing holds the peer back, so the next one may be there already
            _wrong(self.name)

    def both(self, stamp: int) -> None:
        self.send(stamp)
        self.receive(stamp)

    def finish(self) -> None:
        self.win.Unlock_all()
        self.win.Free()


class Active:
    """MPI Put in an epoch of post, start, complete and wait."""

    name = "pscw"

    def __init__(self, comm: Any, context: Any, size: int, window: int) -> None:
        from mpi4py import MPI

        self.peer, self.window, self.size = 1 - comm.rank, window, size
        self.win = MPI.Win.Allocate(max(size * window, 1), 1, comm=comm)
        self.memory = np.frombuffer(self.win.tomemory(), np.uint8)
        self.group = comm.Get_group().Incl([self.peer])
        self.data = np.zeros(size, np.uint8)
        comm.Barrier()

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Start(self.group)
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Complete()

    def receive(self, stamp: int) -> None:
        self.win.Post(self.group)
        self.win.Wait()
        if self.size and self.memory[0] != stamp & 255:
            _wrong(self.name)

    def both(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Post(self.group)
        self.win.Start(self.group)
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Complete()
        self.win.Wait()

    def finish(self) -> None:
        self.group.Free()
        self.win.Free()


class Fence(Active):
    """MPI Put between fences, which both sides call."""

    name = "fence"

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        self.win.Fence()
        for w in range(self.window):
            self.win.Put(self.data, self.peer, w * self.size)
        self.win.Fence()

    def both(self, stamp: int) -> None:
        self.send(stamp)

    def receive(self, stamp: int) -> None:
        self.win.Fence()
        self.win.Fence()
        if self.size and self.memory[0] != stamp & 255:
            _wrong(self.name)


def _ping_pong(way: Any, rank: int, iterations: int) -> float:
    """Seconds one way."""
    start = perf_counter()
    for i in range(iterations):
        if rank == 0:
            way.send(i)
            way.receive(i)
        else:
            way.receive(i)
            way.send(i)
    return (perf_counter() - start) / iterations / 2


def _stream(way: Any, rank: int, iterations: int, both: bool, answer: Any) -> float:
    """Seconds for a window; one way, it is answered by a message of its own kind of one byte."""
    start = perf_counter()
    for i in range(iterations):
        if both:
            way.both(i)
        elif rank == 0:
            way.send(i)
            answer.receive(i)
        else:
            way.receive(i)
            answer.send(i)
    return (perf_counter() - start) / iterations


def _value(name: str, seconds: float, size: int, window: int) -> float:
    if name == "put_latency":
        return 1e6 * seconds
    if name == "put_rate":
        return window / seconds
    return size * window * (2 if name == "put_bibw" else 1) / seconds / 1e6


def _row(name: str, comm: Any, context: rma.Context, size: int, args: argparse.Namespace) -> dict[str, Any]:
    """Medians over rounds in which the ways take turns, and of each round's time divided by that of notified puts."""
    window = 1 if name == "put_latency" else args.window
    kinds = [Notified, *([Messages, Flag, Active, Fence] if args.compare else [])]
    ways: list[Any] = [kind(comm, context, size, window) for kind in kinds]
    answers: list[Any] = [kind(comm, context, 1, 1) for kind in kinds]
    iterations = args.iterations or (1000 if size <= 8192 else max(10, (8 << 20) // (size * window)))
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(ROUNDS + 1):
        for way, answer, mine in zip(ways, answers, times, strict=True):
            comm.Barrier()
            if name == "put_latency":
                seconds = _ping_pong(way, comm.rank, iterations)
            else:
                seconds = _stream(way, comm.rank, iterations, name == "put_bibw", answer)
            if turn:
                mine.append(seconds)
    comm.Barrier()
    for way in (*ways, *answers):
        way.finish()
    values: dict[str, Any] = {}
    for way, mine in zip(ways, times, strict=True):
        values[way.name] = _value(name, statistics.median(mine), size, window)
    shares = {w.name: [t / n for t, n in zip(mine, times[0], strict=True)] for w, mine in zip(ways, times, strict=True)}
    values["time_per_notified"] = {way: round(statistics.median(s), 3) for way, s in list(shares.items())[1:]}
    return values


def _sizes(text: str) -> list[int]:
    low, _, high = text.partition(":")
    first, last = (int(low), int(high)) if high else (1, int(low))
    sizes = [1 << n for n in range(40) if first <= 1 << n <= last]
    return sizes or [first]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("-m", "--message-size", default="1:1048576", metavar="MIN:MAX", help="sizes in bytes")
    parser.add_argument("-i", "--iterations", type=int, default=0, help="per round; chosen by size if 0")
    parser.add_argument("-W", "--window", type=int, default=16, help="puts under way at once, except for put_latency")
    parser.add_argument("--compare", action="store_true", help="columns for MPI's own means, in the same run")
    parser.add_argument("--transports", default="", help="as of topocomm.rma.Context, separated by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def add_parser(subparsers: Any) -> None:
    """Adds the command ``put`` to a parser's subparsers."""
    parser = subparsers.add_parser("put", help="benchmarks of notified puts")
    _arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    if world.size != 2:
        print(f"{args.benchmark}: needs exactly 2 ranks, got {world.size}", file=sys.stderr)
        return 2
    transports = args.transports.split(",") if args.transports else None
    rows: list[dict[str, Any]] = []
    with rma.Context(world, transports=transports) as context:
        names: list[str] = []
        library = MPI.Get_library_version().splitlines()[0]
        if world.rank == 0 and not args.json:
            print(f"# topocomm {args.benchmark}\n# MPI: {library}\n# transport: {context.transport(1)}")
        for size in _sizes(args.message_size):
            values = _row(args.benchmark, world, context, size, args)
            rows.append({"size": size, **values})
            if world.rank == 0 and not args.json:
                if not names:
                    names = list(values)[:-1]
                    heads = [UNITS[args.benchmark], *(n for n in names[1:])]
                    print(f"{'# Size':<10}" + "".join(f"{head:>20}" for head in heads))
                print(f"{size:<10}" + "".join(f"{values[n]:20.2f}" for n in names), flush=True)
        if world.rank == 0 and args.json:
            report = {"benchmark": args.benchmark, "unit": UNITS[args.benchmark], "mpi": library,
                      "transport": context.transport(1), "rounds": ROUNDS, "rows": rows}  # fmt: skip
            print(json.dumps(report, indent=1))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs one benchmark; ``argv`` as on the command line, without the program's name."""
    parser = argparse.ArgumentParser(prog="python -m topocomm bench", description=__doc__)
    _arguments(parser)
    return _run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
