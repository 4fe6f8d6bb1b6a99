"""``python -m topocomm report``: a page that shows a comparison, and a check that nothing is missing in it."""

from __future__ import annotations

import argparse
from pathlib import Path

from topocomm.cli.console import launched_rank, log
from topocomm.cli.report.document import Part, problems, read
from topocomm.cli.report.page import page
from topocomm.errors import Error

__all__ = ["HELP", "add_arguments", "run"]

HELP = "make a page (one HTML file) of results: who is faster, how near to the bound, and how it was measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the results, the page to write, and the check."""
    add = parser.add_argument
    add("results", metavar="RESULTS.json", type=Path, nargs="+",
        help="what bench --json or bench/compare.py wrote, or a page made of it")  # fmt: skip
    add("-o", "--output", metavar="FILE", type=Path, help="the page: .html")
    add("--check", action="store_true",
        help="fail if a figure lacks its peer, its bound (or why there is none) or its command")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the page, check the figures; 0, or 1 if the check found something. Raises topocomm.Error."""
    if args.output is None and not args.check:
        raise Error("nothing to do: give -o FILE.html, --check, or both")
    if args.output is not None and args.output.suffix != ".html":
        raise Error(f"{args.output}: the name must end in .html")
    parts = read(args.results)
    if not any(part.rows for part in parts):
        raise Error(f"{', '.join(map(str, args.results))}: holds no measured row")
    if launched_rank() not in (None, 0):
        return 0
    found = problems(parts) if args.check else []
    for problem in found:
        log(problem)
    if args.output is not None:
        _write(args.output, parts)
    if args.check:
        print(f"checked {sum(len(part.rows) for part in parts)} rows: {len(found)} problems")
    return 1 if found else 0


def _write(path: Path, parts: list[Part]) -> None:
    try:
        path.write_text(page(parts), encoding="utf-8")
    except OSError as error:
        raise Error(f"{path}: cannot be written: {error.strerror}") from None
    print(f"wrote {path}")
