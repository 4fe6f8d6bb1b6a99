"""Keeps a study's figures in ``bench/results/`` with what is needed to judge and repeat them."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import topocomm
from topocomm.cli.provenance import cpu_model, usable_cores

__all__ = ["RESULTS", "ROOT", "command", "context", "keep", "keep_for_library"]

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, from which benchmarks are run as modules."""
RESULTS = ROOT / "bench" / "results"


def command() -> str:
    """Return the command line of this run, as typed in the root of the checkout."""
    spec = sys.modules["__main__"].__spec__
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]]
    return shlex.join(["python", *program, *sys.argv[1:]])


def commit() -> str:
    """Return the commit that ran, with ``+`` behind it where files have changed since; empty outside a checkout."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def context() -> dict[str, Any]:
    """Return processor, cores, versions, commit, date and the command line. Host names are not recorded."""
    return {
        "command": command(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": cpu_model(),
        "cores": usable_cores(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "topocomm": topocomm.__version__,
        },
    }


def keep(name: str, figures: dict[str, Any]) -> Path:
    """Write ``figures`` with their context to ``results/name.json`` and return the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({**context(), **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def keep_for_library(name: str, figures: dict[str, Any]) -> Path:
    """Keep ``figures`` of the MPI library in use, with its version and thread level, as :func:`keep` does."""
    from mpi4py import MPI

    vendor, version = MPI.get_vendor()
    facts = {"mpi": f"{vendor} {'.'.join(map(str, version))}", "thread_level": MPI.Query_thread()}
    return keep(f"{name}_{vendor.replace(' ', '').lower()}", {**facts, **figures})
