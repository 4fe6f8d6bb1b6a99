"""SimGrid's own collectives give right results under every selector, and the check sees it where they do not."""

import re
import shutil
import subprocess

import pytest

from bench.studies.simgrid import SELECTORS, build

COLLECTIVES = ("allreduce", "allgather", "reduce_scatter", "alltoall", "bcast", "reduce")
PLATFORM = """<?xml version="1.0"?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
 <cluster id="c" prefix="n" suffix="" radical="0-7" speed="1Gf" bw="12.5GBps" lat="1us"/>
</platform>
"""
MOVES_NOTHING = """
#include <cstddef>
namespace simgrid::kernel::activity { class CommImpl; }
void smpi_comm_copy_buffer_callback(simgrid::kernel::activity::CommImpl*, void*, std::size_t) {}
"""
pytestmark = pytest.mark.skipif(
    shutil.which("smpirun") is None or shutil.which("smpicxx") is None, reason="SimGrid is not installed"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simgrid")
    (folder / "platform.xml").write_text(PLATFORM, encoding="ascii")
    (folder / "hosts.txt").write_text("".join(f"n{i}\n" for i in range(8)), encoding="ascii")
    return build(folder)


def wrong_elements(built, selector, collective, *before):
    call = ["smpirun", "-no-privatize", "-np", "8", "-platform", built / "platform.xml"]
    call += ["-hostfile", built / "hosts.txt", *before, built / "check", collective, "4096"]
    call += [f"--cfg=smpi/coll-selector:{selector}"]
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Wrong elements: (\d+)", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1])


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors_compute_what_is_asked(built, selector):
    assert {c: wrong_elements(built, selector, c) for c in COLLECTIVES} == dict.fromkeys(COLLECTIVES, 0)


def test_a_wrong_result_is_seen(built):
    source, library = built / "nothing.cpp", built / "nothing.so"
    source.write_text(MOVES_NOTHING, encoding="ascii")
    subprocess.run(["g++", "-std=gnu++17", "-shared", "-fPIC", source, "-o", library], check=True)
    for collective in COLLECTIVES:
        assert wrong_elements(built, "ompi", collective, "-wrapper", f"env LD_PRELOAD={library}") > 0, collective
