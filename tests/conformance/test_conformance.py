"""The drop-in communicator under mpiexec: one launch a rank count, which runs all checks of this directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import check_arrays  # noqa: F401
import check_choosing  # noqa: F401
import check_coverage  # noqa: F401
import check_engines  # noqa: F401
import check_errors  # noqa: F401
import check_habits  # noqa: F401
import check_kinds  # noqa: F401
import check_known  # noqa: F401
import check_matrix  # noqa: F401
import check_memory  # noqa: F401
import check_merging  # noqa: F401
import check_objects  # noqa: F401
import check_operations  # noqa: F401
import check_private  # noqa: F401
import check_shared  # noqa: F401
import check_stress  # noqa: F401
import check_types  # noqa: F401
import check_vectors  # noqa: F401
import check_waiting  # noqa: F401
import pytest
from harness import expected
from launch import launch

from topocomm.choose.trace import read_trace

HERE = Path(__file__).parent


RESULTS = (
    *("every_collective_and_algorithm_agrees_with_the_library", "derived_communicators_agree_with_the_library"),
    *("every_algorithm_gives_the_same_again", "bits_are_equal_on_all_ranks"),
)
"""Checks of what calls compute."""


def _pass(ranks: int, checks: list[str], arguments: Sequence[str] = (), **env: str) -> None:
    """Run the program and expect that these checks ran and passed."""
    done = launch(ranks, ["-m", "mpi4py", str(HERE / "program.py"), *arguments], timeout=400, env=env)
    passed = [line[3:] for line in done.stdout.splitlines() if line.startswith("ok ")]
    assert done.returncode == 0, done.stderr
    assert passed == checks
    assert len(checks) > 3


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8])
def test_every_check_passes(ranks: int) -> None:
    _pass(ranks, expected(ranks))


@pytest.mark.parametrize("ranks", [1, 3])
def test_checks_pass_where_nothing_is_remembered(ranks: int) -> None:
    """The Python path alone, which calls take that the recogniser does not know."""
    names = (*RESULTS, "what_mpi4py_refuses_is_refused_alike", "errors_go_to_the_handler_of_the_communicator")
    wanted = [name for name in expected(ranks) if name in names]
    _pass(ranks, wanted, wanted, TOPOCOMM_MEMO="0")


def test_checks_pass_with_programs_reloaded_from_their_bytes() -> None:
    """By the engine in Python, too; the one in C knows nothing else of a program."""
    wanted = [name for name in expected(3) if name in RESULTS]
    _pass(3, wanted, ["--reload", *wanted], TOPOCOMM_ENGINE="python", TOPOCOMM_MEMO="0")


@pytest.mark.parametrize("ranks", [2, 4])
def test_checks_pass_over_notified_puts(ranks: int) -> None:
    wanted = [name for name in expected(ranks) if name in RESULTS]
    _pass(ranks, wanted, wanted, TOPOCOMM_TRANSPORTS="ofi,mpi")


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_every_check_passes_through_shared_memory(ranks: int) -> None:
    _pass(ranks, expected(ranks), TOPOCOMM_TRANSPORTS="shm")


def _run(tmp_path: Path, ranks: int, text: str, env: Mapping[str, str]) -> CompletedProcess[str]:
    path = tmp_path / "program.py"
    path.write_text("import numpy as np, topocomm\nfrom mpi4py import MPI\n" + text)
    return launch(ranks, ["-m", "mpi4py", str(path)], timeout=60, env=env)


def test_the_environment_names_topology_algorithm_and_trace(tmp_path: Path) -> None:
    """By rank, with a communicator that is a part of the world in another order; and the trace on standard error."""
    rows = [["g0"], ["g1"], ["g0"], ["g1"]]
    placement = {"format": "topocomm-placement", "version": 1, "levels": ["group"], "ranks": rows}
    (tmp_path / "place.json").write_text(json.dumps(placement))
    text = """
