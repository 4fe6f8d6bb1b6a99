"""Comparisons as files: what ``bench/compare.py`` writes, results of ``bench --json``, and the pages made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from topocomm.cli.bench.results import FORMAT as RESULTS
from topocomm.cli.bench.results import read as read_results
from topocomm.errors import Error

__all__ = ["DATA_END", "DATA_START", "FORMAT", "NATIVE", "Part", "Place", "Row", "Variant", "problems", "read", "write"]

FORMAT, VERSION = "topocomm-comparison", 1
NATIVE = "native"
"""The variant that is the MPI library's own call."""
DATA_START, DATA_END = '<script type="application/json" id="data">', "</script>"
"""What surrounds the data of a page."""


@dataclass(frozen=True)
class Variant:
    """One way to run a call: microseconds of the slowest rank per sample, in the order of the turns."""

    samples_us: tuple[float, ...]
    calls_per_sample: int = 1
    algorithm: str = ""
    engine: str = ""
    uplink_bytes: int | None = None
    averaged: bool = False
    """The one sample is an average of calls: nothing is known of its spread."""


@dataclass(frozen=True)
class Row:
    """One collective at one size: bytes of the largest buffer of a rank."""

    collective: str
    size: int
    variants: Mapping[str, Variant]
    bound_us: float | None = None
    """No schedule is faster: the busiest link carries its least bytes at its full rate."""
    no_bound: str = ""
    """The reason, where there is no bound."""
    uplink_bound: int | None = None
    """Bytes that must leave all racks together, at least."""

    @property
    def ours(self) -> str | None:
        """The first variant that topocomm runs."""
        return next((name for name in self.variants if name != NATIVE), None)


@dataclass(frozen=True)
class Place:
    """The machine of a measurement and how the ranks sit on it."""

    title: str
    placement: str
    ranks: int
    detail: str = ""


@dataclass(frozen=True)
class Part:
    """What one MPI library did on one placement, with all that is needed to judge it and to take it again."""

    mpi: str
    place: Place
    rows: tuple[Row, ...]
    command: str = ""
    settings: str = ""
    thread_level: str = ""
    waiting: str = ""
    date: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def read(paths: Sequence[Path]) -> list[Part]:
    """Read the parts of all files. Raises topocomm.Error, naming file and reason, for one of another kind."""
    return [part for path in paths for part in _read(path)]


def write(parts: Sequence[Part], path: Path) -> None:
    """Write parts as one comparison. Raises OSError."""
    path.write_text(dumps(parts) + "\n", encoding="utf-8")


def dumps(parts: Sequence[Part]) -> str:
    """Return parts as the text of a comparison, a line a row."""
    whole = {"format": FORMAT, "version": VERSION, "parts": [{**_plain(part), "rows": None} for part in parts]}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    for part in parts:
        rows = ",\n   ".join(json.dumps(_plain(row), ensure_ascii=False) for row in part.rows)
        text = text.replace('"rows": null', f'"rows": [\n   {rows}\n  ]', 1)
    return text


def _plain(thing: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(thing).items() if value not in (None, "", {}, False)}


def _read(path: Path) -> list[Part]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{path}: cannot be read: {error}") from None
    if DATA_START in text:
        text = text.partition(DATA_START)[2].partition(DATA_END)[0]
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Error(f"{path}: is not JSON: {error}") from None
    kind = document.get("format") if isinstance(document, dict) else None
    if kind == RESULTS:
        return [_of_results(read_results(path))]
    if kind != FORMAT:
        raise Error(f"{path}: has format {kind!r}; a report is made of {FORMAT} or {RESULTS} (bench --json)")
    if document.get("version") != VERSION:
        raise Error(f"{path}: has version {document.get('version')!r} of {FORMAT}; this topocomm reads {VERSION}")
    try:
        return [_part(part) for part in document["parts"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Error(f"{path}: is no whole {FORMAT}: {type(error).__name__}: {error}") from None


def _part(plain: Mapping[str, Any]) -> Part:
    return Part(**{**plain, "place": Place(**plain["place"]), "rows": tuple(map(_row, plain["rows"]))})


def _row(plain: Mapping[str, Any]) -> Row:
    variants = {name: _variant(one) for name, one in plain["variants"].items()}
    return Row(**{**plain, "size": int(plain["size"]), "variants": variants})


def _variant(plain: Mapping[str, Any]) -> Variant:
    samples = tuple(float(sample) for sample in plain["samples_us"])
    if not samples or min(samples) <= 0:
        raise ValueError(f"samples_us {list(samples)}, needs at least one, all above 0")
    return Variant(**{**plain, "samples_us": samples})


def _of_results(document: Mapping[str, Any]) -> Part:
    """Take a result of ``bench --json`` as a comparison."""
    if document["unit"] != "us" or document["benchmark"] == "barrier":
        raise Error(f"a result of bench {document['benchmark']} has no sizes or no times to compare")
    machine, context = document["machine"], document.get("context", {})
    nodes = f"{machine['nodes']} node{'s' if machine['nodes'] != 1 else ''}"
    return Part(
        mpi=document["versions"]["mpi_library"],
        place=Place(f"{machine['ranks']} ranks on {nodes}", context.get("Placement", "as launched"), machine["ranks"]),
        rows=tuple(_rows_of(document)),
        command=document.get("command", ""),
        thread_level=context.get("Threads", ""),
        waiting=context.get("Waiting", ""),
        date=document.get("date", ""),
        machine={"cpu": machine["cpu"], "cores": machine["cores"]},
        versions=document["versions"],
    )


def _rows_of(document: Mapping[str, Any]) -> Iterator[Row]:
    for row in document["rows"]:
        kinds = len({other["datatype"] for other in document["rows"]}) > 1
        name = f"{document['benchmark']} of {row['datatype']}" if kinds else document["benchmark"]
        found = {k: _averaged(row, r) for k in document["contenders"] if (r := row["results"].get(k))}
        yield Row(name, row["size"], found, row.get("bound_us"), row.get("no_bound", ""))


def _averaged(row: Mapping[str, Any], result: Mapping[str, Any]) -> Variant:
    samples = result.get("samples") or [result["average"]]
    labels = (result.get("algorithm", ""), result.get("engine", ""))
    calls = 1 if "samples" in result else row["iterations"]
    return Variant(tuple(samples), calls, *labels, averaged="samples" not in result)


def problems(parts: Sequence[Part]) -> list[str]:
    """List every figure that lacks its peer, its bound (or the reason why there is none), or its command."""
    found = []
    for part in parts:
        who = f"{part.mpi}, {part.place.placement}"
        if not part.command:
            found.append(f"{who}: no command, by which the figures could be taken again")
        if not part.rows:
            found.append(f"{who}: no figures")
        for row in part.rows:
            what = f"{who}: {row.collective}, {row.size} bytes"
            if NATIVE not in row.variants:
                found.append(f"{what}: no peer: the MPI library's own call was not measured")
            if row.ours is None:
                found.append(f"{what}: nothing of topocomm's was measured")
            if row.bound_us is None and not row.no_bound:
                found.append(f"{what}: no bound, and no reason why there is none")
    return found
