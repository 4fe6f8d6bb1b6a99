"""``tune`` under mpiexec: what is measured and kept, going on after a kill, what is refused before measuring."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from jobs import several
from launch import environment, launch

from topocomm.algorithms import TABLE
from topocomm.choose.measured import dumps_tuning, read_tuning
from topocomm.choose.modelled import Chooser
from topocomm.topology import Topology

PLACES = json.dumps({"format": "topocomm-placement", "version": 1, "levels": ["rack"], "ranks": [["a"], ["b"], ["a"]]})


def tunes(ranks: int, *commands: str, prepare: str = "") -> list[tuple[list[str], list[str], int]]:
    return several(ranks, *(f"tune {words}" for words in commands), prepare=prepare)


def test_points_are_measured_kept_and_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "places.json").write_text(PLACES)
    save = tmp_path / "t.json"
    what = f"--collectives allreduce,alltoall,barrier --repetitions 3 --topology {tmp_path / 'places.json'}"
    first, again, more, ordered, stopped = tunes(
        3,
        f"{what} --all --sizes 4K,16K --save {save}",
        f"{what} --all --sizes 4K,16K --save {save} --resume",
        f"{what} --sizes 4K,64K --save {save} --resume --algorithms ring pairwise",
        f"--ordered --collectives allreduce --sizes 4K --repetitions 3 --save {save} --resume",
        f"{what} --sizes 128K,256K --save {save} --resume --seconds 0.000000001",
        prepare=f"import os\nos.environ['TOPOCOMM_TUNING'] = {str(save)!r}\n",  # the file to be made is no obstacle
    )
    assert [code for _, _, code in (first, again, more, ordered, stopped)] == [0] * 5
    assert [line.split()[:2] for line in first[0][4:]] == [
        ["allreduce", "4096"], ["allreduce", "16384"], ["alltoall", "4095"], ["alltoall", "16383"], ["barrier", "0"],
    ]  # fmt: skip
    assert first[0][1].startswith("# MPI: ")
    assert first[0][2] == "# Placement: 3 ranks, 2 racks of 1-2, not in topology order"
    assert [line.split()[1] for line in first[1]] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert again[0] == first[0]
    assert again[1] == [f"topocomm: 5 of 5 points are in {save} and are skipped"]
    assert more[1][0] == f"topocomm: 3 of 5 points are in {save} and are skipped"
    assert stopped[1][-1] == "topocomm: stopped after 1e-09 s with 4 of 4 points left, --resume goes on"

    kept = {(e.collective, e.nbytes, e.type_class): e for e in read_tuning(save).entries}
    assert set(kept) == {
        ("allreduce", 4096, "commutative"), ("allreduce", 16384, "commutative"), ("alltoall", 4095, "plain"),
        ("alltoall", 16383, "plain"), ("barrier", 0, "plain"), ("allreduce", 65536, "commutative"),
        ("alltoall", 65535, "plain"), ("allreduce", 4096, "ordered"),
    }  # fmt: skip
    assert len({entry.signature for entry in kept.values()}) == 2  # --ordered was without the placement
    allreduce = kept["allreduce", 4096, "commutative"].algorithms
    assert {"native", *TABLE["allreduce"]} <= set(allreduce)
    assert all(":" in name for name in set(allreduce) - {"native", *TABLE["allreduce"]})  # the model's own choice
    assert allreduce["native"].repetitions >= 3
    assert set(kept["alltoall", 65535, "plain"].algorithms) == {"native", "pairwise"}
    in_order = {name for name, entry in TABLE["allreduce"].items() if entry.in_order and not entry.baseline}
    assert set(kept["allreduce", 4096, "ordered"].algorithms) == {"native", *in_order}


def test_what_cannot_be_measured_or_kept_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text('{"format": "topocomm-tuning", "version": 1, "entries": []}')
    (tmp_path / "bad.json").write_text("{}")
    found = tunes(2, f"--save {tmp_path / 'there.json'}")
    found += tunes(
        1,
        f"--save {tmp_path / 'no' / 't.json'}",
        f"--save {tmp_path / 'bad.json'} --resume",
        "--sizes 1 --collectives allreduce",
        f"--topology {tmp_path / 'nothing'}",
        "--collectives alltoall --algorithms bruck:radix=1",
    )
    wanted = [
        "there.json exists; --resume goes on with it, or name another file",
        "t.json: cannot be written: No such file or directory",
        "bad.json: 'format' must be 'topocomm-tuning', found None",
        "no size of 1 to 1 bytes gives each of 1 ranks an element; give larger --sizes",
        "nothing: cannot be read: ",
        "unknown option 'radix=1'",
    ]
    for (out, err, code), says in zip(found, wanted, strict=True):
        assert (out, code) == ([], 2)
        assert len(err) == 1, err
        assert says in err[0]


WRONG = """
from topocomm.cli.bench.workloads import Allreduce
right = Allreduce.result
Allreduce.result = lambda self, root, i: right(self, root, i) + (self.shape.count == 4096)
"""


def test_a_wrong_result_ends_the_session_and_is_not_kept(tmp_path: Path) -> None:
    save = tmp_path / "t.json"
    ((out, err, code),) = tunes(
        2, f"--collectives allreduce --sizes 8K,16K,32K --repetitions 2 --save {save}", prepare=WRONG
    )
    assert code == 1
    assert err[-1].startswith("DATA VALIDATION ERROR: allreduce of 16384 bytes: native: rank 0: receive buffer")
    assert [line.split()[1] for line in out[4:]] == ["8192"]
    assert [entry.nbytes for entry in read_tuning(save).entries] == [8192]


def test_a_killed_session_leaves_a_whole_file_and_goes_on(tmp_path: Path) -> None:
    save = tmp_path / "t.json"
    command = [sys.executable, "-m", "topocomm", "tune", "--collectives", "allreduce,bcast", "--save", str(save)]
    command += ["--sizes", "1K:64K", "--repetitions", "1000", "--resume"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (save.exists() and read_tuning(save).entries):
            time.sleep(0.002)
        job.kill()
        job.communicate()
    left = read_tuning(save)
    assert 0 < len(left.entries) < 14
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(left.entries)} of 14 points are in {save} and are skipped" in done.stderr
    kept = read_tuning(save)
    assert len(kept.entries) == 14
    assert {dumps_tuning(left).splitlines()[1].rstrip(",")} <= {
        line.rstrip(",") for line in dumps_tuning(kept).splitlines()
    }


ELIMINATION = """
import numpy as np
from topocomm.cli.tune import point
seconds = {"native": 0.07, "hopeless": 0.09, "slow": 0.05, "good": 0.02}
verified = []
point.verify = lambda world, calls, workload, last: verified.append((last, *calls))
point.slowest = lambda world, calls, workload, n: np.array([[seconds[name]] * n for name in calls])
for repetitions in (10, None):
    found = point.measure_point(None, seconds, None, repetitions)
    print({name: timing.repetitions for name, timing in found.items()})