comm = topocomm.Comm(MPI.COMM_WORLD)
assert [int(x) for x in comm.machine_topology.places[:, 0]] == [0, 1, 0, 1]
part = topocomm.Comm(MPI.COMM_WORLD.Split(0, -comm.rank))
assert part.machine_topology.labels[:, 0].tolist() == ["g1", "g0", "g1", "g0"]
for _ in range(3):
    comm.Allreduce(np.ones(3), out := np.zeros(3))
    assert (out == 4).all()
"""
    names = {"TOPOCOMM_TOPOLOGY": str(tmp_path / "place.json"), "TOPOCOMM_ALLREDUCE": "ring", "TOPOCOMM_TRACE": "1"}
    done = _run(tmp_path, 4, text, names)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("topocomm: ")]
    assert len(lines) == 1, done.stderr
    assert "allreduce, 24 bytes: ring" in lines[0]
    assert "TOPOCOMM_ALLREDUCE" in lines[0]


def test_the_trace_names_calls_that_are_not_covered(tmp_path: Path) -> None:
    """Each once, whoever calls it how often; covered ones have their own lines."""
    text = """
comm = topocomm.Comm(MPI.COMM_WORLD)
for _ in range(3):
    comm.Gatherv(np.ones(1), np.zeros(2))
    comm.Igatherv(np.ones(1), np.zeros(2)).Wait()
    comm.scan(1)
    comm.bcast(None)
    comm.Barrier()
"""
    done = _run(tmp_path, 2, text, {"TOPOCOMM_TRACE": "1"})
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "not covered by topocomm" in line]
    assert len(told) == 3, done.stderr
    for line, name in zip(told, ("Gatherv", "Igatherv", "scan"), strict=True):
        assert name in line


def test_a_communicator_that_outlives_our_modules_ends_in_silence(tmp_path: Path) -> None:
    """A compiler that keeps globals of a program, as Numba's does, frees it when the interpreter empties modules."""
    text = """
import topocomm.engines.c
apart = topocomm.Topology(("node",), [[0], [1]])
comm = topocomm.Comm(MPI.COMM_WORLD, topology=apart, algorithm={"allreduce": "ring"})
comm.Allreduce(np.ones(8), out := np.zeros(8))
assert (out == 2).all()
np.kept, np.module = comm, topocomm.engines.c
"""
    done = _run(tmp_path, 2, text, {})
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr


def test_a_placement_by_node_and_files_that_do_not_fit(tmp_path: Path) -> None:
    text = f"""
import json
host = MPI.Get_processor_name()
world = MPI.COMM_WORLD
def write(name, **keys):
    if world.rank == 0:
        open({str(tmp_path)!r} + "/" + name, "w").write(
            json.dumps({{"format": "topocomm-placement", "version": 1, **keys}}))
    world.Barrier()
    return {str(tmp_path)!r} + "/" + name
comm = topocomm.Comm(world, topology=write("node.json", levels=["rack"], nodes={{host: ["r7"]}}))
assert comm.machine_topology.levels == ("rack", "node")
for path in (
    write("other.json", levels=["rack"], nodes={{"elsewhere": ["r7"]}}),
    write("more.json", levels=["node"], ranks=[["n"]] * 7),
    write("bad.json", levels=["node"], ranks=[["n", "m"]] * world.size),
    write("none.json", levels=["node"]),
    {str(tmp_path)!r},
    {str(tmp_path)!r} + "/missing",
):
    try:
        topocomm.Comm(world, topology=path)
    except topocomm.TopologyError as e:
        assert path in str(e), e
    else:
        raise AssertionError(path)
if world.rank == 0:
    print("all refused")
"""
    done = _run(tmp_path, 2, text, {})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "all refused"


