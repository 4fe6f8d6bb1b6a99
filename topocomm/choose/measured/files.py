"""Reading and writing tuning files: one JSON document with measured times (tuning.schema.json)."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topocomm.algorithms.table import check_ranks, find
from topocomm.choose.measured.entries import NATIVE, Entry, Key, Timing, Tuning, class_of, merge, per_rank
from topocomm.collectives import COLLECTIVES
from topocomm.engines import ENGINES
from topocomm.errors import AlgorithmError, Error
from topocomm.topology.documents import load_json, read_text

__all__ = [
    "FORMAT",
    "VERSION",
    "Entry",
    "Timing",
    "Tuning",
    "class_of",
    "dumps_tuning",
    "merge",
    "parse_tuning",
    "per_rank",
    "read_tuning",
    "write_text",
]

FORMAT = "topocomm-tuning"
VERSION = 1
MOST_BYTES = 1 << 50
MOST_RANKS = 1 << 24
MOST_SECONDS = 1e6
MOST_REPETITIONS = 10**9
_REQUIRED = ("collective", "bytes", "bytes_per_rank", "ranks", "signature", "type_class", "library", "engine",
             "measured", "algorithms")  # fmt: skip
_KEYS = {*_REQUIRED, "placement"}
_TIMING_KEYS = ("median", "repetitions", "spread")
_SIGNATURE = re.compile(r"[0-9a-f]{16}")
_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ", re.ASCII)


def _need(ok: bool, at: str, what: str) -> None:
    if not ok:
        raise Error(f"{at}: {what}")


def _object(value: Any, at: str, required: tuple[str, ...], known: set[str]) -> dict[str, Any]:
    _need(isinstance(value, dict), at, f"must be an object, found {type(value).__name__}")
    unknown = sorted(set(value) - known)
    _need(not unknown, at, f"unknown keys {unknown}; known are {', '.join(sorted(known))}")
    for key in required:
        _need(key in value, at, f"{key!r} is missing")
    found: dict[str, Any] = value
    return found


def _count(doc: Mapping[str, Any], key: str, least: int, most: int, at: str) -> int:
    value = doc[key]
    ok = type(value) is int and least <= value <= most
    _need(ok, at, f"{key!r} must be a whole number of {least} to {most}, found {value!r}")
    return int(value)


def _seconds(doc: Mapping[str, Any], key: str, positive: bool, at: str) -> float:
    value = doc[key]
    ok = type(value) in (int, float) and math.isfinite(value) and 0 <= value <= MOST_SECONDS
    ok = ok and (value > 0 or not positive)
    bound = "above 0" if positive else "of at least 0"
    _need(ok, at, f"{key!r} must be seconds {bound} and at most {MOST_SECONDS:g}, found {value!r}")
    return float(value)


def _text(doc: Mapping[str, Any], key: str, at: str) -> str:
    value = doc[key]
    ok = isinstance(value, str) and value.isprintable() and len(value) <= 1000
    _need(ok, at, f"{key!r} must be printable text, found {value!r}")
    return str(value)


def _engine(doc: Mapping[str, Any], at: str) -> str:
    """Read an engine's name; ``p2p`` is what version 0.1 called the Python engine."""
    return "python" if doc["engine"] == "p2p" else _one_of(doc, "engine", ENGINES, at)


def _one_of(doc: Mapping[str, Any], key: str, values: tuple[str, ...], at: str) -> str:
    value = doc[key]
    _need(isinstance(value, str) and value in values, at, f"{key!r} must be one of {', '.join(values)}, "
          f"found {value!r}")  # fmt: skip
    return str(value)


def _timing(collective: str, ranks: int, ordered: bool, name: str, value: Any, at: str) -> Timing:
    at = f"{at}: algorithm {name!r}"
    doc = _object(value, at, _TIMING_KEYS, set(_TIMING_KEYS))
    if name != NATIVE:
        try:
            algorithm = find(collective, name)[0]
            check_ranks(algorithm, ranks)
        except AlgorithmError as e:
            raise Error(f"{at}: {e}; remove it, or tune again with this version") from None
        _need(algorithm.in_order or not ordered, at, "does not combine in the order of ranks, which 'type_class' "
              "'ordered' needs; remove it")  # fmt: skip
    return Timing(
        _seconds(doc, "median", True, at),
        _count(doc, "repetitions", 1, MOST_REPETITIONS, at),
        _seconds(doc, "spread", False, at),
    )


