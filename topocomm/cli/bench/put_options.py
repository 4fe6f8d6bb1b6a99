"""The benchmarks of puts by name, and their arguments, checked as far as that needs neither MPI nor the C core."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from topocomm.cli.arguments import UsageError, at_least, size_range, writable

__all__ = ["PUTS", "UNITS", "PutOptions", "add_arguments", "options_of"]

PUTS = {
    "put_latency": "OSU-style one-way latency of a notified put",
    "put_bw": "bandwidth of a window of notified puts",
    "put_bibw": "the same in both directions at once",
    "put_rate": "notified puts per second, a window at a time",
}
UNITS = {"put_latency": "Avg Latency(us)", "put_bw": "Bandwidth (MB/s)", "put_bibw": "Bandwidth (MB/s)",
         "put_rate": "Messages/s"}  # fmt: skip
TRANSPORTS = ("shm", "ofi", "mpi")
LEAST, MOST, WINDOW, WIDEST = 1, 1 << 20, 16, 2048


@dataclass(frozen=True)
class PutOptions:
    """The checked arguments; ``iterations`` 0: chosen by size; ``transports`` None: as topocomm.rma.Context."""

    benchmark: str
    least: int
    most: int
    iterations: int
    window: int
    compare: bool
    transports: tuple[str, ...] | None
    bind: bool
    json: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OSU's options, then ours (long only)."""
    add = parser.add_argument
    names = "; ".join(f"{name}: {what}" for name, what in PUTS.items())
    add("benchmark", choices=list(PUTS), metavar="BENCHMARK", help=names)
    add("-m", "--message-size", metavar="[MIN:]MAX", type=size_range,
        help=f"bytes (also 4K, 2M); MIN: sets only MIN (default {LEAST}:{MOST})")  # fmt: skip
    add("-i", "--iterations", metavar="N", type=at_least(1),
        help="timed iterations of each round (default: 10 to 1000, chosen by size)")  # fmt: skip
    add("-W", "--window-size", "--window", metavar="N", type=at_least(1),
        help=f"puts under way at once, at most {WIDEST}; put_latency has one (default {WINDOW})")  # fmt: skip
    add("--compare", action="store_true", help="columns for MPI's own means, in the same run (default: none)")
    add("--transports", metavar="A,B,…", type=_transports,
        help=f"those allowed, of {', '.join(TRANSPORTS)} (default: all, or TOPOCOMM_RMA_TRANSPORTS)")  # fmt: skip
    add(
        "--bind", action="store_true", help="each rank to a core of its own, where there are two (default: as launched)"
    )
    add("--json", metavar="FILE", type=writable, help="write the results for machines as well")
    for name in ("algorithm", "topology", "machine", "tuning"):  # of the benchmarks of collectives
        add(f"--{name}", help=argparse.SUPPRESS)


def options_of(args: argparse.Namespace) -> PutOptions:
    """Check the parsed arguments. Raises UsageError for an option of other benchmarks, and an empty size range."""
    foreign = [name for name in ("algorithm", "topology", "machine", "tuning") if getattr(args, name) is not None]
    if foreign:
        raise UsageError(f"{args.benchmark} compares no algorithms; leave out --{' and --'.join(foreign)}")
    if args.benchmark == "put_latency" and args.window_size is not None:
        raise UsageError("put_latency has no -W: it puts one at a time")
    if (args.window_size or 0) > WIDEST:
        raise UsageError(f"-W {args.window_size}: at most {WIDEST} puts are under way at once")
    least, most = args.message_size or (None, None)
    least, most = least or LEAST, MOST if most is None else most
    if least > most:
        raise UsageError(f"-m {least}:{most}: the smallest message is larger than the largest")
    window = 1 if args.benchmark == "put_latency" else args.window_size or WINDOW
    return PutOptions(args.benchmark, least, most, args.iterations or 0, window, args.compare, args.transports,
                      args.bind, args.json)  # fmt: skip


def _transports(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    if not set(words) <= set(TRANSPORTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(TRANSPORTS)}")
    return words
