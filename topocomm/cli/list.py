"""``python -m topocomm list``: the algorithms of every collective, with rounds and bytes. No MPI."""

from __future__ import annotations

import argparse
import json
from typing import Any

from topocomm.algorithms import TABLE, Algorithm
from topocomm.cli.console import log
from topocomm.collectives import COLLECTIVES, find_collective
from topocomm.errors import AlgorithmError

__all__ = ["HELP", "add_arguments", "describe", "run"]

HELP = "list the algorithms: requirements, rounds, bytes, ways of reordering"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the collective and the numbers of ranks."""
    parser.add_argument("collective", nargs="?", metavar="COLLECTIVE", help=f"one of {', '.join(COLLECTIVES)}")
    parser.add_argument("-p", dest="ranks", metavar="P,P", default="8,100,1024", help="ranks (default 8,100,1024)")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    """Print the table of algorithms. Raises AlgorithmError for an unknown collective or a bad number of ranks."""
    chosen = list(COLLECTIVES) if args.collective is None else [find_collective(args.collective).name]
    ranks = _numbers(args.ranks)
    rows = [describe(a, ranks) for c in chosen for a in TABLE[c].values()]
    log("without a schedule, so not listed: native, the MPI library's own; shared, memory that ranks of one host share")
    print(json.dumps(rows, indent=1, ensure_ascii=False) if args.json else "\n".join(_table(rows, ranks)))
    return 0


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
    cells = [head]
    for row in rows:
        rounds = "/".join("-" if n is None else str(n) for n in row["rounds"].values())
        sent = "/".join("-" if x is None else f"{x:.2f}" for x in row["vectors_sent"].values())
        first = (row["collective"], row["algorithm"], row["kind"], row["requires"])
        cells.append((*first, rounds, sent, "kept" if row["keeps_order"] else "-", _options(row)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    ends = ["summary", *(row["summary"] for row in rows)]
    return ["  ".join(map(str.ljust, row, widths)) + "  " + end for row, end in zip(cells, ends, strict=True)]