def _entry(value: Any, at: str) -> Entry:
    doc = _object(value, at, _REQUIRED, _KEYS)
    collective = _one_of(doc, "collective", tuple(COLLECTIVES), at)
    nbytes = _count(doc, "bytes", 0, MOST_BYTES, at)
    ranks = _count(doc, "ranks", 1, MOST_RANKS, at)
    share, found = per_rank(collective, nbytes, ranks), _count(doc, "bytes_per_rank", 0, MOST_BYTES, at)
    _need(share == found, at, f"'bytes_per_rank' is {found}, but {collective} of {nbytes} bytes on {ranks} ranks "
          f"has {share}")  # fmt: skip
    classes = tuple(dict.fromkeys(class_of(collective, commutative) for commutative in (True, False)))
    signature, measured = _text(doc, "signature", at), _text(doc, "measured", at)
    _need(bool(_SIGNATURE.fullmatch(signature)), at, f"'signature' must be 16 hexadecimal digits, as a topology's "
          f"signature is, found {signature!r}")  # fmt: skip
    _need(bool(_TIME.fullmatch(measured)), at, f"'measured' must be a time as 2026-01-31T23:59:59Z, "
          f"found {measured!r}")  # fmt: skip
    table = doc["algorithms"]
    _need(isinstance(table, dict), at, f"'algorithms' must be an object: name → times, found {table!r}")
    _need(NATIVE in table, at, "'algorithms' has no 'native', to which all others are compared; tune again")
    type_class = _one_of(doc, "type_class", classes, at)
    ordered = type_class == "ordered"
    return Entry(
        collective,
        nbytes,
        ranks,
        signature,
        type_class,
        _text(doc, "library", at),
        _engine(doc, at),
        measured,
        {name: _timing(collective, ranks, ordered, name, timing, at) for name, timing in table.items()},
        _text(doc, "placement", at) if "placement" in doc else "",
    )


def parse_tuning(text: str, source: str = "tuning") -> Tuning:
    """Read a tuning from JSON text; ``source`` is how errors and decisions call it.

    Raises Error, naming the entry, the key, the value and what is needed, for anything that is not a valid tuning.
    """
    doc = load_json(text, source, "tuning", Error)
    _need(isinstance(doc, dict), source, f"the document must be an object, found {type(doc).__name__}")
    _need(doc.get("format") == FORMAT, source, f"'format' must be {FORMAT!r}, found {doc.get('format')!r}")
    version = doc.get("version")
    _need(type(version) is int and version == VERSION, source, f"'version' must be {VERSION}, found {version!r}; "
          "tune again with this version of topocomm")  # fmt: skip
    _object(doc, source, ("entries",), {"format", "version", "comment", "entries"})
    rows = doc["entries"]
    _need(isinstance(rows, list), source, f"'entries' must be a list, found {type(rows).__name__}")
    entries: list[Entry] = []
    seen: dict[tuple[Key, int], int] = {}
    for i, row in enumerate(rows):
        entry = _entry(row, f"{source}: 'entries'[{i}]")
        first = seen.setdefault((entry.key, entry.nbytes), i)
        _need(first == i, source, f"'entries'[{first}] and [{i}] are both of {entry.describe()}; remove one")
        entries.append(entry)
    return Tuning(tuple(entries), source)


def read_tuning(path: str | Path) -> Tuning:
    """Read a tuning file. Raises Error if it can't be read or is malformed."""
    return parse_tuning(read_text(path), str(path))


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "collective": entry.collective,
        "bytes": entry.nbytes,
        "bytes_per_rank": per_rank(entry.collective, entry.nbytes, entry.ranks),
        "ranks": entry.ranks,
        "signature": entry.signature,
        "type_class": entry.type_class,
        "library": entry.library,
        "engine": entry.engine,
        "measured": entry.measured,
    }
    if entry.placement:
        row["placement"] = entry.placement
    row["algorithms"] = {name: vars(timing) for name, timing in entry.algorithms.items()}
    return row


def dumps_tuning(tuning: Tuning) -> str:
    """The document of a tuning, one entry a line, ordered by key and size."""
    rows = [
        json.dumps(_row(entry), ensure_ascii=False) for entry in sorted(tuning.entries, key=lambda e: (e.key, e.nbytes))
    ]
    body = ",\n".join(f"  {row}" for row in rows)
    return f'{{"format": "{FORMAT}", "version": {VERSION}, "entries": [\n{body}\n]}}\n'


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all: beside it first, then in its place. Raises Error if it cannot be written."""
    target = Path(path)
    beside = ""
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, target)
    except (OSError, ValueError) as e:
        if beside:
            Path(beside).unlink(missing_ok=True)
        raise Error(f"{path}: cannot be written: {getattr(e, 'strerror', None) or e}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
