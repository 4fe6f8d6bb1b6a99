"""put_latency, put_bw, put_bibw and put_rate: notified puts between ranks 0 and 1, in OSU's form.

    mpiexec -n 2 python -m topocomm bench put_latency -m 8:65536 --compare

With ``--compare`` the same is measured, in alternating rounds of the same run, with MPI's own means: ``send`` (Send and
Recv), ``flag`` (Put, flush, then a flag put and flushed, polled by the target), ``pscw``, ``fence`` and, where the MPI
library has it and ``bench/`` is at hand, ``put_notify`` (Intel MPI's MPIX_Put_notify).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from topocomm import rma
from topocomm.cli.put.measure import BENCHMARKS, ROUNDS, UNITS, Setting, bind, measure_size
from topocomm.cli.put.put_notify import AbsentError, PutNotify, load
from topocomm.cli.put.ways import Active, Fence, Flag, Messages, Notified

__all__ = ["main"]


def _sizes(text: str) -> list[int]:
    low, _, high = text.partition(":")
    first, last = (int(low), int(high)) if high else (1, int(low))
    sizes = [1 << n for n in range(40) if first <= 1 << n <= last]
    return sizes or [first]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m topocomm bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("-m", "--message-size", default="1:1048576", metavar="MIN:MAX", help="sizes in bytes")
    parser.add_argument("-i", "--iterations", type=int, default=0, help="per round; chosen by size if 0")
    parser.add_argument("-W", "--window", type=int, default=16, help="puts under way at once, except for put_latency")
    parser.add_argument("--compare", action="store_true", help="columns for MPI's own means, in the same run")
    parser.add_argument("--transports", default="", help="as of topocomm.rma.Context, separated by commas")
    parser.add_argument("--bind", action="store_true", help="each rank to a core of its own, where there are two")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser


def _ways(world: Any, compare: bool) -> tuple[list[Any], dict[str, str]]:
    """The kinds of ways to measure, and why others are absent, by name."""
    kinds: list[Any] = [Notified]
    if not compare:
        return kinds, {}
    kinds += [Messages, Flag, Active, Fence]
    try:
        helper = load(world)
    except AbsentError as reason:
        return kinds, {PutNotify.name: str(reason)}
    return [*kinds, lambda *words: PutNotify(helper, *words)], {}


def _run(args: argparse.Namespace) -> int:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    if world.size != 2:
        print(f"{args.benchmark}: needs exactly 2 ranks, got {world.size}", file=sys.stderr)
        return 2
    if args.bind and not bind(world):
        print(f"{args.benchmark}: --bind needs a core for each of {world.size} ranks", file=sys.stderr)
        return 2
    transports = args.transports.split(",") if args.transports else None
    rows: list[dict[str, Any]] = []
    kinds, absent = _ways(world, args.compare)
    with rma.Context(world, transports=transports) as context:
        setting = Setting(args.benchmark, world, context, kinds, args.window, args.iterations)
        about = {"mpi": MPI.Get_library_version().splitlines()[0].strip("\0 "), "transport": context.transport(1)}
        speaks = world.rank == 0 and not args.json
        if speaks:
            print(f"# topocomm {args.benchmark}\n# MPI: {about['mpi']}\n# transport: {about['transport']}")
            for name, reason in absent.items():
                print(f"# {name}: absent, {reason}")
        for size in _sizes(args.message_size):
            values = measure_size(setting, size)
            names = [name for name in values if name != "time_per_notified"]
            if speaks and not rows:
                heads = [UNITS[args.benchmark], *names[1:]]
                print(f"{'# Size':<10}" + "".join(f"{head:>20}" for head in heads))
            if speaks:
                print(f"{size:<10}" + "".join(f"{values[n]:20.2f}" for n in names), flush=True)
            rows.append({"size": size, **values})
        if world.rank == 0 and args.json:
            report = {"benchmark": args.benchmark, "unit": UNITS[args.benchmark], **about, "absent": absent,
                      "rounds": ROUNDS, "rows": rows}  # fmt: skip
            print(json.dumps(report, indent=1))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs one benchmark; ``argv`` as on the command line, without the program's name."""
    return _run(_parser().parse_args(argv))
