"""Measured discovery and calibration over real links: the racks of an emulated cluster. Needs root."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.cluster import Cluster, why_not
from topocomm.model import read_machine
from topocomm.topology import read_placement

REASON = why_not()


@pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")
def test_racks_are_found_and_their_links_measured(tmp_path: Path) -> None:
    """Uplinks as fast as the links of hosts: one stream notices nothing, only all together do."""
    place, machine = tmp_path / "place.json", tmp_path / "machine.json"
    command = [sys.executable, "-m", "topocomm", "calibrate", "--seconds", "12"]
    command += ["--save", str(machine), "--save-topology", str(place)]
    with Cluster(racks=2, hosts=2, link="40mbit", uplink="40mbit") as cluster:
        for _ in range(3):  # a machine that is busy for a moment hides them
            done = cluster.mpiexec(command, placement=[3, 0, 2, 1], timeout=60, capture=True)
            assert done.returncode == 0, done.stderr
            if read_placement(place).levels:
                break
    assert read_placement(place).levels == ("group",), done.stdout
    nodes = read_placement(place).nodes
    assert nodes is not None
    assert nodes["h0"] == nodes["h1"] != nodes["h2"] == nodes["h3"]
    found = read_machine(machine)
    assert [level.name for level in found.levels] == ["group", "node"]
    for level in found.levels:
        assert 0.6 < level.up * level.links / 5e6 < 1.4, done.stdout
        assert 0.6 < level.down * level.links / 5e6 < 1.4, done.stdout
    assert "MB/s" in done.stdout
    assert "calibrate: " in done.stderr
