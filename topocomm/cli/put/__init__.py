"""put_latency, put_bw, put_bibw and put_rate: notified puts between ranks 0 and 1, in OSU's form.

    mpiexec -n 2 python -m topocomm bench put_latency -m 8:64K --compare

With --compare the same is measured, in alternating rounds of the same run, with MPI's own means: send (Send and Recv),
flag (Put, flush, then a flag put and flushed, polled by the target), pscw, fence and, where the MPI library has it and
bench/ is at hand, put_notify (Intel MPI's MPIX_Put_notify). What the MPI library prints about its own windows is its
own: where Open MPI repeats "OSC UCX component priority set inside component query failed", it has found no network
that UCX could use, and OMPI_MCA_osc=^ucx in the environment keeps it from asking.
"""

from __future__ import annotations

from topocomm.cli.console import PROGRAM, Parser, refuse, whole_job
from topocomm.cli.put.options import Options, add_arguments, options_of
from topocomm.errors import Error

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs one benchmark; ``argv`` as on the command line, without the program's name. Returns the exit code."""
    parser = Parser(prog=f"{PROGRAM} bench", description=__doc__ or "")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return _report(options_of(args))
    except Error as error:
        return refuse(parser.prog, str(error))


def _report(options: Options) -> int:
    from topocomm.cli.put.report import report

    with whole_job():
        return report(options)
