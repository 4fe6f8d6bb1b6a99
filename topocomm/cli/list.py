"""``python -m topocomm list``: the algorithms of every collective, with rounds and bytes. No MPI.

``--coverage`` lists mpi4py's methods instead, which needs mpi4py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from topocomm.algorithms import TABLE, Algorithm
from topocomm.cli.console import log
from topocomm.collectives import COLLECTIVES, RELATIVES, find_collective
from topocomm.errors import AlgorithmError

__all__ = ["HELP", "add_arguments", "describe", "run"]

HELP = "list the algorithms: requirements, rounds, bytes, ways of reordering; or which of mpi4py's calls are ours"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the collective and the numbers of ranks."""
    parser.add_argument("collective", nargs="?", metavar="COLLECTIVE", help=f"one of {', '.join(COLLECTIVES)}")
    parser.add_argument("-p", dest="ranks", metavar="P,P", default="8,100,1024", help="ranks (default 8,100,1024)")
    parser.add_argument(
        "--coverage", action="store_true", help="each collective method of mpi4py: when topocomm makes it, or why not"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    """Print the table of algorithms, or that of methods.

    Raises AlgorithmError for an unknown collective or a bad number of ranks.
    """
    if args.coverage:
        return _list_methods(args.collective, args.json)
    chosen = list(COLLECTIVES) if args.collective is None else [find_collective(args.collective).name]
    ranks = _numbers(args.ranks)
    rows = [describe(a, ranks) for c in chosen for a in TABLE[c].values()]
    log("without a schedule, so not listed: native, the MPI library's own; shared, memory that ranks of one host share")
    print(json.dumps(rows, indent=1, ensure_ascii=False) if args.json else "\n".join(_table(rows, ranks)))
    return 0


def _list_methods(collective: str | None, as_json: bool) -> int:
    """Print who makes each collective method of mpi4py's communicators. Raises AlgorithmError for an unknown one."""
    from topocomm.comm.coverage import coverage

    if collective is not None and collective not in RELATIVES:
        find_collective(collective)
    rows = [row for row in coverage() if collective in (None, row.collective)]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    log("of intracommunicators; calls on intercommunicators and those that make communicators are the MPI library's")
    head = ("method", "form", "made by", "when, or why not")
    print("\n".join(_columns([head, *((row.method, row.form, row.by, row.when) for row in rows)])))
    return 0


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Align all columns but the last."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return ["  ".join((*map(str.ljust, row, widths), row[-1])) for row in rows]


def _numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(w.isdecimal() and int(w) > 0 for w in words):
        raise AlgorithmError(f"-p {text!r} is no list of numbers of ranks; write for instance -p 8,100,1024")
    return [int(w) for w in words]


def describe(algorithm: Algorithm, ranks: list[int]) -> dict[str, Any]:
    """Describe an algorithm: rounds, and the vectors one rank sends at most, on flat topologies of ``ranks``.

    None where it cannot run."""
    able = [p for p in ranks if algorithm.can_run(p)]
    return {
        "collective": algorithm.collective,
        "algorithm": algorithm.name,
        "kind": "baseline" if algorithm.baseline else "topology-aware",
        "requires": algorithm.requires,
        "rounds": {str(p): algorithm.rounds(p) if p in able else None for p in ranks},
        "vectors_sent": {str(p): round(float(algorithm.sent(p)), 4) if p in able else None for p in ranks},
        "reordering": list(algorithm.ways),
        "keeps_order": algorithm.in_order,
        "options": [
            *["radix=N"] * algorithm.radix,
            *["radix=N/M/…"] * algorithm.radices,
            *["aggregate=N"] * algorithm.aggregate,
        ],
        "summary": algorithm.summary,
    }


def _options(row: dict[str, Any]) -> str:
    return ",".join([*(way for way in row["reordering"] if way != "none"), *row["options"]]) or "-"


def _table(rows: list[dict[str, Any]], ranks: list[int]) -> list[str]:
    at = "/".join(map(str, ranks))
    head = ("collective", "algorithm", "kind", "requires", f"rounds at {at}", "vectors sent", "order", "options")
    cells: list[tuple[str, ...]] = [(*head, "summary")]
    for row in rows:
        rounds = "/".join("-" if n is None else str(n) for n in row["rounds"].values())
        sent = "/".join("-" if x is None else f"{x:.2f}" for x in row["vectors_sent"].values())
        first = (row["collective"], row["algorithm"], row["kind"], row["requires"])
        order = "kept" if row["keeps_order"] else "-"
        cells.append((*first, rounds, sent, order, _options(row), row["summary"]))
    return _columns(cells)
