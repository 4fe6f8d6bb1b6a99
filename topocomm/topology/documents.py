"""Reading a file's text and the JSON in it, strictly: no key twice, no NaN, no number beyond a float's range."""

from __future__ import annotations

import os
from typing import Any

from topocomm.errors import Error, TopologyError

__all__ = ["load_json", "read_text"]

_MOST_DIGITS = 300


def read_text(path: str | os.PathLike[str]) -> str:
    """Read the text of a UTF-8 file, without a byte-order mark. Raises TopologyError, which names the file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as e:
        raise TopologyError(f"{path}: not UTF-8 text: byte {e.start}") from None
    except (OSError, ValueError) as e:
        raise TopologyError(f"{path}: cannot be read: {e}") from None


def load_json(text: str, source: str, what: str, error: type[Error] = TopologyError) -> Any:
    """The document in ``text``, which should be a ``what`` and which errors call ``source``.

    Raises ``error``, naming line or key and the reason, for anything that is not strictly JSON.
    """
    import json

    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole, parse_constant=_constant)
    except json.JSONDecodeError as e:
        raise error(f"{source}: line {e.lineno} column {e.colno}: not JSON: {e.msg}") from None
    except RecursionError:
        raise error(f"{source}: nested too deeply to be a {what}") from None
    except _RefusedError as e:
        raise error(f"{source}: {e}") from None


class _RefusedError(Exception):
    """What a document must not hold."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise _RefusedError(f"key {key!r} appears twice; remove one")
        out[key] = value
    return out


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _RefusedError(f"a number of {len(digits)} digits is too large")
    return int(digits)


def _constant(name: str) -> None:
    raise _RefusedError(f"{name} is not JSON; give a number")
