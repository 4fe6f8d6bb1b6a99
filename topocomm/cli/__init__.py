"""The command line ``python -m topocomm COMMAND …``.

One module a command, named in `COMMANDS`, with

- ``HELP``: one line for the list of commands;
- ``add_arguments(parser)``: its arguments;
- ``run(args) -> int``: does it and returns the exit code.

A command's module is imported only when it is used, and imports mpi4py only where it must, so that every command that
can do without MPI works without it. A `topocomm.Error` that leaves ``run`` becomes one line on stderr and exit code
2, printed once however many ranks there are; only a module with ``RUNS_USER_CODE`` (`run`) lets it pass.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from topocomm.cli.console import PROGRAM, Parser, refuse, version
from topocomm.errors import Error

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "bench": "topocomm.cli.bench",
    "run": "topocomm.cli.run",
    "list": "topocomm.cli.list",
    "verify": "topocomm.cli.verify",
    "info": "topocomm.cli.info",
    "topology": "topocomm.cli.topology",
    "calibrate": "topocomm.cli.calibrate",
    "plot": "topocomm.cli.plot",
    "report": "topocomm.cli.report",
    "explain": "topocomm.cli.explain",
    "simulate": "topocomm.cli.simulate",
    "tune": "topocomm.cli.tune",
    "order": "topocomm.cli.order",
}
"""Command → module, in the order of the help."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; `argv` without the program's name (default: ``sys.argv``). Returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words:
        print(_usage(), file=sys.stderr)
        return 2
    if words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"topocomm {version()}")
        return 0
    if words[0] not in COMMANDS:
        return refuse(PROGRAM, f"no command {words[0]!r}; there are {', '.join(COMMANDS)}")
    return _command(words[0], words[1:])


def _command(name: str, words: list[str]) -> int:
    module = import_module("topocomm.cli.bench.puts" if name == "bench" and _names_put(words) else COMMANDS[name])
    parser = Parser(prog=f"{PROGRAM} {name}", description=module.HELP)
    module.add_arguments(parser)
    args = parser.parse_args(words)
    try:
        return int(module.run(args))
    except Error as error:
        if getattr(module, "RUNS_USER_CODE", False):
            raise
        return refuse(parser.prog, str(error))


def _names_put(words: list[str]) -> bool:
    from topocomm.cli.bench.put_options import PUTS

    return any(word in PUTS for word in words)


def _usage() -> str:
    modules: dict[str, ModuleType] = {name: import_module(path) for name, path in COMMANDS.items()}
    lines = [f"  {name:10}{module.HELP}" for name, module in modules.items()]
    return "\n".join([f"usage: {PROGRAM} COMMAND …   (COMMAND --help says more)", "", *lines])
