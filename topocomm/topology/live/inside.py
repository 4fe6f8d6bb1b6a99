"""The place of a process inside its node: socket, NUMA domain, last-level cache and core, as Linux describes them, and
the share of the node that its control groups leave it. No MPI.

A domain is the set of CPUs that it holds, called by the lowest of them. Its number (``core_id``,
``physical_package_id``) does not tell it apart: ``core_id`` repeats in the dies, caches or clusters of one socket on
some processors. A process is in a domain if its affinity mask, which is what its cpuset leaves it, lies within; so it
is in none that its mask spans. Sources: Documentation/admin-guide/cputopology.rst, cgroup-v2.rst and
cgroup-v1/cpusets.rst, and Documentation/ABI/testing/sysfs-devices-system-cpu of Linux.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from topocomm.arrays import IntArray

__all__ = ["LEVELS", "Domain", "cpu_quota", "inner_levels", "own_place"]

LEVELS = ("socket", "numa", "cache", "core")
_ALWAYS = ("socket", "core")
"""Levels that are shown also where they tell no more than others do."""
Domain = tuple[int, int] | None
"""The lowest CPU and the number of CPUs; None if the process is in no domain of this kind."""
_SYSTEM = Path("/sys/devices/system")
_SOCKET = ("package_cpus_list", "core_siblings_list")
_CORE = ("core_cpus_list", "thread_siblings_list")
"""Files of a CPU that list those of its socket and of its core: today's names, and those before Linux 5.3."""
_LIST = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
_MOST_BYTES = 1 << 16


def own_place(system: Path = _SYSTEM) -> tuple[Domain, ...]:
    """Find the domains of :data:`LEVELS` in which this process may run alone, below the folder ``system``."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return (None,) * len(LEVELS)
    cpu = system / "cpu" / f"cpu{allowed[0]}"
    lists = (
        _first(cpu / "topology" / name for name in _SOCKET),
        _first(_memory(cpu, system)),
        _first(_caches(cpu)),
        _first(cpu / "topology" / name for name in _CORE),
    )
    return tuple(_holding(allowed, text) for text in lists)


def _holding(allowed: list[int], text: str) -> Domain:
    """The CPUs of a list such as ``0-3,8``, if all ``allowed`` ones are among them."""
    if not _LIST.fullmatch(text):
        return None
    ranges = [(int(low), int(high or low)) for low, _, high in (part.partition("-") for part in text.split(","))]
    if not all(any(low <= cpu <= high for low, high in ranges) for cpu in allowed):
        return None
    return min(low for low, _ in ranges), sum(high - low + 1 for low, high in ranges)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _first(paths: Iterator[Path]) -> str:
    """What the first of these files that says anything says."""
    return next((text for path in paths if (text := _text(path))), "")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _memory(cpu: Path, system: Path) -> Iterator[Path]:
    """Where the CPUs of a CPU's NUMA domain are listed."""
    for name in _names(cpu):
        if re.fullmatch(r"node\d+", name):
            yield system / "node" / name / "cpulist"


def _caches(cpu: Path) -> Iterator[Path]:
    """Where the CPUs of a CPU's last-level cache are listed."""
    levels = {}
    for name in _names(cpu / "cache"):
        level = _text(cpu / "cache" / name / "level") if name.startswith("index") else ""
        if level.isdecimal() and len(level) < 3:
            levels[name] = int(level)
    if levels:
        yield cpu / "cache" / max(levels, key=lambda name: levels[name]) / "shared_cpu_list"


def inner_levels(node: IntArray, places: Sequence[Sequence[Domain]]) -> list[tuple[str, list[str]]]:
    """Levels inside nodes, outermost first, with a label a rank, from the node and the domains of every rank.

    A level that no rank can tell is left out; NUMA domains and caches also where some rank cannot, and where they tell
    apart no more than the node, another level or the ranks themselves do. Levels stand by the size of their domains,
    as a processor may have several caches in a NUMA domain, or the reverse.
    """
    columns = {level: [place[k] for place in places] for k, level in enumerate(LEVELS)}
    known = {tuple(_numbers(node, [""] * len(places))), tuple(range(len(places)))}
    kept: list[str] = []
    for level in (*_ALWAYS, *(level for level in LEVELS if level not in _ALWAYS)):
        if all(domain is None for domain in columns[level]):
            continue
        partition = tuple(_numbers(node, columns[level]))
        if level in _ALWAYS or not (None in columns[level] or partition in known):
            kept.append(level)
        known.add(partition)
    kept.sort(key=lambda level: (-_size(columns[level]), LEVELS.index(level)))
    return [(level, ["any" if d is None else str(d[0]) for d in columns[level]]) for level in kept]


def _numbers(node: IntArray, labels: Sequence[object]) -> list[int]:
    """Number the different pairs of node and label in the order in which they appear."""
    number: dict[tuple[int, object], int] = {}
    return [number.setdefault(pair, len(number)) for pair in zip(node.tolist(), labels, strict=True)]


def _size(domains: Sequence[Domain]) -> float:
    """The mean number of CPUs of these domains."""
    return float(np.mean([domain[1] for domain in domains if domain is not None]))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPUs' worth of time that the control groups of this process leave it: 1.5 of 64; None without a limit."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        found += [quota for folder in _groups(root, controllers, path) if (quota := _quota(folder)) is not None]
    return min(found, default=None)


def _groups(root: Path, controllers: str, path: str) -> Iterator[Path]:
    """The folders of a control group and of those around it; in a container only the outermost may be there."""
    base = root / "sys/fs/cgroup" / controllers
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for depth in range(len(parts), -1, -1):
        yield base.joinpath(*parts[:depth])


def _quota(folder: Path) -> float | None:
    """The limit of one control group, of either version."""
    words = _text(folder / "cpu.max").split() or [
        _text(folder / "cpu.cfs_quota_us"),
        _text(folder / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdecimal() and len(word) < 16 and int(word) for word in words):
        return None
    return int(words[0]) / int(words[1])
