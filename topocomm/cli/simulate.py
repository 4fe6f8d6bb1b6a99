"""``python -m topocomm simulate``: modelled times over sizes, placements, orders and algorithms. No MPI."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from topocomm.algorithms.table import TABLE, parse_name
from topocomm.choose.modelled import Chooser
from topocomm.cli.arguments import sizes_of
from topocomm.cli.console import log
from topocomm.cli.modelling import add_model_arguments, decision_of, machine_of, placement_of, write_json
from topocomm.cli.plot import check_picture, draw_sweep
from topocomm.errors import AlgorithmError
from topocomm.model.explain import candidates_of
from topocomm.model.sweep import SweepPoint, sweep
from topocomm.topology import Topology, reorder_ranks

__all__ = ["HELP", "add_arguments", "run"]

HELP = "modelled times over sizes, placements, orders of ranks and algorithms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add collective, sizes, placements, orders, algorithms and output."""
    add_model_arguments(parser, several=True)
    parser.add_argument("--bytes", metavar="N,N|MIN:MAX", type=sizes_of, default="1K:16M",
        help="sizes of the vector (default 1K:16M)")  # fmt: skip
    parser.add_argument("--algorithm", nargs="+", metavar="NAME", help="algorithms (default: all that can run)")


def run(args: argparse.Namespace) -> int:
    """Print a table for each placement and order; 0. Raises topocomm.Error for whatever does not fit."""
    if args.plot is not None:
        check_picture(args.plot)
    points: list[SweepPoint] = []
    for path in args.placement:
        places = placement_of(path, args.hosts)
        for order in args.order:
            points += _one(args, path, order, reorder_ranks(places, order))
    if args.json is not None:
        rows = [point.row() for point in points]
        document = {"collective": args.collective, "machine": args.machine, "rows": rows}
        write_json(document, args.json)
    if args.plot is not None:
        draw_sweep(args.collective, points, args.plot)
        log(f"wrote {args.plot}")
    return 0


def _names(args: argparse.Namespace, topology: Topology) -> list[str]:
    """Name the algorithms to sweep. Raises AlgorithmError for a name unknown."""
    able, left_out = candidates_of(args.collective, topology)
    if args.algorithm is None:
        return able
    for text in args.algorithm:
        name = parse_name(text)[0]
        if name not in TABLE[args.collective]:
            known = ", ".join(TABLE[args.collective])
            raise AlgorithmError(f"unknown {args.collective} algorithm {name!r}; known are {known}")
        if name in left_out:
            log(f"{args.collective} {name} left out: {left_out[name]}")
    return [text for text in args.algorithm if parse_name(text)[0] in able]


def _one(args: argparse.Namespace, path: str, order: str, topology: Topology) -> list[SweepPoint]:
    """Sweep one placement in one order, and print its table."""
    machine = machine_of(args.machine, topology)
    found = sweep(args.collective, args.bytes, _names(args, topology), topology, machine, args.root)
    chooser = Chooser(topology, machine)
    points = [point.at(path, order, decision_of(args.collective, point.nbytes, chooser).algorithm) for point in found]
    if args.json != "-":
        print("\n".join(_table(args, path, order, topology, points)), end="\n\n")
    return points


def _table(
    args: argparse.Namespace, path: str, order: str, topology: Topology, points: list[SweepPoint]
) -> Iterator[str]:
    """Write modelled time (us) of every algorithm, the bound, and the choice of the rule."""
    names = list(dict.fromkeys(name for point in points for name in point.seconds))
    yield f"# {args.collective}: modelled time (us)"
    yield f"# placement: {path}: {topology.describe()} (order {order})"
    yield f"# machine: {args.machine or 'assumed (no machine file)'}"
    widths = [max(16, len(name) + 2) for name in names]
    yield f"{'# Size':<12}{'Bound':>14}" + "".join(f"{n:>{w}}" for n, w in zip(names, widths, strict=True)) + "  Chosen"
    for point in points:
        cells = "".join(f"{point.seconds[n] * 1e6:>{w}.2f}" for n, w in zip(names, widths, strict=True))
        yield f"{point.nbytes:<12}{point.bound * 1e6:>14.2f}{cells}  {point.chosen}"
