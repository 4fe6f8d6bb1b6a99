"""Lines of ``Key=Value`` pairs as Slurm's own parser reads them.

    # comment                            Key names are case-insensitive
    SwitchName = s0  Nodes = "n1, n2"    blanks may stand around '=', and inside quotes
    SwitchName=s1 Nodes=n[3-4],\\         a backslash at the end continues a line
    n5
    Include more.conf                    another file, in the folder of the first

A backslash takes the next character as it is. ``Key=`` without a value, which scontrol prints, is empty.
Source: slurm.conf(5), and s_p_parse_file in Slurm's src/common/parse_config.c.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from topocomm.errors import TopologyError
from topocomm.topology.documents import read_text
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.text import fail

__all__ = ["ConfLine", "entries"]

_BEFORE_COMMENT = re.compile(r"(?:[^\\#]|\\.|\\$)*")
_PAIR = re.compile(
    r'\s*([A-Za-z0-9_.]+)\s*=\s*(?:(?=[A-Za-z0-9_.]+\s*=|$)|"([^"]*)"(?=\s|$)|([^\s"=]+)(?=\s|$))', re.ASCII
)
_INCLUDE = re.compile(r"\s*include\s+(\S.*?)\s*", re.ASCII | re.IGNORECASE)
_DEEPEST = 16


@dataclass(frozen=True)
class ConfLine:
    """A line: the file and the number of the line, and its values by key in small letters."""

    source: str
    line: int
    values: dict[str, str]

    def fail(self, reason: str) -> NoReturn:
        """Raise TopologyError that names file, line and reason."""
        fail(self.source, reason, self.line)

    def names(self, key: str) -> list[str]:
        """List the names of the host list under ``key``, none if it is missing. Raises TopologyError."""
        try:
            return hostlist.expand_slurm(self.values.get(key, ""))
        except TopologyError as e:
            self.fail(str(e))


def entries(
    text: str, source: str, known: Collection[str], folder: Path | None = None, above: tuple[Path, ...] = ()
) -> Iterator[ConfLine]:
    """Read the lines of a file and of those that it includes from ``folder``, where only ``known`` keys may stand.

    Raises TopologyError, naming file and line, for anything malformed, and for an Include where ``folder`` is None.
    """
    for line, content in _logical_lines(text, source):
        include = _INCLUDE.fullmatch(content)
        if include is None:
            yield ConfLine(source, line, _pairs(content, source, line, known))
            continue
        path = _included(include[1], source, line, folder)
        if path in above or len(above) >= _DEEPEST:
            fail(source, f"Include {include[1]}: files include each other, or more than {_DEEPEST} deep", line)
        try:
            more = read_text(path)
        except TopologyError as e:
            fail(source, f"Include {include[1]}: {e}", line)
        yield from entries(more, str(path), known, folder, (*above, path))


def _included(name: str, source: str, line: int, folder: Path | None) -> Path:
    if re.search(r"[\s*%]", name):
        fail(source, f"Include {name}: needs the name of one file, without blanks, '*' or '%'", line)
    if folder is None:
        fail(source, f"Include {name}: only a file that is read from its place can include others", line)
    return folder / name


def _logical_lines(text: str, source: str) -> Iterator[tuple[int, str]]:
    """Number and content of every line that says something: comments cut, continued ones joined."""
    held, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        match = _BEFORE_COMMENT.match(line)
        content = match[0] if match else ""
        first = first or number
        body = content.rstrip()
        if (len(body) - len(body.rstrip("\\"))) % 2:
            held += body[:-1]
            continue
        held += content
        if held.strip():
            yield first, re.sub(r"\\(.)", r"\1", held)
        held, first = "", 0
    if held.strip():
        fail(source, "the last line is continued by a backslash, but nothing follows", first)


def _pairs(content: str, source: str, line: int, known: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    content = content.rstrip()
    while at < len(content):
        match = _PAIR.match(content, at)
        if match is None:
            word = content[at:].split(None, 1)[0]
            fail(source, f'{word[:60]!r} is not Key=Value or Key="Value"', line)
        key, value = match[1].lower(), match[2] or match[3] or ""
        if key not in {name.lower() for name in known}:
            fail(source, f"{match[0].strip()[:60]!r} is not one of {', '.join(known)} with a value", line)
        if key in found:
            fail(source, f"{match[1]} is given twice", line)
        found[key] = value.strip()
        at = match.end()
    return {key: value for key, value in found.items() if value != "(null)"}
