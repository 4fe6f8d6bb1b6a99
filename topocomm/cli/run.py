"""``python -m topocomm run``: an unmodified mpi4py program whose ``MPI.COMM_WORLD`` is a `topocomm.Comm`."""

from __future__ import annotations

import argparse
import builtins
import functools
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from topocomm.cli.console import PROGRAM, refuse
from topocomm.errors import Error

__all__ = ["HELP", "RUNS_USER_CODE", "add_arguments", "run"]

HELP = "run an unmodified mpi4py program with topocomm's collectives (under mpiexec)"

RUNS_USER_CODE = True
"""Exceptions of the program keep their traceback."""

_NAME = f"{PROGRAM} run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Our options, then the program and all that belongs to it."""
    files = "[--topology FILE] [--machine FILE] [--tuning FILE]"
    parser.usage = f"{_NAME} [--algorithm A] {files} [--trace] (SCRIPT | -m MODULE | -c CODE | -) [ARG …]"
    add = parser.add_argument
    add("--algorithm", metavar="A", help="algorithm of every collective that has it, or COLLECTIVE=A,COLLECTIVE=A,…")
    add("--topology", metavar="FILE", help="placement file, or measured (default: what the machine shows)")
    add("--machine", metavar="FILE", help="machine file: how fast the links are (default: assumed)")
    add("--tuning", metavar="FILE", help="tuning file: what was measured (default: none)")
    add("--trace", action="store_true", help="log what ran and why, as TOPOCOMM_TRACE=1 does")
    add("-m", dest="module", metavar="MODULE", nargs=argparse.REMAINDER, help="run a module, as python -m does")
    add("-c", dest="code", metavar="CODE", nargs=argparse.REMAINDER, help="run a program given as text")
    add("script", metavar="SCRIPT", nargs=argparse.REMAINDER, help="run a file, as python does; - for standard input")


def run(args: argparse.Namespace) -> int:
    """Run the program; its exit code, exceptions and SystemExit pass through, and a rank that fails ends the job.

    Wrong arguments are refused with exit code 2 before MPI starts, what does not fit the job or its environment
    variables when the program has started MPI.
    """
    try:
        words, algorithm = _program(args), _algorithm(args.algorithm)
        _check_files(args)
    except ValueError as error:
        return refuse(_NAME, str(error))
    if args.trace:
        os.environ["TOPOCOMM_TRACE"] = "1"
    files = {"topology": args.topology, "machine": args.machine, "tuning": args.tuning}
    _WrapWorld(algorithm, files).install()
    return _run(words)


class _RefusedError(SystemExit):
    """The world cannot be wrapped, as every rank has found: the job ends by itself."""


def _run(words: Sequence[str]) -> int:
    """As ``python -m mpi4py``: an exception, or an exit code other than 0, aborts MPI when this process ends."""
    from mpi4py.run import set_abort_status

    try:
        _execute(list(words))
    except _RefusedError:
        raise
    except SystemExit as stop:
        set_abort_status(stop)
        raise
    except BaseException as error:
        set_abort_status(error if isinstance(error, KeyboardInterrupt) else 1)
        _show_from_program(error)
        raise
    return 0


def _execute(words: list[str]) -> None:
    """Run the program as Python does; a file's ``__file__`` is its absolute path."""
    if words[0] in ("-", "-c", "-m") or Path(words[0]).is_dir() or _is_archive(words[0]):
        from mpi4py.run import run_command_line

        run_command_line(words)
        return
    sys.argv[:] = words
    path = os.path.abspath(words[0])
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(words[0]).resolve().parent)
    main = ModuleType("__main__")
    vars(main).update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    exec(compile(Path(path).read_bytes(), path, "exec"), vars(main))


def _is_archive(path: str) -> bool:
    if path.endswith(".py"):
        return False
    from zipfile import is_zipfile

    return is_zipfile(path)