def test_a_description_that_includes_files_and_needs_the_hosts_of_the_job(tmp_path: Path) -> None:
    """Rank 0 reads it whole: other files beside it, and which dots of an address are the node's."""
    text = f"""
import os
world, folder, host = MPI.COMM_WORLD, {str(tmp_path)!r}, MPI.Get_processor_name()
def write(name, text):
    if world.rank == 0:
        open(f"{{folder}}/{{name}}", "w").write(text)
    world.Barrier()
    return f"{{folder}}/{{name}}"
def places(path):
    return topocomm.Comm(world, topology=path).machine_topology.labels[:, :-1].tolist()
write("leaves.conf", f"SwitchName=l1 Nodes={{host}}\\n")
conf = write("topology.conf", "Include leaves.conf\\nSwitchName=top Switches=l1\\n")
assert places(conf) == [["top", "l1"]] * 2
pattern = "SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\\n"
assert places(write("addr", f"SLURM_TOPOLOGY_ADDR=s.2.1.s.1.1.{{host}}\\n{{pattern}}")) == [["s.2.1", "s.1.1"]] * 2
yaml = "- topology: a\\n  flat: true\\n- topology: b\\n  tree: {{switches: [{{switch: l1, nodes: %s}}]}}\\n" % host
assert places(write("topology.yaml", yaml) + "#b") == [["l1"]] * 2
write("leaves.conf", "SwitchName=l1 Nodes=n[1\\n")
try:
    topocomm.Comm(world, topology=conf)
except topocomm.TopologyError as e:
    assert "leaves.conf: line 1: host list" in str(e), e
else:
    raise AssertionError("read")
"""
    done = _run(tmp_path, 2, text, {})
    assert done.returncode == 0, done.stderr


def test_a_program_may_end_without_freeing(tmp_path: Path) -> None:
    text = """
keep = [topocomm.Comm(c, algorithm={"barrier": "dissemination"}) for c in (MPI.COMM_WORLD, MPI.COMM_WORLD.Dup())]
for comm in keep:
    comm.Barrier()
    comm.Split(0).Barrier()
"""
    done = _run(tmp_path, 2, text, {})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_rank_that_raises_ends_the_job(tmp_path: Path) -> None:
    text = """
comm = topocomm.Comm(MPI.COMM_WORLD, topology=topocomm.Topology(("node",), [[0], [0], [1]]))
if comm.rank == 1:
    raise RuntimeError("on purpose")
comm.Barrier()
"""
    done = _run(tmp_path, 3, text, {})
    assert done.returncode != 0
    assert "on purpose" in done.stderr


def test_spawned_processes_share_a_merged_communicator(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "from mpi4py import MPI\nimport numpy as np\n"
        "merged = MPI.Comm.Get_parent().Merge(True)\n"
        "merged.Allreduce(np.ones(1), out := np.zeros(1))\nassert out[0] == merged.size\nmerged.Free()\n"
    )
    text = f"""
import sys
comm = topocomm.Comm(MPI.COMM_WORLD)
merged = comm.Spawn(sys.executable, [{str(child)!r}], 1).Merge(False)
merged.Allreduce(np.ones(1), out := np.zeros(1))
assert out[0] == merged.size == 2
merged.Free()
print("done")
"""
    done = _run(tmp_path, 1, text, {})
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_messages_beyond_32_bits_go_in_pieces() -> None:
    """No memory is touched: pieces stay within the reach of MPI's int, and add up."""
    text = """
import numpy as np
from topocomm.engines import python
for nbytes in (0, 1, 2**30, 2**30 + 1, 2**31 + 5, 2**35):
    data = np.broadcast_to(np.zeros(1, np.uint8), nbytes)
    sizes = [len(piece) for piece in python._pieces(data)]
    assert sum(sizes) == nbytes
    assert len(sizes) == max(1, -(-nbytes // python.LARGEST))
    assert max(sizes) <= python.LARGEST <= 2**31 - 1
print("done")
"""
    done = launch(1, ["-c", text])
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


CARRIED = """
nodes = topocomm.Topology(("node",), [[r // 2] for r in range(3)])
comm = topocomm.Comm(MPI.COMM_WORLD, algorithm="ring", topology=nodes)
assert comm.explain("allreduce", 8000).carried == ""
for _ in range(3):
    comm.Allreduce(np.ones(1000), out := np.zeros(1000))
    assert (out == comm.size).all()
assert comm.rank == 2 or {expected!r} in str(comm.explain("allreduce", 8000)), comm.explain("allreduce", 8000)
"""