print(found["good"], verified[-2:])
"""


def test_hopeless_candidates_drop_out_and_native_never_does() -> None:
    done = launch(1, ["-c", ELIMINATION])
    assert done.stdout.splitlines() == [
        "{'native': 10, 'hopeless': 1, 'slow': 3, 'good': 10}",
        "{'native': 12, 'hopeless': 1, 'slow': 3, 'good': 12}",  # 12 × 0.09 s are about a second
        "Timing(median=0.02, repetitions=12, spread=0.0) "
        "[(False, 'native', 'hopeless', 'slow', 'good'), (True, 'native', 'good')]",
    ], done.stderr


def test_what_the_model_would_choose_is_measured_with_its_options(tmp_path: Path) -> None:
    hosts = [["a", "h0"], ["b", "h1"], ["a", "h2"], ["b", "h3"]]
    there = {"format": "topocomm-placement", "version": 1, "levels": ["rack", "node"], "ranks": hosts}
    (tmp_path / "places.json").write_text(json.dumps(there))
    chosen = Chooser(Topology(("rack", "node"), list(map(tuple, hosts)))).choose("bcast", 1 << 20)
    assert chosen.is_ours
    assert ":" in chosen.algorithm
    save = tmp_path / "t.json"
    what = f"--collectives bcast --sizes 1M --repetitions 1 --topology {tmp_path / 'places.json'} --save {save}"
    (done,) = tunes(4, what)
    assert done[2] == 0, done
    measured = set(read_tuning(save).entries[0].algorithms)
    assert {"native", chosen.algorithm} < measured
    assert measured - {chosen.algorithm, "native"} <= set(TABLE["bcast"])
