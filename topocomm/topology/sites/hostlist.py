"""Host lists as Slurm and pdsh write them: ``nid[001-004,7],login1`` for six names, and back.

A name may hold several brackets (``r[1-2]n[1-3]``: the last varies fastest). A range keeps the width of its first
number: ``[08-10]`` is 08, 09, 10. Source: the HOSTLIST EXPRESSIONS section of pdsh(1), and Slurm's scontrol(1), ``show
hostnames``. Slurm's own lists may also be separated by blanks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from topocomm.errors import TopologyError
from topocomm.topology.sites.text import MAX_NODES

__all__ = ["compress", "expand", "expand_slurm", "split_words"]

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)", re.DOTALL)
_PLAIN = re.compile(r"[^\s,\[\]\"'`=#\\(){}<>|&$*?!\x00-\x1f\x7f]+")


def expand(text: str) -> list[str]:
    """List the names of a host list, in its order. Raises TopologyError that quotes what is wrong."""
    return _expanded([item.strip() for item in split_words(text, ",")])


def expand_slurm(text: str) -> list[str]:
    """List the names of a host list in one of Slurm's files: commas and blanks separate, any number of either.

    An empty list has no names. Raises TopologyError that quotes what is wrong.
    """
    return _expanded([item for item in split_words(text, ", \t\r\n") if item])


def _expanded(items: list[str]) -> list[str]:
    out: list[str] = []
    for item in items:
        out += _names(item, MAX_NODES - len(out))
    return out


def split_words(text: str, separators: str) -> list[str]:
    """Split a text at every separator that stands outside brackets. Raises TopologyError for unpaired brackets."""
    words, depth, start = [], 0, 0
    for i, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif depth == 0 and char in separators:
            words.append(text[start:i])
            start = i + 1
        if depth not in (0, 1):
            raise TopologyError(f"host list {_short(text)}: {char!r} at position {i + 1} has no partner")
    if depth:
        raise TopologyError(f"host list {_short(text)}: '[' is never closed")
    words.append(text[start:])
    return words


def _names(item: str, room: int) -> list[str]:
    parts = re.split(r"\[([^\]]*)\]", item)
    if not item or any(part and not _PLAIN.fullmatch(part) for part in parts[::2]):
        raise TopologyError(f"host list item {_short(item)}: not a host name")
    choices: list[list[str]] = []
    count = 1
    for i, part in enumerate(parts):
        choices.append(_numbers(part, item) if i % 2 else [part])
        count *= len(choices[-1])
        if count > room:
            raise TopologyError(f"host list item {_short(item)}: more than {MAX_NODES} hosts")
    return ["".join(pieces) for pieces in itertools.product(*choices)]


def _numbers(bracket: str, item: str) -> list[str]:
    out: list[str] = []
    for piece in bracket.split(","):
        match = _RANGE.fullmatch(piece.strip())
        if match is None:
            raise TopologyError(f"host list item {_short(item)}: {piece!r} is not a number or a range of numbers")
        low, high = match[1], match[2] or match[1]
        if int(high) < int(low):
            raise TopologyError(f"host list item {_short(item)}: the range {piece!r} runs backwards")
        if int(high) - int(low) >= MAX_NODES - len(out):
            raise TopologyError(f"host list item {_short(item)}: more than {MAX_NODES} hosts")
        out += [str(n).zfill(len(low)) for n in range(int(low), int(high) + 1)]
    return out


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")


def compress(hosts: Iterable[str]) -> str:
    """The shortest host list in the same order: ``expand(compress(hosts)) == hosts``.

    Raises TopologyError for a name that no host list can hold.
    """
    out: list[str] = []
    pieces: list[str] = []  # the open bracket: ranges of numbers as text
    ends = ("", "")  # what stands around it
    for host in hosts:
        if not _PLAIN.fullmatch(host):
            raise TopologyError(f"{host!r} is not a host name: it is empty or holds a blank, a comma or a bracket")
        match = _NUMBERED.fullmatch(host)
        if match is None or (match[1], match[3]) != ends:
            out += _closed(ends, pieces)
            pieces = []
        if match is None:
            out.append(host)
            ends = ("", "")
            continue
        ends = match[1], match[3]
        low, _, high = pieces[-1].partition("-") if pieces else ("", "", "")
        if pieces and str(int(high or low) + 1).zfill(len(low)) == match[2]:
            pieces[-1] = f"{low}-{match[2]}"
        else:
            pieces.append(match[2])
    return ",".join(out + _closed(ends, pieces))


def _closed(ends: tuple[str, str], pieces: list[str]) -> list[str]:
    if not pieces:
        return []
    one = len(pieces) == 1 and "-" not in pieces[0]
    return [ends[0] + (pieces[0] if one else f"[{','.join(pieces)}]") + ends[1]]
