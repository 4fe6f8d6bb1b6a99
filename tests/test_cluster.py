"""The emulated cluster: does it shape, count, name, place and tidy up? Needs root; no MPI in this process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cluster import Cluster, ClusterError, bits_per_second, launchers, main, namespaces, place, why_not

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "bench.cluster", "run"]
PIPE: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
REASON = why_not()
emulated = pytest.mark.skipif(REASON is not None, reason=f"no cluster can be emulated here: {REASON}")

ALLREDUCE = """
import numpy
from mpi4py import MPI
comm = MPI.COMM_WORLD
result = numpy.zeros(int({count}))
comm.Allreduce(numpy.full(int({count}), comm.rank + 1.0), result)
print(f"<{{comm.rank}} {{MPI.Get_processor_name()}} {{result.min():g}} {{result.max():g}}>", flush=True)
"""

FAIL = "from mpi4py import MPI; raise SystemExit({code})"

RACE = """
import socket, sys, threading
role, *addresses = sys.argv[1:]
count = [0, 0]
def send(address):
    with socket.create_connection((address, 7000)) as link:
        try:
            while True:
                link.sendall(bytes(65536))
        except OSError:
            pass
def receive(link, rail):
    while count[0] < 2_000_000:
        count[rail] += len(link.recv(65536))
if role == "send":
    work = [threading.Thread(target=send, args=[address]) for address in addresses]
else:
    servers = [socket.create_server((address, 7000)) for address in addresses]
    print("ready", flush=True)
    links = [server.accept()[0] for server in servers]
    work = [threading.Thread(target=receive, args=[link, rail]) for rail, link in enumerate(links)]
for thread in work:
    thread.start()
for thread in work:
    thread.join()
print(*count)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(racks=2, hosts=2, link="100mbit", uplink="50mbit") as made:
        yield made


def left_behind() -> list[str]:
    mine = re.compile(rf"{namespaces.PREFIX}-{os.getpid()}-")
    files = [path.name for folder in (namespaces.scratch_of(""), namespaces.memory_of("")) for path in folder.iterdir()]
    places = [*namespaces.namespaces_here(), *files]
    return [name for name in places if mine.match(name)]


def wait_for(process: subprocess.Popen[Any], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n"


# -- without a cluster


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("block", [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        ("cyclic", [0, 3, 1, 4, 2, 5, 0, 3, 1, 4, 2, 5]),
        ([5, 0, 0], [5, 0, 0]),
    ],
)
def test_place(placement: str | list[int], expected: list[int]) -> None:
    assert place(placement, racks=2, hosts=3, ranks_per_host=2) == expected


def test_place_random_is_a_seeded_permutation() -> None:
    first, again, other = (place(f"random:{seed}", 4, 4, 2) for seed in (1, 1, 2))
    assert first == again != other
    assert Counter(first) == Counter(place("block", 4, 4, 2))


@pytest.mark.parametrize("placement", ["blocks", "random", "random:x", [0, 4], [-1]])
def test_place_refuses(placement: str | list[int]) -> None:
    with pytest.raises(ClusterError, match="placement"):
        place(placement, racks=2, hosts=2)


@pytest.mark.parametrize("rate", ["40", "fast", "-1mbit", "0mbit", "40mbyte"])
def test_rate_refused(rate: str) -> None:
    with pytest.raises(ClusterError, match=f"rate '{rate}'"):
        Cluster(link=rate)


def test_rate_understood() -> None:
    assert [bits_per_second(rate) for rate in ("1.5kbit", "40mbit", "1gbit")] == [1500, 40e6, 1e9]


def test_not_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["run", "--", "true"]) == 2
    assert "need root" in capsys.readouterr().err


def test_tools_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match="ip, tc, bridge"):
        Cluster().__enter__()


def test_openmpi_mapping_names_no_path(tmp_path: Path) -> None:
    """Its parser takes the letters "pe" in a path for an option."""
    job = launchers.Job(Path("mpiexec"), ["true"], ["h1", "h0"], tmp_path / "agent", ["e0"], tmp_path)
    command = launchers.openmpi(job).command
    assert command[command.index("--map-by") + 1] == "seq:oversubscribe"
    assert Path(command[command.index("--hostfile") + 1]).read_text() == "h1\nh0\n"


# -- the network


