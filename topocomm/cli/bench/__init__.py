"""``python -m topocomm bench``: OSU's benchmarks of collectives and messages, with columns that compare algorithms."""

from __future__ import annotations

import argparse

from topocomm.cli.bench.flags import BenchOptions, add_arguments, options_of
from topocomm.cli.console import launched_rank, version, whole_job

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure collectives and messages as the OSU Micro-Benchmarks do, algorithms side by side (under mpiexec)"


def run(args: argparse.Namespace) -> int:
    """Run one benchmark; 0, or 1 when a result was wrong or there are too few or too many ranks."""
    options = options_of(args)
    if args.version:
        if launched_rank() in (None, 0):
            print(f"# topocomm MPI {options.benchmark.title} v{version()}")
        return 0
    return _report(options)


def _report(options: BenchOptions) -> int:
    """Measure and print."""
    from topocomm.cli.bench.report import report

    with whole_job():
        return report(options)
