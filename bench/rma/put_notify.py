"""``bench put_*`` with one column more: Intel MPI's MPIX_Put_notify, where the MPI library has it.

    mpiexec -n 2 python -m bench.rma.put_notify put_latency --compare

Arguments as of ``python -m topocomm bench put_latency``. The calls come from a C helper, put_notify.c, which is built
here. It is not linked against MPI: its calls go to the library that mpi4py has loaded, so that no second one comes into
the process.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from topocomm.cli.bench.put_options import add_arguments, options_of
from topocomm.cli.bench.put_report import report
from topocomm.cli.bench.put_rounds import Kind
from topocomm.cli.bench.put_ways import Way, source, wrong
from topocomm.cli.bench.puts import HELP
from topocomm.cli.console import Parser, refuse, whole_job
from topocomm.errors import Error

__all__ = ["AbsentError", "PutNotify", "further", "load"]

SOURCE = Path(__file__).with_name("put_notify.c")
NAME = "_rma_put_notify"
DECLARATIONS = """
int notify_open(int fortran_comm);
int notify_make(long long bytes, void **base, int *handle);
int notify_send(int handle, const void *data, int bytes, int count, int peer);
int notify_wait(int handle, long long wanted);
int notify_free(int handle);
"""


class AbsentError(Exception):
    """Why there is no MPIX_Put_notify to compare with."""


def _loaded_mpi() -> Path:
    """The MPI library of this process."""
    found = re.findall(r"/\S*/libmpi\.so\S*", Path("/proc/self/maps").read_text())
    if not found:
        raise AbsentError("no libmpi.so is loaded")
    return Path(found[0])


def _usable() -> tuple[Path, Path]:
    """The loaded library and the folder of its header."""
    library = _loaded_mpi()
    if not hasattr(ctypes.CDLL(str(library)), "MPIX_Put_notify"):
        raise AbsentError("this MPI library has no MPIX_Put_notify")
    headers = [folder / "include" for folder in library.parents]
    include = next((h for h in headers if (h / "mpi.h").exists()), None)
    if include is None or "MPIX_Put_notify" not in (include / "mpi.h").read_text(errors="replace"):
        raise AbsentError("mpi.h with MPIX_Put_notify was not found; pip install impi-devel")
    return library, include


def _build(include: Path, folder: str) -> str:
    """Compiles the helper into the folder and returns its path."""
    ffi = importlib.import_module("cffi").FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(NAME, SOURCE.read_text(), include_dirs=[str(include)], extra_compile_args=["-O2"])
    try:
        return str(ffi.compile(tmpdir=folder))
    except Exception as error:  # cffi passes on whatever the compiler's driver raises
        raise AbsentError(f"{SOURCE.name} could not be compiled: {error}") from error


def load(comm: Any) -> Any:
    """The helper, built by rank 0 and loaded by both. Collective; raises AbsentError, saying why, on every rank."""
    with tempfile.TemporaryDirectory(prefix="topocomm-") as folder:
        path, reason = "", ""
        try:
            library, include = _usable()
            if comm.rank == 0:
                path = _build(include, folder)
        except AbsentError as error:
            reason = str(error)
        reasons = [r for r in comm.allgather(reason) if r]
        if reasons:
            raise AbsentError(reasons[0])
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        spec = importlib.util.spec_from_file_location(NAME, comm.bcast(path))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules.setdefault(NAME, importlib.util.module_from_spec(spec))
        spec.loader.exec_module(module)
        comm.Barrier()  # the folder goes once both have the file open
    _check(module.lib.notify_open(comm.py2f()))
    return module


def _check(error: int) -> None:
    if error:
        from mpi4py import MPI

        raise MPI.Exception(error)


class PutNotify(Way):
    """MPIX_Put_notify and a flush for local completion; the target asks MPIX_Win_get_notify until it is there."""

    name = "put_notify"

    def __init__(self, helper: Any, comm: Any, context: Any, size: int, window: int, buffers: int) -> None:
        ffi, self.lib = helper.ffi, helper.lib
        self.peer, self.size, self.window, self.seen = 1 - comm.rank, size, window, 0
        base, handle = ffi.new("void **"), ffi.new("int *")
        _check(self.lib.notify_make(max(size * window, 1), base, handle))
        self.handle = int(handle[0])
        self.memory = np.frombuffer(ffi.buffer(base[0], max(size * window, 1)), np.uint8)
        self.data = source(size)
        self.pointer = ffi.cast("void *", self.data.ctypes.data)

    def send(self, stamp: int) -> None:
        self.data[:1] = stamp & 255
        error = self.lib.notify_send(self.handle, self.pointer, self.size, self.window, self.peer)
        if error:
            _check(error)

    def receive(self, stamp: int) -> None:
        self.seen += self.window
        error = self.lib.notify_wait(self.handle, self.seen)
        if error:
            _check(error)
        ahead = int(self.memory[0]) - stamp & 255 if self.size else 0
        if ahead > 1:  # nothing holds the peer back, so the next one may be there already
            wrong(self.name)

    def finish(self) -> None:
        _check(self.lib.notify_free(self.handle))


def further(world: Any) -> tuple[list[Kind], dict[str, str]]:
    """Make the way to compare with, or say why it is absent. Collective."""
    try:
        helper = load(world)
    except AbsentError as reason:
        return [], {PutNotify.name: str(reason)}
    return [partial(PutNotify, helper)], {}


def main() -> int:
    """Run one benchmark of puts; returns the exit code."""
    parser = Parser(prog="python -m bench.rma.put_notify", description=HELP)
    add_arguments(parser)
    try:
        options = options_of(parser.parse_args())
        with whole_job():
            return report(options, further)
    except Error as error:
        return refuse(parser.prog, str(error))


if __name__ == "__main__":
    sys.exit(main())
