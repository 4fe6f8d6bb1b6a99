"""Schedules for other simulators: SimGrid's time-independent traces and platforms, LogGOPSim's GOAL.

SimGrid (SMPI replay): one text file of actions for each rank, a file that lists them, a platform and a host file. In
the platform every rank is a host of its own, so that its own link is simulated, too; routes are those of the
:class:`~topocomm.model.network.Network`, written out pair by pair: fit for some hundreds of ranks. Links have the
latency and bytes/s of the model; run it with ``--cfg=`` each of :func:`simgrid_options`, which turn off what SimGrid
fits to TCP.

GOAL: the same messages with their dependencies, without a network; a round waits for all messages of the round before.

Sources: H. Casanova et al.: Versatile, scalable, and accurate simulation of distributed applications and platforms,
JPDC 74 (2014); T. Hoefler, T. Schneider, A. Lumsdaine: LogGOPSim, HPDC 2010.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from topocomm.errors import TopologyError
from topocomm.model.network import Network
from topocomm.schedule import RankSchedule, Schedule, Slots

__all__ = ["goal", "simgrid_options", "simgrid_platform", "simgrid_trace", "write_goal", "write_simgrid"]

MOST_HOSTS = 1024
"""Routes are written out for so many hosts at most."""
_MOST_EAGER = (1 << 31) - 1
"""SimGrid keeps the limit in an int."""


class _Sizes:
    """Bytes of slots when the vector has ``nbytes``."""

    def __init__(self, schedule: Schedule, nbytes: int) -> None:
        parts = [schedule.part(r) for r in {0, schedule.root, schedule.size - 1}]
        self.vector = max(max(len(part.load), len(part.store)) for part in parts)
        self.nbytes = nbytes

    def of(self, slots: Slots) -> int:
        return round(len(slots) * self.nbytes / self.vector) if self.vector else 0


def _trace(rank: int, part: RankSchedule, sizes: _Sizes) -> Iterator[str]:
    yield f"{rank} init"
    for rnd in part.rounds:
        recvs = [r for r in rnd.recvs if r.peer != rank]
        sends = [s for s in rnd.sends if s.peer != rank]
        for r in recvs:
            yield f"{rank} irecv {r.peer} 0 {sizes.of(r.slots)}"
        for s in sends:
            yield f"{rank} isend {s.peer} 0 {sizes.of(s.slots)}"
        if recvs or sends:
            yield f"{rank} waitall {len(recvs) + len(sends)}"
    yield f"{rank} finalize"


def simgrid_trace(schedule: Schedule, rank: int, nbytes: int) -> str:
    """The actions of one rank for a vector of ``nbytes`` bytes."""
    return "\n".join(_trace(rank, schedule.part(rank), _Sizes(schedule, nbytes))) + "\n"


def simgrid_options(network: Network) -> list[str]:
    """SimGrid's settings under which its network is the one described: no factors, the overhead, what is eager."""
    eager = min(int(network.machine.eager) + 1, _MOST_EAGER) if network.machine.eager else 0
    return [
        "network/model:CM02",
        "network/weight-S:0",
        "network/crosstraffic:no",
        "network/TCP-gamma:1e12",
        "network/bandwidth-factor:1",
        "network/latency-factor:1",
        "smpi/simulate-computation:no",
        f"smpi/async-small-thresh:{eager}",
        f"smpi/send-is-detached-thresh:{eager}",
        f"smpi/ois:0:{network.overhead!r}:0",
    ]


def simgrid_platform(network: Network) -> str:
    """The platform: host ``r0``, ``r1``, … for the ranks. Raises TopologyError for more than ``MOST_HOSTS`` of them."""
    p = network.size
    if p > MOST_HOSTS:
        raise TopologyError(f"a platform with every route is written for at most {MOST_HOSTS} ranks, found {p}")
    out = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">',
        '<platform version="4.1">',
        ' <zone id="machine" routing="Full">',
        *(f'  <host id="r{r}" speed="1Gf"/>' for r in range(p)),
    ]
    source, target = (a.ravel() for a in np.indices((p, p)))
    pairs = source != target
    routes = network.routes(source[pairs], target[pairs])
    used = np.unique(routes)
    for link in used[used < network.none].tolist():
        speed, latency = float(network.capacity[link]), float(network.latency[link])
        name = quoteattr(network.link_name(link))
        out.append(f'  <link id={name} bandwidth="{speed!r}Bps" latency="{latency!r}s" sharing_policy="SHARED"/>')
    names = {link: quoteattr(network.link_name(link)) for link in used[used < network.none].tolist()}
    for a, b, row in zip(source[pairs].tolist(), target[pairs].tolist(), routes.tolist(), strict=True):
        links = "".join(f"<link_ctn id={names[x]}/>" for x in row if x != network.none)
        out.append(f'  <route src="r{a}" dst="r{b}" symmetrical="NO">{links}</route>')
    return "\n".join([*out, " </zone>", "</platform>", ""])


def write_simgrid(schedule: Schedule, nbytes: int, folder: Path, network: Network | None = None) -> Path:
    """Write traces, their list ``traces.txt`` (returned), and with a network ``platform.xml`` and ``hosts.txt``.

    Raises TopologyError as :func:`simgrid_platform` does, OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = _Sizes(schedule, nbytes)
    paths = []
    for rank in range(schedule.size):
        path = folder / f"rank{rank}.txt"
        path.write_text("\n".join(_trace(rank, schedule.part(rank), sizes)) + "\n", encoding="ascii")
        paths.append(str(path))
    listing = folder / "traces.txt"
    listing.write_text("\n".join(paths) + "\n", encoding="utf-8")
    if network is not None:
        (folder / "platform.xml").write_text(simgrid_platform(network), encoding="utf-8")
        (folder / "hosts.txt").write_text("".join(f"r{r}\n" for r in range(schedule.size)), encoding="ascii")
    return listing


def goal(schedule: Schedule, nbytes: int) -> Iterator[str]:
    """The lines of a GOAL program for a vector of ``nbytes`` bytes."""
    sizes = _Sizes(schedule, nbytes)
    yield f"num_ranks {schedule.size}"
    for rank in range(schedule.size):
        yield f"rank {rank} {{"
        yield from _goal_rank(rank, schedule.part(rank), sizes)
        yield "}"


def _goal_rank(rank: int, part: RankSchedule, sizes: _Sizes) -> Iterator[str]:
    label, before = 0, 0
    for rnd in part.rounds:
        lines = [f"recv {sizes.of(r.slots)}b from {r.peer} tag 0" for r in rnd.recvs if r.peer != rank]
        lines += [f"send {sizes.of(s.slots)}b to {s.peer} tag 0" for s in rnd.sends if s.peer != rank]
        if not lines:
            continue
        first = label + 1
        for line in lines:
            label += 1
            yield f"l{label}: {line}"
            if before:
                yield f"l{label} requires l{before}"
        last, label = label, label + 1
        yield f"l{label}: calc 0"
        yield from (f"l{label} requires l{x}" for x in range(first, last + 1))
        before = label


def write_goal(schedule: Schedule, nbytes: int, path: Path) -> None:
    """Write a GOAL program. Raises OSError if it cannot be written."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in goal(schedule, nbytes))
