"""Lower bounds of collectives on racks of hosts: the bytes that some link must carry, divided by its rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.cluster import bits_per_second

__all__ = ["bound_us", "uplink_bytes"]


def _share(name: str, groups: Sequence[int]) -> float:
    """Return the share of the vector that some group's link must carry one way; `groups`: ranks in each group."""
    ranks, apart = sum(groups), len(groups) > 1
    if not apart:
        return 0.0
    return {
        "allreduce": 2 * (1 - 1 / len(groups)),
        "allgather": 1 - min(groups) / ranks,
        "reduce_scatter_block": 1 - min(groups) / ranks,
        "alltoall": max(m * (ranks - m) for m in groups) / ranks,
        "bcast": 1,
        "reduce": 1,
    }[name]


def _hosts_and_racks(about: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    hosts = Counter(about["order"])
    racks = Counter(host // about["hosts"] for host in about["order"])
    return list(hosts.values()), list(racks.values())


def bound_us(name: str, size: int, about: Mapping[str, Any]) -> float:
    """Return microseconds below which no schedule can be: the busier of host links and uplinks."""
    hosts, racks = _hosts_and_racks(about)
    host_rate = sum(map(bits_per_second, about["links"]))
    seconds = max(_share(name, hosts) / host_rate, _share(name, racks) / bits_per_second(about["uplink"]))
    return 8e6 * size * seconds


def uplink_bytes(name: str, size: int, about: Mapping[str, Any]) -> int:
    """Return the bytes that must leave all racks together, at least."""
    _, racks = _hosts_and_racks(about)
    ranks = sum(racks)
    times = {"allreduce": 2 * (len(racks) - 1), "alltoall": sum(m * (ranks - m) for m in racks) / ranks}
    return round(size * times.get(name, len(racks) - 1))
