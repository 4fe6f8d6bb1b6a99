"""Start Python programs under ``mpiexec`` from a test: output captured, time limited, stacks of a hung job in the
report.

    from launch import launch
    done = launch(4, ["-m", "topocomm", "bench", "allreduce"], timeout=60)
    assert done.returncode == 0, done.stderr

``mpiexec`` is the one beside ``sys.executable``, so the tests of a virtual environment use the MPI library of that
environment. A job that outlives its time limit is killed with everything it started, after every rank has printed its
Python stack (``PYTHONFAULTHANDLER`` and ``SIGABRT``, which works in a rank that hangs inside C too), and
`LaunchTimeoutError` shows all of it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

__all__ = ["LaunchTimeoutError", "environment", "launch", "mpiexec"]

_SETTINGS = {
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "MPIR_CVAR_POLLS_BEFORE_YIELD": "1",
    "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
}
"""Set for every job: dumps of a killed rank, one thread a rank, more ranks than cores (who waits yields, under MPICH
sleeps for a moment: to hand a core around between ranks that all wait costs as much as their work), Open MPI run by
root in a container.
"""


class LaunchTimeoutError(AssertionError):
    """A job outlived its time limit; the text holds the command, both streams and the stack of every rank.

    `stdout` and `stderr` hold the streams by themselves.
    """

    def __init__(self, command: Sequence[str], timeout: float, stdout: str, stderr: str) -> None:
        self.stdout, self.stderr = stdout, stderr
        super().__init__(
            f"killed after {timeout:g} s: {' '.join(command)}\n--- stdout\n{stdout}\n--- stderr and stacks\n{stderr}"
        )


def launch(
    n: int, argv: Sequence[str], timeout: float = 60, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python argv…`` on `n` ranks and return exit code, stdout and stderr as text; the caller judges the exit
    code.

    `timeout` is in seconds; `env` adds to (and overrides) the environment of the test and `_SETTINGS`. Raises
    `LaunchTimeoutError` when the job had to be killed, FileNotFoundError when there is no ``mpiexec``.
    """
    command = [str(mpiexec()), "-n", str(n), sys.executable, *argv]
    with subprocess.Popen(
        command, env=environment(env), text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as job:  # fmt: skip
        try:
            stdout, stderr = job.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            stdout, stderr = _kill_with_stacks(job)
            raise LaunchTimeoutError(command, timeout, stdout, stderr) from None
        except BaseException:
            _signal([job.pid, *_descendants(job.pid)], signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, job.returncode, stdout, stderr)


def mpiexec() -> Path:
    """The ``mpiexec`` beside the running Python. Raises FileNotFoundError."""
    path = Path(sys.executable).with_name("mpiexec")
    if not path.exists():
        raise FileNotFoundError(f"no mpiexec beside {sys.executable}: install an MPI library into this environment")
    return path


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with `_SETTINGS`, then `extra`; ``PYTHONPATH`` starts with the tested topocomm's
    place.
    """
    spec = importlib.util.find_spec("topocomm")
    assert spec is not None, "topocomm cannot be imported here"
    assert spec.submodule_search_locations, "topocomm is not a package"
    place = str(Path(spec.submodule_search_locations[0]).parent)
    path = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **_SETTINGS, "PYTHONPATH": path, **(extra or {})}


def _kill_with_stacks(job: subprocess.Popen[str]) -> tuple[str, str]:
    """Let every rank of a hung job print its stack, then kill all of it; both streams as far as they came.

    The launcher is stopped meanwhile: it would answer the first rank's death by killing the others before they have
    printed.
    """
    family = [job.pid, *_descendants(job.pid)]
    ranks = [pid for pid in family if _is_rank(pid)]
    launchers = [pid for pid in family if pid not in ranks]
    _signal(launchers, signal.SIGSTOP)
    _signal(ranks, signal.SIGABRT)
    time.sleep(1)
    _signal(launchers, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        job.wait(timeout=3)
    _signal([*family, *_descendants(job.pid)], signal.SIGKILL)
    try:
        return job.communicate(timeout=5)
    except subprocess.TimeoutExpired as late:  # something that left the family still holds the pipe
        return _text(late.stdout), _text(late.stderr)


def _text(stream: bytes | str | None) -> str:
    return stream.decode(errors="replace") if isinstance(stream, bytes) else stream or ""


def _descendants(pid: int) -> list[int]:
    """Every living process below `pid`, whatever session it moved to; Linux only, elsewhere none."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(stat.parent.name))
    found, frontier = [], [pid]
    while frontier:
        children = below.get(frontier.pop(), [])
        found += children
        frontier += children
    return found


def _is_rank(pid: int) -> bool:
    """Whether a process runs this Python; launchers are binaries or run with other arguments."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[0] == os.fsencode(sys.executable)
    return False


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
