"""``python -m topocomm explain``: what a collective costs under a placement, before anything runs. No MPI."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from topocomm.choose.modelled import Chooser
from topocomm.choose.rule import Decision, decide
from topocomm.cli.console import log
from topocomm.cli.places import ORDERS, add_json, amount, machine_of, placement_of, size_of, write_json
from topocomm.cli.plot import KINDS, require_matplotlib
from topocomm.collectives import find_collective
from topocomm.errors import AlgorithmError, Error
from topocomm.model.explain import Explanation
from topocomm.topology import reorder_ranks

__all__ = ["HELP", "add_arguments", "check_picture", "decision_of", "run", "table"]

HELP = "candidates, link loads, time and bounds of a collective under a placement"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, how large and where."""
    parser.add_argument("collective", metavar="COLLECTIVE", help="allreduce, allgather, …")
    parser.add_argument(
        "--bytes", metavar="N", type=size_of, required=True, help="the vector (allgather: the result); K, M, G allowed"
    )
    parser.add_argument(
        "--placement",
        metavar="FILE",
        required=True,
        help="placement file: where the ranks sit; or a site's description",
    )
    parser.add_argument("--hosts", metavar="A,B:4", help="the job's hosts, for a by-node placement (default: all)")
    parser.add_argument("--machine", metavar="FILE", help="machine file: links and capacities (default: assumed)")
    parser.add_argument("--order", default="given", help=f"order of ranks: {ORDERS} (default given)")
    parser.add_argument("--root", metavar="R", type=int, default=0, help="root of bcast, reduce, gather, scatter")
    add_json(parser)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="picture: .png, .pdf or .svg")


def run(args: argparse.Namespace) -> int:
    """Print the table; 0. Raises topocomm.Error for whatever does not fit."""
    if args.plot is not None:
        check_picture(args.plot)
    topology = reorder_ranks(placement_of(args.placement, args.hosts), args.order)
    chooser = Chooser(topology, machine_of(args.machine, topology))
    decision = decision_of(args.collective, args.bytes, chooser, args.root)
    found, choice = decision.figures, decision.chosen
    if args.json != "-":
        print("\n".join(table(found, choice, args.order)))
    if args.json is not None:
        write_json(json.dumps(decision.document(), indent=1, ensure_ascii=False) + "\n", args.json)
    for name, reason in found.left_out.items():
        log(f"{args.collective} {name} left out: {reason}")
    if args.plot is not None:
        from topocomm.cli.explain_plot import draw

        draw(found, choice, args.plot, args.root)
        log(f"wrote {args.plot}")
    return 0


def check_picture(path: Path) -> None:
    """Raises topocomm.Error where a picture cannot be drawn."""
    require_matplotlib()
    if path.suffix[1:] not in KINDS:
        raise Error(f"{path}: the name must end in .{', .'.join(KINDS)}")
    if not path.parent.is_dir():
        raise Error(f"{path}: there is no directory {str(path.parent)!r}")


def decision_of(collective: str, nbytes: int, chooser: Chooser, root: int = 0) -> Decision:
    """What the library would run. Raises AlgorithmError for an unknown collective or size."""
    find_collective(collective)
    if nbytes < 0:
        raise AlgorithmError(f"needs bytes ≥ 0, found {nbytes}")
    return decide(collective, nbytes, chooser, root=root)


def _over(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def table(found: Explanation, choice: dict[str, Any], order: str) -> Iterator[str]:
    """Context, one line a candidate, and the choice."""
    levels = found.topology.levels
    yield f"# {found.collective}: {found.nbytes} bytes"
    yield f"# placement: {found.topology.describe()} (order {order})"
    yield f"# machine: {found.machine.kind}, {found.machine.source}"
    bandwidth = f"bytes of {found.bound.where}, {found.bound.bandwidth * 1e6:.2f} us"
    yield f"# bound: {found.bound.seconds * 1e6:.2f} us ({bandwidth}; messages, {found.bound.latency * 1e6:.2f} us)"
    for level, least in found.bound_between.items():
        yield f"# bound at level {level}: {amount(least)} between its places"
    width = max(len(c.algorithm) for c in found.candidates) + 2
    head = f"{'# Algorithm':<{width}}{'Rounds':>8}{'Time(us)':>14}{'/bound':>8}"
    head += "".join(f"{level[:11]:>13}{'/bound':>8}" for level in levels)
    yield head + f"{'Busiest link':>14}{'/bound':>8}  Link"
    for c in found.candidates:
        line = f"{c.algorithm:<{width}}{c.rounds:>8}{c.seconds * 1e6:>14.2f}{_over(c.time_over_bound):>8}"
        line += "".join(f"{amount(c.bytes_between[x]):>13}{_over(c.bytes_over_bound[x]):>8}" for x in levels)
        yield line + f"{amount(c.busiest_link_bytes):>14}{_over(c.busiest_over_bound):>8}  {c.busiest_link}"
    yield f"# chosen: {choice['algorithm']}: {choice['why']}"
    if "model" in choice:
        yield f"# fastest schedule: {choice['model']['algorithm']}: {choice['model']['why']}"
