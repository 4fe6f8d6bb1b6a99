"""The machine, found with no argument: Slurm's variables and Slingshot's addresses on emulated hosts. Needs root."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import Cluster, why_not

REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")

PROGRAM = """
import json
from mpi4py import MPI
import topocomm
comm = topocomm.Comm(MPI.COMM_WORLD)
topology = comm.machine_topology
labels = [[label.partition("#")[0] for label in row] for row in topology.labels.tolist()]
seen = [topology.levels, labels, comm.machine_sources, comm.explain("allreduce", 1 << 20).document()["sources"]]
everyone = comm.gather(json.dumps(seen))
if comm.rank == 0:
    assert set(everyone) == {everyone[0]}, everyone
    print(everyone[0])
"""
SLURM = {
    "SLURM_TOPOLOGY_ADDR": "top.{switch}.{host}",
    "SLURM_TOPOLOGY_ADDR_PATTERN": "switch.switch.node",
    "SLURMD_NODENAME": "{host}",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Four hosts: h0 and h3 at switch 5 of group 1, h1 at switch 6, h2 in group 2."""
    with Cluster(racks=2, hosts=2, link="100mbit", uplink="100mbit") as made:
        for host, (group, switch) in enumerate(((1, 5), (1, 6), (2, 5), (1, 5))):
            made.add_card(host, "hsn0", 0x020000000000 | group << 11 | switch << 6 | host)
        yield made


def found(cluster: Cluster, placement: Sequence[int], variables: dict[str, str], **environment: str) -> list[Any]:
    """Levels, labels, sources and explained sources, on as many ranks as ``placement`` has; ``variables`` a host."""
    settings = " ".join(f'{name}="{value}"' for name, value in variables.items())
    settings = settings.format(switch="$([ $h = h1 ] && echo s1 || echo s0)", host="$h")
    command = ["sh", "-c", f'h=$(hostname); {settings} exec "$0" -c "$1"', sys.executable, PROGRAM]
    done = cluster.mpiexec(command, placement=placement, timeout=60, capture=True, env=environment)
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    assert answer[3] == answer[2]
    return answer[:3]


def inner(levels: Sequence[str]) -> list[str]:
    """The levels outside the node, and the node."""
    return list(levels[: levels.index("node") + 1])


def test_slingshot_places_hosts_without_any_file(cluster: Cluster) -> None:
    levels, labels, lines = found(cluster, [2, 0, 3, 1, 0], {})
    assert inner(levels) == ["group", "switch", "node"], lines
    assert [row[:3] for row in labels] == [
        ["2", "5", "h2"], ["1", "5", "h0"], ["1", "5", "h3"], ["1", "6", "h1"], ["1", "5", "h0"]
    ]  # fmt: skip
    assert lines[0] == "slingshot: group, switch from MAC addresses in /sys/class/net/hsn*"
    assert "not slurm: SLURM_TOPOLOGY_ADDR is not set on any node; no topology.conf or topology.yaml" in lines


def test_slurm_comes_before_slingshot(cluster: Cluster) -> None:
    levels, labels, lines = found(cluster, [2, 0, 3, 1], SLURM)
    assert inner(levels) == ["switch2", "switch", "node"]
    assert [row[:3] for row in labels] == [
        ["top", "s0", "h2"], ["top", "s0", "h0"], ["top", "s0", "h3"], ["top", "s1", "h1"]
    ]  # fmt: skip
    assert lines[0] == "slurm: switch2, switch from SLURM_TOPOLOGY_ADDR"
    aside = "slurm comes before it, and they disagree: a group of slingshot crosses a switch of slurm"
    assert f"not slingshot: {aside}" in lines


def test_what_a_launcher_handed_on_is_left_aside(cluster: Cluster) -> None:
    handed_on = {"SLURM_TOPOLOGY_ADDR": "top.s0.h2", "SLURM_TOPOLOGY_ADDR_PATTERN": "switch.switch.node"}
    levels, _, lines = found(cluster, [2, 0, 3, 1], {}, **handed_on)
    assert inner(levels) == ["group", "switch", "node"], lines
    assert any("both have SLURM_TOPOLOGY_ADDR=" in line for line in lines)


@pytest.mark.parametrize(("words", "outer"), [("off", []), ("slingshot,slurm", ["group", "switch"])])
def test_sources_can_be_named(cluster: Cluster, words: str, outer: list[str]) -> None:
    levels, _, lines = found(cluster, [2, 0, 3, 1], SLURM, TOPOCOMM_DISCOVER=words)
    assert inner(levels) == [*outer, "node"]
    assert len(lines) == (0 if words == "off" else 2)


def test_a_place_is_said_per_process(cluster: Cluster) -> None:
    levels, labels, lines = found(cluster, [0, 1, 2, 0], {"TOPOCOMM_PLACE": "rack={switch}"})
    assert (inner(levels), [row[0] for row in labels]) == (["rack", "node"], ["s0", "s1", "s0", "s0"])
    assert lines[0] == "place: rack from TOPOCOMM_PLACE"


def test_a_machine_file_that_knows_other_levels_keeps_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """It was made for another description, and served jobs without one before."""
    machine = tmp_path / "machine.json"
    levels = [{"name": name, "up": 1e9, "down": 1e9, "latency": 1e-6} for name in ("rack", "node")]
    machine.write_text(json.dumps({"format": "topocomm-machine", "version": 1, "levels": levels, "overhead": 1e-6}))
    found_levels, _, lines = found(cluster, [2, 0, 3, 1], {}, TOPOCOMM_MACHINE=str(machine))
    assert inner(found_levels) == ["node"]
    assert lines[0] == f"not slingshot: the machine {machine} does not describe its level group"