def test_explain_names_what_carries_messages(tmp_path: Path) -> None:
    puts, absent = (
        "messages to other ranks by ofi (",
        "messages to other ranks by mpi: 2 (node 1, farther 1); no ofi here: no",
    )
    memory = "messages to other ranks by shm: 2 (node 1, farther 1)"
    for words, expected_text, provider in (
        ("ofi,mpi", puts, "tcp"), ("mpi,ofi", absent, "nosuch"), ("ofi,shm", memory, "tcp"), ("shm", memory, "tcp"),
    ):  # fmt: skip
        env = {"TOPOCOMM_TRANSPORTS": words, "TOPOCOMM_RMA_PROVIDER": provider}
        done = _run(tmp_path, 3, CARRIED.format(expected=expected_text), env)
        assert done.returncode == 0, done.stderr


def test_unknown_transports_are_refused(tmp_path: Path) -> None:
    done = _run(tmp_path, 2, "topocomm.Comm(MPI.COMM_WORLD)", {"TOPOCOMM_TRANSPORTS": "pigeons,mpi"})
    assert done.returncode != 0
    assert "TOPOCOMM_TRANSPORTS=pigeons,mpi: may name shm, ofi, mpi, separated by commas" in done.stderr


def test_calls_are_counted_by_rank_0_of_their_communicator(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np, topocomm\nfrom mpi4py import MPI\n"
        "w = MPI.COMM_WORLD\n"
        "c = topocomm.Comm(w, topology=topocomm.Topology(('node',), [(r // 2,) for r in range(w.size)]))\n"
        "for _ in range(5):\n    c.Allreduce(np.ones(3), np.zeros(3))\n"
        "c.Bcast(np.ones(1 << 16), 1)\n"
        "part = c.Split(w.rank > 0, w.rank)\n"
        "part.Barrier()\n"
        "part.Allgather(np.ones(2), np.ones(2 * part.size))\n"
    )
    done = launch(4, ["-m", "mpi4py", str(program)], env={"TOPOCOMM_RECORD": str(tmp_path / "calls.json")})
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.glob("calls*")} == {"calls.json", "calls.json.1"}
    world = read_trace(str(tmp_path / "calls.json"))
    counted = {(c.collective, c.nbytes, c.root, c.topology.size): c.count for c in world}
    assert counted["allreduce", 24, 0, 4] == 5
    assert counted["bcast", 1 << 19, 1, 4] == 1
    beside = {(c.collective, c.nbytes, c.topology.size) for c in read_trace(str(tmp_path / "calls.json.1"))}
    assert beside == {("barrier", 0, 3), ("allgather", 48, 3)}


KEPT = """
places = topocomm.Topology(("group", "node"), [(r // 2, r) for r in range(4)])
comm = topocomm.Comm(MPI.COMM_WORLD, topology=places)
comm.Allreduce(np.ones(1 << 13), out := np.zeros(1 << 13))
assert (out == comm.size).all()
names = {tuple(d.algorithm for d in comm.decisions)}
everyone = set().union(*MPI.COMM_WORLD.allgather(names))
assert len(everyone) == 1, everyone
print(*everyone) if comm.rank == 0 else None
"""


def test_choices_kept_across_runs_are_everybodys(tmp_path: Path) -> None:
    env = {"TOPOCOMM_CACHE": str(tmp_path / "kept")}
    first = _run(tmp_path, 4, KEPT, env)
    assert first.returncode == 0, first.stderr
    (path,) = (tmp_path / "kept").iterdir()
    document = json.loads(path.read_text())
    (row,) = document["choices"]
    assert repr(row[4]) in first.stdout
    row[4], row[5] = "ring", row[7] / 2
    path.write_text(json.dumps(document))
    second = _run(tmp_path, 4, KEPT, env)
    assert second.stdout.split() == ["('ring',)"], second.stderr
    path.write_text(path.read_text()[:-5])
    third = _run(tmp_path, 4, KEPT, env)
    assert third.stdout == first.stdout, third.stderr
    assert third.stderr.count("is left aside") == 1
    assert repr(json.loads(path.read_text())["choices"][0][4]) in first.stdout, "it is written anew"