@emulated
def test_host_names_differ(cluster: Cluster) -> None:
    processes = [cluster.host_command(host, ["hostname"], stdout=subprocess.PIPE, text=True) for host in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ["h0", "h1", "h2", "h3"]
    assert os.uname().nodename not in {"h0", "h1", "h2", "h3"}


@emulated
def test_hosts_share_no_memory(cluster: Cluster) -> None:
    write, read = ["sh", "-c", "echo found >/dev/shm/topocomm-probe"], ["cat", "/dev/shm/topocomm-probe"]
    assert cluster.host_command(0, write).wait() == 0
    assert cluster.host_command(0, read, **PIPE).communicate()[0] == "found\n"
    assert cluster.host_command(1, read, stderr=subprocess.DEVNULL).wait() != 0
    assert not Path("/dev/shm/topocomm-probe").exists()


@emulated
def test_every_link_is_shaped_at_both_ends(cluster: Cluster) -> None:
    rates: dict[str, int] = {}
    for namespace in (cluster.switch, cluster.namespace(3)):
        queues = json.loads(namespaces.run(["tc", "-j", "-n", namespace, "qdisc"]))
        rates |= {queue["dev"]: queue["options"]["rate"] * 8 for queue in queues if queue["kind"] == "tbf"}
    uplinks = {f"r{rack}{end}": 50_000_000 for rack in range(2) for end in ("up", "core")}
    assert rates == uplinks | {f"h{host}e0": 100_000_000 for host in range(4)} | {"e0": 100_000_000}


@emulated
def test_slow_link_carries_its_share() -> None:
    """While 2 MB pass a 40 Mbit/s link, a quarter of that passes the 10 Mbit/s link beside it."""
    with Cluster(racks=1, hosts=2, nics=2, link="40mbit", nic2_rate="10mbit") as pair:
        addresses = [pair.address(1, nic) for nic in range(2)]
        receiver = pair.host_command(1, [sys.executable, "-c", RACE, "receive", *addresses], **PIPE)
        wait_for(receiver, "ready")
        sender = pair.host_command(0, [sys.executable, "-c", RACE, "send", *addresses])
        fast, slow = map(int, receiver.communicate()[0].split())
        sender.wait()
        assert 3 < fast / slow < 5.5
        links = pair.counters()
        assert links["h0/e0"].up_bytes > fast
        assert links["h0/e1"].up_bytes > slow
        assert links["r0"].up_packets == links["r0"].down_packets == 0


# -- MPI on it


@emulated
def test_allreduce_crosses_uplinks(cluster: Cluster) -> None:
    count = 8192
    before = cluster.counters()
    program = [sys.executable, "-c", ALLREDUCE.format(count=count)]
    done = cluster.mpiexec(program, placement="cyclic", timeout=40, capture=True)
    assert done.returncode == 0, done.stderr
    said = sorted(re.findall(r"<(.*?)>", done.stdout))
    assert said == ["0 h0 10 10", "1 h2 10 10", "2 h1 10 10", "3 h3 10 10"]
    for rack in ("r0", "r1"):
        moved = cluster.counters()[rack].since(before[rack])
        assert moved.up_bytes > 8 * count * 0.99  # what one rack knows must reach the other
        assert moved.down_bytes > 8 * count * 0.99
        assert moved.dropped == 0


@emulated
def test_pair_in_one_rack_leaves_uplinks_alone(cluster: Cluster) -> None:
    count = 8192
    before = cluster.counters()
    program = [sys.executable, "-c", ALLREDUCE.format(count=count)]
    done = cluster.mpiexec(program, placement=[2, 3], timeout=40, capture=True)
    assert done.returncode == 0, done.stderr
    after = cluster.counters()
    moved = {link: after[link].since(before[link]) for link in after}
    assert moved["r0"] == moved["r1"] == moved["h0/e0"] == (0, 0, 0, 0, 0)
    assert moved["h2/e0"].up_bytes > 8 * count * 0.99


@emulated
def test_ranks_of_one_host_use_no_link(cluster: Cluster) -> None:
    before = cluster.counters()
    program = [sys.executable, "-c", ALLREDUCE.format(count=8192)]
    done = cluster.mpiexec(program, placement=[1, 1], timeout=40, capture=True)
    assert done.returncode == 0, done.stderr
    assert cluster.counters() == before


@emulated
def test_ranks_follow_any_order(cluster: Cluster) -> None:
    order = [3, 1, 3, 0, 2, 1]
    program = [sys.executable, "-c", ALLREDUCE.format(count=1)]
    done = cluster.mpiexec(program, placement=order, timeout=40, capture=True)
    assert done.returncode == 0, done.stderr
    hosts = [line.split()[1] for line in sorted(re.findall(r"<(.*?)>", done.stdout))]
    assert hosts == [f"h{host}" for host in order]


@emulated
def test_command_line(tmp_path: Path) -> None:
    topology, counters = tmp_path / "topology.json", tmp_path / "counters.json"
    options = ["--racks", "2", "--hosts", "1", "--placement", "random:3", "--topology-out", str(topology)]
    check = (
        f"from bench import cluster; import json; print(json.dumps(cluster.context()['order'])); {FAIL.format(code=5)}"
    )
    done = subprocess.run(
        [*COMMAND, *options, "--counters-out", counters, "--", "python", "-c", check],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    order = place("random:3", 2, 1)
    assert json.dumps(order) in done.stdout
    rows = [[f"r{host}", f"h{host}"] for host in order]
    expected = {"format": "topocomm-placement", "version": 1, "levels": ["rack", "node"], "ranks": rows}
    assert json.loads(topology.read_text()) == expected
    assert set(json.loads(counters.read_text())) == {"r0", "r1", "h0/e0", "h1/e0"}


@emulated
def test_wrong_mpi_refused(cluster: Cluster) -> None:
    fitting = []
    for mpi in ("mpich", "openmpi", "impi"):
        try:
            fitting += [mpi] if cluster.mpiexec(["true"], placement=[0], mpi=mpi, timeout=40).returncode == 0 else []
        except ClusterError as error:
            assert f"not {mpi}" in str(error)  # noqa: PT017
    assert len(fitting) == 1


# -- tidying up


@emulated
def test_failing_program_leaves_nothing() -> None:
    others = left_behind()
    with Cluster(racks=1, hosts=2) as pair:
        made = [pair.switch, *(pair.namespace(host) for host in range(2))]
        assert set(made) <= set(namespaces.namespaces_here())
        stray = pair.host_command(0, ["sleep", "1000"])
        done = pair.mpiexec([sys.executable, "-c", FAIL.format(code=3)], timeout=40, capture=True)
        assert done.returncode == 3
    assert stray.wait(timeout=30) == -signal.SIGKILL
    assert left_behind() == others


@emulated
def test_hanging_program_is_ended_with_its_stacks() -> None:
    others = left_behind()
    hang = "import time\nfrom mpi4py import MPI\ndef stuck():\n    time.sleep(1000)\nstuck()"
    with Cluster(racks=1, hosts=2) as pair:
        done = pair.mpiexec([sys.executable, "-c", hang], timeout=10, capture=True)
        assert done.returncode == 124
        for rank in range(2):
            assert f"-- rank {rank}\n" in done.stderr
        assert done.stderr.count("in stuck\n") == 2
        assert [namespaces.pids_in(pair.namespace(host)) for host in range(2)] == [[], []]
    assert left_behind() == others


@emulated
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_interrupted_run_leaves_nothing(number: signal.Signals, code: int) -> None:
    command = [*COMMAND, "--racks", "1", "--hosts", "2", "--", "sh", "-c", "echo up; sleep 1000"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may hand it on ignored
    process = subprocess.Popen(command, cwd=ROOT, **PIPE)
    signal.signal(signal.SIGINT, before)
    wait_for(process, "up")
    ours = [name for name in namespaces.namespaces_here() if f"-{process.pid}-" in name]
    assert len(ours) == 3
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    if number == signal.SIGKILL:  # nobody was left to tidy up: the next run does
        assert set(ours) <= set(namespaces.namespaces_here())
        with Cluster(racks=1, hosts=1):
            pass
    process.communicate()
    assert not set(ours) & set(namespaces.namespaces_here())


@emulated
def test_two_runs_at_once(cluster: Cluster) -> None:
    with Cluster(racks=2, hosts=2) as other:
        namespaces.remove_leftovers()
        before = other.counters()
        reach = "import socket, sys; socket.create_connection((sys.argv[1], 7000)).close()"
        serve = "import socket, sys; s = socket.create_server((sys.argv[1], 7000)); print('up', flush=True); s.accept()"
        server = cluster.host_command(3, [sys.executable, "-c", serve, cluster.address(3)], **PIPE)
        wait_for(server, "up")
        assert other.host_command(0, [sys.executable, "-c", reach, cluster.address(3)], stderr=-3).wait() != 0
        assert cluster.host_command(0, [sys.executable, "-c", reach, cluster.address(3)]).wait() == 0
        server.communicate()
        assert other.counters()["h3/e0"].since(before["h3/e0"]).up_packets > 0  # its own h3 refused
    assert cluster.switch in namespaces.namespaces_here()
