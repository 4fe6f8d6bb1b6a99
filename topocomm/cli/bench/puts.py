"""``bench put_latency``, ``put_bw``, ``put_bibw`` and ``put_rate``: notified puts between two ranks, in OSU's form."""

from __future__ import annotations

import argparse

from topocomm.cli.bench.put_options import add_arguments, options_of
from topocomm.cli.console import whole_job

__all__ = ["HELP", "add_arguments", "run"]

HELP = """notified puts between ranks 0 and 1, in OSU's form

    mpiexec -n 2 python -m topocomm bench put_latency -m 8:64K --compare

With --compare the same is measured, in alternating rounds of the same run, with MPI's own means: send (Send and Recv),
flag (Put, flush, then a flag put and flushed, polled by the target), pscw and fence. What the MPI library prints about
its own windows is its own: where Open MPI repeats "OSC UCX component priority set inside component query failed", it
has found no network that UCX could use, and OMPI_MCA_osc=^ucx in the environment keeps it from asking.
"""


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0. Raises topocomm.Error alike on every rank for what cannot be measured or written."""
    options = options_of(args)
    from topocomm.cli.bench.put_report import report

    with whole_job():
        return report(options)
