"""``python -m topocomm explain``: the cost of a collective under a placement, before anything runs. No MPI."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from topocomm.choose.modelled import Chooser
from topocomm.cli.arguments import byte_count
from topocomm.cli.console import log
from topocomm.cli.modelling import add_model_arguments, amount, decision_of, machine_of, placement_of, write_json
from topocomm.cli.plot import check_picture, draw_explanation
from topocomm.cli.traces import explain_trace
from topocomm.errors import Error
from topocomm.model.explain import Explanation
from topocomm.topology import reorder_ranks

__all__ = ["HELP", "add_arguments", "run", "table"]

HELP = "candidates, link loads, time and bounds of a collective under a placement"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add collective, bytes, placement and output."""
    add_model_arguments(parser, several=False)
    parser.add_argument("--bytes", metavar="N", type=byte_count,
        help="the vector (allgather: the result); K, M, G allowed")  # fmt: skip
    parser.add_argument("--trace", metavar="FILE", nargs="+",
        help="instead of one collective the calls of a run, recorded with TOPOCOMM_RECORD=FILE")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the table; 0. Raises topocomm.Error for whatever does not fit."""
    if args.trace is not None:
        if args.collective is not None or args.placement is not None:
            raise Error("a trace has its collectives and placements; give --trace and --machine only")
        return explain_trace(args)
    if None in (args.collective, args.bytes, args.placement):
        raise Error("explain needs COLLECTIVE, --bytes and --placement; or --trace FILE")
    if args.plot is not None:
        check_picture(args.plot)
    topology = reorder_ranks(placement_of(args.placement, args.hosts), args.order)
    chooser = Chooser(topology, machine_of(args.machine, topology))
    decision = replace(
        decision_of(args.collective, args.bytes, chooser, args.root), sources=(f"file {args.placement}",)
    )
    found, choice = decision.figures, decision.chosen
    if args.json != "-":
        print("\n".join(table(found, choice, args.order)))
    if args.json is not None:
        write_json(decision.document(), args.json)
    for name, reason in found.left_out.items():
        log(f"{args.collective} {name} left out: {reason}")
    if args.plot is not None:
        draw_explanation(found, choice, args.plot, args.root)
        log(f"wrote {args.plot}")
    return 0


def _over(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def table(found: Explanation, choice: dict[str, Any], order: str) -> Iterator[str]:
    """Write context, one line a candidate, and the choice."""
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
