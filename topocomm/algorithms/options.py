"""Options that may follow an algorithm's name, and how they are read: ``name:option,option``."""

from __future__ import annotations

from dataclasses import dataclass

from topocomm.errors import AlgorithmError
from topocomm.schedule.reorder import WAYS

__all__ = ["Options", "parse_name"]


@dataclass(frozen=True)
class Options:
    """Options of one use of an algorithm; None or empty where nothing is asked for."""

    way: str | None = None
    """How its reordering is realised: ``local``, ``exchange`` or ``direct``."""
    radix: tuple[int, ...] = ()
    """Radices of at least 2, nearest level first, the last for all levels farther out."""
    aggregate: int | None = None
    """The most blocks in a message, at least 1."""
    levels: str | None = None
    """One letter for each level, outermost first: the pattern of messages there."""
    segments: int | None = None
    """Segments into which a vector, or the part of it on a tree, is cut; at least 1."""
    ordered: bool = False
    """Whether operands must be combined in the order of ranks."""


def parse_name(text: str) -> tuple[str, Options]:
    """Split ``name:option,option`` into the name and its options. Raises AlgorithmError for an unknown option."""
    if not isinstance(text, str):
        raise AlgorithmError(f"an algorithm is named by a string, found {text!r}")
    name, colon, rest = text.partition(":")
    way: str | None = None
    radix: tuple[int, ...] = ()
    aggregate: int | None = None
    levels: str | None = None
    segments: int | None = None
    for option in rest.split(",") if colon else ():
        key, _, value = option.partition("=")
        if option in WAYS and option != "none":
            way = option
        elif key == "radix" and all(x.isdecimal() and int(x) >= 2 for x in value.split("/")):
            radix = tuple(map(int, value.split("/")))
        elif key == "aggregate" and value.isdecimal() and int(value) >= 1:
            aggregate = int(value)
        elif key == "levels" and value.isalpha():
            levels = value
        elif key == "segments" and value.isdecimal() and int(value) >= 1:
            segments = int(value)
        else:
            raise AlgorithmError(
                f"unknown option {option!r} in {text!r}; options are local, exchange, direct, radix=N with "
                "N ≥ 2, or radix=N/M/… for the nearest level, the next, …, aggregate=N and segments=N with N ≥ 1, "
                "and levels=LETTERS"
            )
    return name, Options(way, radix, aggregate, levels, segments)
