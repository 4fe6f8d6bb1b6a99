"""Parser, one-line errors, log lines and version: shared by all commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from topocomm.errors import Error

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["PROGRAM", "Parser", "launched_rank", "log", "refuse", "version"]

PROGRAM = "python -m topocomm"

_RANK_VARIABLES = ("PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PALS_RANKID")
_KILL_GRACE = 2.0


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2, printed once for all ranks of a job."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog, description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        if launched_rank() in (None, 0):
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        sys.exit(refuse(self.prog, f"{message} (--help lists the arguments)"))


def launched_rank() -> int | None:
    """Return this process's rank from the launcher's environment, without starting MPI; None without a launcher."""
    for name in _RANK_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return None


@contextlib.contextmanager
def whole_job() -> Iterator[None]:
    """End the whole job on an unexpected exception, as others would wait for this rank. All ranks raise an Error."""
    from mpi4py.run import set_abort_status

    try:
        yield
    except Error:
        raise
    except BaseException:
        set_abort_status(1)
        raise


def refuse(program: str, message: str) -> int:
    """Say on stderr, from one rank, why nothing is done; returns exit code 2.

    The other ranks wait a moment: Open MPI kills the job at the first failed rank, which must not be before rank 0
    has spoken.
    """
    if launched_rank() in (None, 0):
        print(f"{program}: error: {message}", file=sys.stderr, flush=True)
    else:
        time.sleep(_KILL_GRACE)
    return 2


def log(message: str) -> None:
    """Print a remark on stderr from this rank; tables own stdout."""
    print(f"topocomm: {message}", file=sys.stderr, flush=True)


def version() -> str:
    """Return topocomm's version."""
    import topocomm

    return str(topocomm.__version__)
