"""Choices that are kept across runs in a folder (``TOPOCOMM_CACHE``): a file for each topology, machine and engine.

Rank 0 of a communicator alone reads and writes, and its answer goes to all: ranks cannot decide differently. A choice
is taken out only if it could have been made here; files that are damaged are left aside, with a word, and written anew.
Files are replaced in one step when a process ends: where several jobs do so at once, one keeps what is its own.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import stat
import sys
import tempfile
from math import isfinite
from typing import TYPE_CHECKING, Any

from topocomm.errors import AlgorithmError, Error

if TYPE_CHECKING:
    from topocomm.choose.modelled import Choice, Chooser

__all__ = ["FORMAT", "VERSION", "Kept", "kept_in"]

FORMAT, VERSION = "topocomm-choices", 1
_MOST_BYTES = 1 << 20
"""Bytes of a file beyond which it is none of ours: one choice a collective, class of sizes and kind of operation."""
_MOST_SEGMENTS = 1 << 7
"""Segments beyond which no choice asks for them."""

Question = tuple[str, int, bool, bool]
"""Collective, bytes of the whole vector, rounded; operands in the order of ranks; vectors never cut."""


class Kept:
    """The choices kept in a folder, and those to be written when the process ends."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._read: dict[str, dict[Question, Choice]] = {}
        self._new: dict[str, tuple[Chooser, dict[Question, Choice]]] = {}
        self._said: set[str] = set()

    def choose(self, chooser: Chooser, question: Question) -> Choice:
        """Return the choice that is kept, else the chooser's own, which is kept from now on."""
        path = self.path(chooser)
        if path not in self._read:
            self._read[path] = self._load(path, chooser)
        choice = self._read[path].get(question)
        if choice is None:
            choice = self._read[path][question] = chooser.choose(*question)
            self._new.setdefault(path, (chooser, {}))[1][question] = choice
        return choice

    def path(self, chooser: Chooser) -> str:
        """Return the name of the file for a chooser's topology, machine, engine and versions."""
        known = hashlib.sha256(repr((VERSION, _installed(), chooser.identity)).encode()).hexdigest()
        return os.path.join(self.folder, f"choices-{known[:32]}.json")

    def write(self) -> None:
        """Add the new choices to what the files have by now. Where that fails, say so."""
        for path, (chooser, new) in self._new.items():
            rows = [_row(question, choice) for question, choice in {**self._load(path, chooser), **new}.items()]
            document = {"format": FORMAT, "version": VERSION, "choices": rows}
            try:
                os.makedirs(self.folder, exist_ok=True)
                with tempfile.NamedTemporaryFile(
                    "w", encoding="utf-8", dir=self.folder, prefix=".choices-", delete=False
                ) as out:
                    json.dump(document, out)
                os.replace(out.name, path)
            except OSError as e:
                self._say(f"cannot keep choices in TOPOCOMM_CACHE={self.folder}: {e}")
        self._new.clear()

    def _load(self, path: str, chooser: Chooser) -> dict[Question, Choice]:
        try:
            text = _read(path)
            return {} if text is None else dict(_entry(row, chooser) for row in _rows(text))
        except (OSError, ValueError, RecursionError, Error) as e:
            self._say(f"{path} is left aside: {e}")
            return {}

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            print(f"topocomm: {line}", file=sys.stderr, flush=True)


def _installed() -> str:
    """Return the version of topocomm that is installed; empty where a checkout runs."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("topocomm")
    except PackageNotFoundError:
        return ""


def _read(path: str) -> str | None:
    """Read a plain file of at most :data:`_MOST_BYTES` bytes; None if there is none."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
    except FileNotFoundError:
        return None
    with open(number, "rb") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST_BYTES:
            raise ValueError(f"no plain file of at most {_MOST_BYTES} bytes")
        return file.read(_MOST_BYTES).decode()


def _rows(text: str) -> list[Any]:
    document = json.loads(text)
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"no {FORMAT} of version {VERSION}")
    rows = document.get("choices")
    if not isinstance(rows, list):
        raise ValueError("its choices are no list")
    return rows


def _row(question: Question, choice: Choice) -> list[object]:
    return [*question, choice.algorithm, choice.seconds, choice.library, choice.library_seconds]


def _entry(row: Any, chooser: Chooser) -> tuple[Question, Choice]:
    """Return a question and its choice. Raises ValueError or AlgorithmError if it could not have been made here."""
    from topocomm.choose.modelled import Choice, rounded
    from topocomm.collectives import find_collective

    kinds = str, int, bool, bool, str, float, str, float
    if not isinstance(row, list) or [type(x) for x in row] != list(kinds):
        raise ValueError(f"a choice is {' '.join(kind.__name__ for kind in kinds)}, found {str(row)[:80]}")
    collective, nbytes, ordered, whole, algorithm, seconds, library, library_seconds = row
    find_collective(collective)
    if not 0 <= nbytes < 1 << 62 or rounded(nbytes) != nbytes or not all(map(_is_time, (seconds, library_seconds))):
        raise ValueError(f"a size is a rounded one and a time finite, found {str(row)[:80]}")
    ours, theirs = chooser.candidates(collective, ordered, whole)
    if library not in theirs or algorithm.partition(":")[0] not in ours:
        raise ValueError(f"{algorithm[:40]!r} or {library[:40]!r} is no candidate of {collective}")
    _check_options(collective, algorithm, chooser)
    known = Choice(algorithm, seconds, library, library_seconds, 0.0, chooser.machine.source, True)
    return (collective, nbytes, ordered, whole), known


def _is_time(seconds: float) -> bool:
    return isfinite(seconds) and seconds >= 0


def _check_options(collective: str, name: str, chooser: Chooser) -> None:
    """Raise AlgorithmError if an algorithm's options are none that the choice tries on this topology."""
    from topocomm.algorithms.table import find, make_schedule

    _, options = find(collective, name)
    if options.way or options.aggregate or (options.segments or 1) > _MOST_SEGMENTS:
        raise AlgorithmError(f"no choice asks for {name[:60]!r}")
    if any(radix > chooser.topology.size for radix in options.radix):
        raise AlgorithmError(f"no choice asks for {name[:60]!r}")
    if options.levels:
        make_schedule(collective, name, chooser.topology)


_known: dict[str, Kept] = {}


def kept_in(folder: str) -> Kept:
    """Return what is kept in a folder, one object a process; it is written when the process ends."""
    if folder not in _known:
        _known[folder] = Kept(folder)
        atexit.register(_known[folder].write)
    return _known[folder]
