"""The arguments of ``bench``: OSU's flags and ours, checked as far as that needs no MPI."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topocomm.cli.arguments import UsageError, at_least, byte_count, size_range, writable
from topocomm.cli.bench.osu import BENCHMARKS, DATATYPES, MEMORY_FLOOR, MEMORY_LIMIT, Benchmark, Datatype, datatype_of
from topocomm.cli.bench.put_options import PUTS
from topocomm.cli.console import log
from topocomm.engines import ENGINES
from topocomm.schedule.reorder import WAYS

__all__ = ["BenchOptions", "Split", "add_arguments", "options_of"]

_MOST_PERCENTILES = 5
_NATIVE = "native"


@dataclass(frozen=True)
class Split:
    """How ranks are dealt out over communicators that measure at once: MOD n or DIV n, as nccl-tests say it."""

    kind: str
    n: int

    def group(self, rank: int) -> int:
        """Return the number of the communicator that a rank belongs to."""
        return rank % self.n if self.kind == "MOD" else rank // self.n

    def even(self, ranks: int) -> bool:
        """Return True if all communicators have as many ranks, two at least."""
        sizes = Counter(map(self.group, range(ranks)))
        return len(set(sizes.values())) == 1 and sizes[0] > 1


@dataclass(frozen=True)
class BenchOptions:
    """The checked arguments. `rotate` or `root`: where rooted collectives start; `iterations`, `warmup`: None for
    OSU's own.
    """

    benchmark: Benchmark
    algorithms: tuple[str, ...]
    engine: str | None
    """Engine that runs our columns, ``native`` for the MPI library's own calls; None: what `topocomm.Comm` takes."""
    files: dict[str, str | None]
    """Files that describe the machine, by the names of `topocomm.Comm`."""
    least: int
    most: int
    iterations: int | None
    warmup: int | None
    full: bool
    validation: bool
    settle: int
    percentiles: tuple[int, ...]
    memory: int
    datatypes: tuple[Datatype, ...]
    in_place: bool
    root: int
    rotate: bool
    window: int
    misaligned: int
    split: Split | None
    """Several communicators at once; None for one."""
    per_iteration: bool
    json: Path | None
    pictures: tuple[Path, ...]

    def loops(self, size: int) -> tuple[int, int]:
        """Return (iterations, warm-up iterations) at a message size in bytes."""
        iterations, warmup = self.benchmark.loops.at(size)
        return (
            iterations if self.iterations is None else self.iterations,
            warmup if self.warmup is None else self.warmup,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OSU's short and long options, with ours (long only) first."""
    add = parser.add_argument
    puts = f"{', '.join(PUTS)}, with options of their own (bench {next(iter(PUTS))} --help)"
    add("benchmark", choices=list(BENCHMARKS), metavar="BENCHMARK", help=f"{', '.join(BENCHMARKS)}; {puts}")
    add("--algorithm", metavar="A,B,…", type=_words, help="algorithms to compare, the first is the base column; also "
        "auto (topocomm's choice), native (the MPI library's own), all (default: auto,native)")  # fmt: skip
    add("--engine", choices=(*ENGINES, _NATIVE), help="what runs our columns; native: topocomm's methods, every call "
        "left to the MPI library (default: TOPOCOMM_ENGINE, or c)")  # fmt: skip
    add("--topology", metavar="FILE", help="placement file (default: what the machine shows)")
    add("--machine", metavar="FILE", help="machine file: how fast the links are (default: assumed)")
    add("--tuning", metavar="FILE", help="tuning file: what was measured (default: none)")
    add("--json", metavar="FILE", type=writable, help="write the results for machines as well")
    add("--split", metavar='"MOD N"', type=_split, help="several communicators at once, by rank modulo N; DIV N: N "
        "ranks in a row; statistics are over all")  # fmt: skip
    add("--misalign", metavar="BYTES", type=byte_count, default=0, help="start buffers so far after an aligned address")
    add("--per-iteration", action="store_true", help="percentiles, and every iteration's time of the slowest rank in "
        "the JSON")  # fmt: skip
    add("-v", "--version", action="store_true", help="print the version line of this benchmark and stop")
    add("-m", "--message-size", metavar="[MIN:]MAX", type=size_range, help="bytes (also 4K, 2M); MIN: sets only MIN")
    add("-i", "--iterations", metavar="N", type=at_least(1), help="timed iterations at every size")
    add("-x", "--warmup", metavar="N", type=at_least(0), help="iterations before them at every size")
    add("-f", "--full", action="store_true", help="minimum and maximum over ranks, and iterations")
    add("-c", "--validation", action="store_true", help="verify every call, not only two; show the column")
    add("-u", "--validation-warmup", metavar="N", type=at_least(0), help="calls before each that -c verifies (5)")
    add("-z", "--tail-lat", metavar="P,…", nargs="?", const=(50, 90, 99), type=_percentiles,
        help="percentiles over iterations (default 50,90,99)")  # fmt: skip
    add("-M", "--mem-limit", metavar="BYTES", type=byte_count, help=f"memory per process (default {MEMORY_LIMIT})")
    add("-T", "--type", metavar="TYPE", type=_datatypes, action="extend",
        help=f"all or {', '.join(DATATYPES)}; may be repeated")  # fmt: skip
    add("-l", "--in-place", action="store_true", help="pass MPI_IN_PLACE")
    add("-k", "--root-rank", metavar="ROOT", type=_root, help="rotate, or fixed:RANK (default fixed:0)")
    add("-G", "--graph", metavar="KIND,…", type=_pictures, help="draw topocomm_BENCHMARK.KIND here: png, pdf, svg")
    add("-W", "--window-size", metavar="N", type=at_least(1), help="messages in flight in bw and bibw (default 64)")


def options_of(args: argparse.Namespace) -> BenchOptions:
    """Check the parsed arguments. Raises UsageError for a flag the benchmark does not have, and an empty size range."""
    benchmark = BENCHMARKS[args.benchmark]
    _refuse_foreign_flags(benchmark, args)
    least, most = args.message_size or (None, None)
    least, most = least or 1, benchmark.max_size if most is None else most
    if least > most:
        raise UsageError(f"-m {least}:{most}: the smallest message is larger than the largest")
    root = args.root_rank or 0
    return BenchOptions(
        benchmark=benchmark,
        algorithms=tuple(args.algorithm or ((_NATIVE,) if benchmark.point_to_point else ("auto", _NATIVE))),
        engine=args.engine,
        files={"topology": args.topology, "machine": args.machine, "tuning": args.tuning},
        least=least,
        most=most,
        iterations=args.iterations,
        warmup=args.warmup,
        full=args.full,
        validation=args.validation,
        settle=5 if args.validation_warmup is None else args.validation_warmup,
        percentiles=tuple(args.tail_lat or ((50, 90, 99) if args.per_iteration else ())),
        memory=_memory(args.mem_limit),
        datatypes=tuple(datatype_of(word, benchmark) for word in args.type or [None]),
        in_place=args.in_place,
        root=0 if root == "rotate" else root,
        rotate=root == "rotate",
        window=args.window_size or 64,
        misaligned=args.misalign,
        split=args.split,
        per_iteration=args.per_iteration,
        json=args.json,
        pictures=tuple(Path(f"topocomm_{benchmark.name}.{kind}") for kind in args.graph or ()),
    )


_FLAGS = {
    "m": "message_size", "M": "mem_limit", "f": "full", "c": "validation", "u": "validation_warmup", "T": "type",
    "l": "in_place", "k": "root_rank", "W": "window_size",
}  # fmt: skip


def _refuse_foreign_flags(benchmark: Benchmark, args: argparse.Namespace) -> None:
    allowed = benchmark.flags + ("u" if "c" in benchmark.flags else "")
    for flag, name in _FLAGS.items():
        if getattr(args, name) not in (None, False) and flag not in allowed:
            raise UsageError(f"{benchmark.name} has no -{flag}; it has {' '.join(f'-{letter}' for letter in allowed)}")
    if benchmark.nonblocking and (args.per_iteration or args.tail_lat):
        raise UsageError(f"{benchmark.name} has no percentiles; leave out --per-iteration and -z")
    words = ("algorithm", "engine", "topology", "machine", "tuning", "split", "misalign", "per_iteration")
    foreign = [name.replace("_", "-") for name in words if getattr(args, name)]
    if benchmark.point_to_point and foreign:
        raise UsageError(f"{benchmark.name} sends messages, no algorithm does; leave out --{' and --'.join(foreign)}")
    ours = [name for name in args.algorithm or () if name not in ("auto", _NATIVE)]
    if args.engine == _NATIVE and ours:
        raise UsageError(f"--engine native runs no algorithm of ours; leave out --algorithm {','.join(ours)}")


def _memory(limit: int | None) -> int:
    if limit is not None and limit < MEMORY_FLOOR:
        log(f"-M {limit} is too low, {MEMORY_FLOOR} is used instead")
        return MEMORY_FLOOR
    return MEMORY_LIMIT if limit is None else limit


def _words(text: str) -> list[str]:
    """Split names at commas; options after a colon are separated by commas too and stay with their name."""
    words: list[str] = []
    for part in text.split(","):
        if words and ":" in words[-1] and ("=" in part or part in WAYS):
            words[-1] += f",{part}"
        else:
            words.append(part)
    if not all(words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names separated by commas")
    return words


def _percentiles(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdigit() and int(word) <= 100 for word in words) or len(words) > _MOST_PERCENTILES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of 1 to {_MOST_PERCENTILES} percentiles of 0 to 100")
    return tuple(map(int, words))


def _datatypes(text: str) -> list[str]:
    word = text.lower()
    if word == "all":
        return ["mpi_char", "mpi_int", "mpi_float"]
    if word not in DATATYPES:
        raise argparse.ArgumentTypeError(f"no data type {text!r}; there are all, {', '.join(DATATYPES)}")
    return [word]


def _pictures(text: str) -> list[str]:
    from topocomm.cli.plot import KINDS, require_matplotlib

    kinds = text.lower().split(",")
    if not all(kind in KINDS for kind in kinds):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(KINDS)}")
    require_matplotlib()
    return kinds


def _split(text: str) -> Split:
    kind, _, number = text.upper().partition(" ")
    if kind not in ("MOD", "DIV") or not number.isdigit() or not int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'MOD N' nor 'DIV N', N a whole number from 1 on")
    return Split(kind, int(number))


def _root(text: str) -> Any:
    if text == "rotate":
        return text
    kind, _, rank = text.partition(":")
    if kind != "fixed" or not rank.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither rotate nor fixed:RANK")
    return int(rank)
