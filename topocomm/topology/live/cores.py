"""The socket and the core to which this process is bound, as Linux describes them. No MPI.

A socket or a core is the set of CPUs that it holds, called by the lowest of them. Their numbers (``core_id``,
``physical_package_id``) do not tell them apart: ``core_id`` repeats in the dies, caches or clusters of one socket on
some processors. Source: Documentation/admin-guide/cputopology.rst of Linux.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["ANY", "own_place"]

ANY = "any"
_CPU = Path("/sys/devices/system/cpu")
_SOCKET = ("package_cpus_list", "core_siblings_list")
_CORE = ("core_cpus_list", "thread_siblings_list")
"""Files of a CPU that list those of its socket and of its core: today's names, and those before Linux 5.3."""


def own_place(cpus: Path = _CPU) -> tuple[str, str]:
    """Name the socket and the core to which this process is bound.

    Each is ``"any"`` where its affinity mask spans several, or where the files below ``cpus`` do not tell.
    """
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return ANY, ANY
    return _only(cpus, allowed, _SOCKET), _only(cpus, allowed, _CORE)


def _only(cpus: Path, allowed: list[int], names: tuple[str, ...]) -> str:
    """The lowest CPU of the one set in which all ``allowed`` ones lie."""
    found = {_lowest(cpus / f"cpu{cpu}" / "topology", names) for cpu in allowed}
    return found.pop() if len(found) == 1 else ANY


def _lowest(folder: Path, names: tuple[str, ...]) -> str:
    for name in names:
        try:
            match = re.match(r"\d+", (folder / name).read_text())
        except OSError:
            continue
        if match is not None:
            return match[0]
    return ANY