def _show_from_program(error: BaseException) -> None:
    """Have the traceback of ``error`` begin in the program, not in what started it."""
    from mpi4py import run as starter

    above = (__file__, starter.__file__, runpy.__file__, "<frozen runpy>")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in above:
        trace = trace.tb_next
    hook = sys.excepthook
    sys.excepthook = lambda kind, value, _: hook(kind, value.with_traceback(trace), trace)


def _program(args: argparse.Namespace) -> list[str]:
    """The program's command line as mpi4py.run takes it. Raises ValueError."""
    for flag, words in (("-m", args.module), ("-c", args.code)):
        if words is not None:
            if not words:
                raise ValueError(f"{flag} needs a value")
            return [flag, *words]
    words = args.script[1:] if args.script[:1] == ["--"] else args.script
    if not words:
        raise ValueError("no program: name a SCRIPT, -m MODULE or -c CODE")
    if words[0] != "-" and not Path(words[0]).exists():
        raise ValueError(f"there is no file {words[0]!r}")
    return list(words)


def _algorithm(text: str | None) -> str | dict[str, str] | None:
    """The value of --algorithm as `topocomm.Comm` takes it. Raises AlgorithmError, a ValueError."""
    if text is None:
        return None
    from topocomm.algorithms import TABLE, find

    name = text.partition(":")[0]
    if "=" in name:
        pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
        for collective, algorithm in pairs.items():
            if algorithm != "native":
                find(collective, algorithm)
        return pairs
    having = [collective for collective, entries in TABLE.items() if name in entries]
    if not having and text != "native":
        known = sorted({"native"}.union(*TABLE.values()))
        raise ValueError(f"no collective has an algorithm {text!r}; there are {', '.join(known)}")
    for collective in having:
        find(collective, text)
    return text


def _check_files(args: argparse.Namespace) -> None:
    """Read the files once before MPI starts. Raises TopologyError, a ValueError."""
    if args.topology:
        from topocomm.topology import read_site
        from topocomm.topology.live.measured import MEASURED

        if args.topology != MEASURED:
            read_site(args.topology)
    if args.machine:
        from topocomm.model import read_machine

        read_machine(args.machine)
    if args.tuning:
        from topocomm.choose.measured import read_tuning

        read_tuning(args.tuning)


class _WrapWorld:
    """Replaces ``MPI.COMM_WORLD`` as soon as the program imports ``mpi4py.MPI``, or initialises MPI itself later.

    Waiting for the import leaves the program its say in ``mpi4py.rc``, and does not start MPI for one that has no use
    for it.
    """

    def __init__(self, algorithm: str | dict[str, str] | None, files: dict[str, str | None]) -> None:
        self._algorithm, self._files = algorithm, files

    def install(self) -> None:
        """Start to wait. mpi4py.MPI must not be imported yet."""
        assert "mpi4py.MPI" not in sys.modules
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The import system's question; answered for mpi4py.MPI by the finders after this one."""
        if name != "mpi4py.MPI":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._imported(execute, module)  # type: ignore[method-assign]
        return spec

    def _imported(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        execute(module)
        if module.Is_initialized():
            self._wrap(module)
            return
        for name in ("Init", "Init_thread"):
            setattr(module, name, self._then_wrap(module, getattr(module, name)))

    def _then_wrap(self, module: ModuleType, initialise: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(initialise)
        def initialise_and_wrap(*args: Any, **options: Any) -> Any:
            answer = initialise(*args, **options)
            self._wrap(module)
            return answer

        return initialise_and_wrap

    def _wrap(self, module: ModuleType) -> None:
        from topocomm import Comm

        try:
            world = Comm(module.COMM_WORLD, algorithm=self._algorithm, **self._files)
        except Error as error:  # raised alike on every rank
            code = refuse(_NAME, str(error))
            module.Finalize()  # whoever was to do it: a launcher kills ranks that end without
            raise _RefusedError(code) from None
        module.COMM_WORLD = world  # type: ignore[attr-defined]
