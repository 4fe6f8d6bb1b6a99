"""The table of ``python -m topocomm explain --trace``: which calls of a recorded run matter, and what they cost."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from topocomm.choose.trace import Priced, price, read_trace
from topocomm.cli.modelling import write_json
from topocomm.model import read_machine

__all__ = ["explain_trace", "trace_rows"]


def explain_trace(args: argparse.Namespace) -> int:
    """Print a line a call, the dearest first; 0. Raises topocomm.Error for a file that is no trace."""
    calls = [call for path in args.trace for call in read_trace(path)]
    found = price(calls, read_machine(args.machine) if args.machine else None)
    if args.json != "-":
        print("\n".join(_table(found, args.machine)))
    if args.json is not None:
        write_json({"calls": trace_rows(found)}, args.json)
    return 0


def trace_rows(found: list[Priced]) -> list[dict[str, Any]]:
    """Return what JSON shows: microseconds of all calls of a kind together."""
    return [
        {
            "collective": priced.call.collective,
            "bytes": priced.call.nbytes,
            "ranks": priced.call.topology.size,
            "root": priced.call.root,
            "count": priced.call.count,
            "served": priced.call.served,
            "chosen": priced.chosen,
            "time_us": round(priced.seconds * 1e6, 3),
            "native_us": round(priced.native * 1e6, 3),
            "bound_us": round(priced.bound * 1e6, 3),
        }
        for priced in found
    ]


def _table(found: list[Priced], machine: str | None) -> Iterator[str]:
    total = sum(priced.seconds for priced in found)
    native = sum(priced.native for priced in found)
    yield f"# {sum(p.call.count for p in found)} calls, {len(found)} kinds; machine: {machine or 'assumed'}"
    yield f"# modelled: {total * 1e6:.1f} us as chosen, {native * 1e6:.1f} us by an MPI library at its best"
    width = max([len(p.chosen) for p in found] + [len(p.call.served) for p in found] + [8]) + 2
    head = f"{'# Collective':<22}{'Bytes':>12}{'Ranks':>7}{'Calls':>9}{'Time(us)':>14}{'Share':>7}"
    yield head + f"{'Native(us)':>14}{'Bound(us)':>14}  {'Served':<{width}}Chosen"
    for p in found:
        share = f"{100 * p.seconds / total:.0f} %" if total else "-"
        line = f"{p.call.collective:<22}{p.call.nbytes:>12}{p.call.topology.size:>7}{p.call.count:>9}"
        line += f"{p.seconds * 1e6:>14.2f}{share:>7}{p.native * 1e6:>14.2f}{p.bound * 1e6:>14.2f}"
        yield line + f"  {p.call.served:<{width}}{p.chosen}"
