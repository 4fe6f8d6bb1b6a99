"""``python -m topocomm tune``: measure which algorithm is best on this machine; merge and export what was measured."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from topocomm.algorithms.table import TABLE, find, parse_name
from topocomm.choose.measured.entries import NATIVE
from topocomm.cli.arguments import sizes_of
from topocomm.cli.console import whole_job
from topocomm.cli.tune.asked import TuneOptions
from topocomm.collectives import COLLECTIVES, REDUCING
from topocomm.errors import AlgorithmError, Error

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure which algorithm is best here (under mpiexec); merge and export what was measured"
LIBRARIES = ("openmpi", "openmpi-json", "mpich")
_SIZES = "1K:4M"


def _collectives(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in COLLECTIVES:
            raise argparse.ArgumentTypeError(f"unknown collective {name!r}; known are {', '.join(COLLECTIVES)}")
    return list(dict.fromkeys(names))


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return float(text)


def _repetitions(text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 to 999999")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add three groups: measuring, merging, exporting."""
    add = parser.add_argument_group("measuring, under mpiexec").add_argument
    add("--collectives", metavar="A,B,…", type=_collectives, help=f"default: {','.join(COLLECTIVES)}")
    add("--sizes", metavar="N,N|MIN:MAX", type=sizes_of, help=f"bytes of the whole vector (default {_SIZES})")
    add("--algorithms", metavar="A …", nargs="+", help="beside native (default: the topology-aware ones)")
    add("--all", action="store_true", help="the textbook forms, too: they are what --export can use")
    add("--ordered", action="store_true", help="reductions by an operation that is not commutative")
    add("--topology", metavar="FILE", help="placement file (default: what the machine shows)")
    add("--save", metavar="FILE", type=Path, help="keep the result, after every point")
    add("--resume", action="store_true", help="go on with the file of --save, skip what is in it")
    add("--seconds", metavar="S", type=_seconds, help="start no further point after S seconds")
    add("--repetitions", metavar="N", type=_repetitions, help="of every candidate that is not hopeless (default: 5 or "
        "more, about a second for all)")  # fmt: skip
    add = parser.add_argument_group("merging, without MPI").add_argument
    add("--merge", metavar="FILE", nargs="+", help="merge these files into the file of --save")
    add = parser.add_argument_group("exporting, without MPI").add_argument
    add("--export", metavar="LIBRARY", choices=LIBRARIES, help=f"write rules for it: {', '.join(LIBRARIES)}")
    add("--from", metavar="FILE", dest="source", help="the tuning to export")
    add("--output", metavar="FILE", help="where to write the rules")
    add("--base", metavar="LIBMPI", help="mpich: the library (libmpi.so.12) whose own rules hold for all else")
    add("--signature", metavar="S", help="the topology to export, if there are several with as many ranks")
    add("--mpi-library", metavar="NAME", help="the version to export, if there are several: 'MPICH 5.0.2'")
    add("--commutative", action="store_true", help="openmpi: all operations of the program are commutative")


_MEASURING = ("collectives", "sizes", "algorithms", "all", "ordered", "topology", "resume", "seconds", "repetitions")
_EXPORTING = ("source", "output", "base", "signature", "mpi_library", "commutative")


def run(args: argparse.Namespace) -> int:
    """Measure, merge or export; 0, or 1 when a result was wrong. Raises topocomm.Error for wrong arguments."""
    if args.export:
        from topocomm.cli.tune.rules import export

        _refuse("--export", args, [*_MEASURING, "merge", "save"])
        return export(args)
    if args.merge:
        from topocomm.cli.tune.rules import merge_files

        _refuse("--merge", args, [*_MEASURING, *_EXPORTING])
        return merge_files(args.merge, args.save)
    _refuse("measuring (no --export)", args, _EXPORTING)
    return _measure(_options(args))


def _refuse(what: str, args: argparse.Namespace, others: Sequence[str]) -> None:
    for name in others:
        if getattr(args, name) not in (None, False):
            flag = {"source": "from"}.get(name, name.replace("_", "-"))
            raise Error(f"{what} takes no --{flag}; --help shows what goes together")


def _options(args: argparse.Namespace) -> TuneOptions:
    collectives = args.collectives or (REDUCING if args.ordered else tuple(COLLECTIVES))
    if args.ordered:
        for name in collectives:
            if name not in REDUCING:
                raise Error(f"--ordered is for {', '.join(REDUCING)}; {name} combines nothing")
    if args.resume and args.save is None:
        raise Error("--resume goes on with the file of --save; say which")
    if args.all and args.algorithms:
        raise Error("--all and --algorithms both say what to measure; give one of them")
    names = tuple(name for name in args.algorithms or () if name != NATIVE)
    if args.algorithms and not names:
        raise Error("--algorithms names native alone, which is always measured; add what to compare it with")
    for name in names:
        _check(name, collectives)
    return TuneOptions(
        tuple(collectives),
        tuple(args.sizes or sizes_of(_SIZES)),
        names,
        args.all,
        args.ordered,
        args.topology,
        args.save,
        args.resume,
        args.seconds,
        args.repetitions,
    )


def _check(name: str, collectives: Sequence[str]) -> None:
    """Raise AlgorithmError if no collective knows a name, or one that knows it has not its options."""
    known = [collective for collective in collectives if parse_name(name)[0] in TABLE[collective]]
    if not known:
        raise AlgorithmError(f"no algorithm {name!r} for {', '.join(collectives)}; 'list' shows those of every one")
    for collective in known:
        find(collective, name)


def _measure(options: TuneOptions) -> int:
    from topocomm.cli.tune.session import tune

    with whole_job():
        return tune(options)
