"""Results for machines: the document that ``--json`` writes and ``plot`` reads; its schema is
``results.schema.json``.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topocomm.cli import provenance
from topocomm.cli.bench.columns import Line, Result
from topocomm.cli.bench.osu import Benchmark
from topocomm.errors import Error

__all__ = ["FORMAT", "VERSION", "Record", "read"]

FORMAT, VERSION = "topocomm-results", 1


@dataclass
class Record:
    """The results of one run of ``bench`` so far."""

    benchmark: Benchmark
    contenders: Sequence[str]
    ranks: int
    nodes: int
    context: Mapping[str, str]
    in_place: bool
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, datatype: str, row: Line, choices: Mapping[str, Mapping[str, str]], bound: float | str) -> None:
        """Append one size; `choices` names for each contender algorithm, engine and reason, ``bound`` the microseconds
        below which no schedule goes, or says why they are not known.
        """
        results = {name: _result(result, choices.get(name, {})) for name, result in row.results.items()}
        size = {"datatype": datatype, "size": row.size, "iterations": row.iterations, "verified": row.passed}
        least = {"no_bound": bound} if isinstance(bound, str) else {"bound_us": round(bound, 4)}
        self.rows.append({**size, **least, "results": results})

    def document(self) -> dict[str, Any]:
        """Return the whole as one JSON object."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "benchmark": self.benchmark.name,
            "unit": self.benchmark.unit,
            "date": provenance.today(),
            "command": shlex.join(["python", "-m", "topocomm", *sys.argv[1:]]),
            "machine": {
                "cpu": provenance.cpu_model(),
                "cores": provenance.usable_cores(),
                "nodes": self.nodes,
                "ranks": self.ranks,
            },
            "versions": provenance.versions(),
            "context": dict(self.context),
            "in_place": self.in_place,
            "contenders": list(self.contenders),
            "rows": self.rows,
        }

    def write(self, path: Path) -> None:
        """Write the document. Raises OSError."""
        path.write_text(json.dumps(self.document(), indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a results document. Raises topocomm.Error, naming file and reason, for one that `write` did not write."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise Error(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Error(f"{path}: is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise Error(f"{path}: is not a result of bench --json: its format is not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise Error(f"{path}: has version {document.get('version')!r} of {FORMAT}; this topocomm reads {VERSION}")
    missing = {"benchmark", "unit", "contenders", "rows", "machine", "versions"} - set(document)
    if missing:
        raise Error(f"{path}: lacks {', '.join(sorted(missing))}")
    return document


def _result(result: Result | None, choice: Mapping[str, str]) -> dict[str, Any] | None:
    if result is None:
        return None
    percentiles = {str(percent): round(value, 4) for percent, value in result.percentiles.items()}
    values = {"average": result.average, "min": result.least, "max": result.most}
    samples = {"samples": [round(sample, 2) for sample in result.samples]} if result.samples else {}
    rounded = {name: round(value, 4) for name, value in values.items()}
    return {**rounded, "percentiles": percentiles, **samples, **_overlap(result), **choice}


def _overlap(result: Result) -> dict[str, float]:
    found = result.overlap
    if found is None:
        return {}
    values = {"compute": found.compute, "call": found.call, "overlap": found.percent}
    return {name: round(value, 4) for name, value in values.items()}
