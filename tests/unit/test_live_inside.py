"""The place of a process inside its node, on machines whose core numbers repeat; and what control groups leave it."""

import numpy as np
import pytest

from topocomm.topology.live.inside import cpu_quota, inner_levels, own_place

NEW, OLD = ("package_cpus_list", "core_cpus_list"), ("core_siblings_list", "thread_siblings_list")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Describe CPUs by their socket's and core's CPUs, and say to which of them this process is bound."""

    def make(names, sets, allowed):
        for cpu, lists in enumerate(sets):
            folder = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
            folder.mkdir(parents=True)
            for name, value in zip((*names, "core_id", "physical_package_id"), (*lists, 0, -1), strict=True):
                (folder / name).write_text(f"{value}\n")
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(allowed), raising=False)
        return own_place(tmp_path)

    return make


SETS = [("0-3", "0-1"), ("0-3", "0-1"), ("0-3", "2-3"), ("0-3", "2-3"), ("4,6", "4"), ("5,7", "5"), ("4,6", "6")]


@pytest.mark.parametrize("names", [NEW, OLD])
@pytest.mark.parametrize(
    ("allowed", "socket", "core"),
    [
        ((0,), (0, 4), (0, 2)),
        ((0, 1), (0, 4), (0, 2)),
        ((3,), (0, 4), (2, 2)),
        ((1, 2), (0, 4), None),
        ((4,), (4, 2), (4, 1)),
        ((6,), (4, 2), (6, 1)),
        ((5,), (5, 2), (5, 1)),
        ((3, 4), None, None),
        ((0, 99), None, None),
    ],
)
def test_a_core_is_the_set_of_its_cpus(machine, names, allowed, socket, core):
    assert machine(names, SETS, allowed) == (socket, None, None, core)


def test_what_the_files_do_not_tell_is_nothing(machine):
    assert machine(("package_cpus_list", "other"), [("0", "0")], (0,)) == ((0, 1), None, None, None)


@pytest.mark.parametrize("text", ["", "x", "0-", "0--3", "-1", "0-3,", "9" * 80000, "0\n1", "0-3;rm"])
def test_malformed_lists_are_nothing(machine, text):
    assert machine(NEW, [(text, "0")], (0,)) == (None, None, None, (0, 1))


@pytest.fixture
def epyc(machine, tmp_path):
    """Sixteen CPUs in a socket, two NUMA domains, four last-level caches, no hyperthreads; bound to ``allowed``."""

    def bound(allowed):
        for cpu in range(16):
            folder = tmp_path / "cpu" / f"cpu{cpu}"
            memory, cache = cpu // 8, cpu // 4
            for index, level, cpus in (("0", 1, cpu), ("2", 2, cpu), ("3", 3, f"{4 * cache}-{4 * cache + 3}")):
                (folder / "cache" / f"index{index}").mkdir(parents=True)
                (folder / "cache" / f"index{index}" / "level").write_text(f"{level}\n")
                (folder / "cache" / f"index{index}" / "shared_cpu_list").write_text(f"{cpus}\n")
            (folder / f"node{memory}").mkdir()
            (tmp_path / "node" / f"node{memory}").mkdir(parents=True, exist_ok=True)
            (tmp_path / "node" / f"node{memory}" / "cpulist").write_text(f"{8 * memory}-{8 * memory + 7}\n")
        return machine(NEW, [("0-15", str(cpu)) for cpu in range(16)], allowed)

    return bound


@pytest.mark.parametrize(
    ("allowed", "place"),
    [
        ((5,), ((0, 16), (0, 8), (4, 4), (5, 1))),
        ((13, 14), ((0, 16), (8, 8), (12, 4), None)),
        ((2, 5), ((0, 16), (0, 8), None, None)),
        ((7, 8), ((0, 16), None, None, None)),
    ],
)
def test_memory_and_last_level_cache(epyc, allowed, place):
    assert epyc(allowed) == place


def levels(*rows, node=None):
    """Names and labels for ranks with these domains, all on one node unless ``node`` says otherwise."""
    return dict(inner_levels(np.array(node or [0] * len(rows)), rows))


SOCKET = (0, 16)


def test_levels_that_tell_ranks_apart_are_kept():
    rows = [(SOCKET, (cpu // 8 * 8, 8), (cpu // 4 * 4, 4), (cpu, 1)) for cpu in (0, 1, 4, 5, 8, 9)]
    found = levels(*rows)
    assert list(found) == ["socket", "numa", "cache", "core"]
    assert found["cache"] == ["0", "0", "4", "4", "8", "8"]


def test_levels_that_say_the_same_stand_once():
    one_domain = [(SOCKET, SOCKET, (cpu // 4 * 4, 4), (cpu, 1)) for cpu in (0, 1, 4, 5)]
    assert list(levels(*one_domain)) == ["socket", "cache", "core"], "a NUMA domain is a socket"
    one_each = [(SOCKET, (cpu // 8 * 8, 8), (cpu, 4), (cpu, 1)) for cpu in (0, 4, 8, 12)]
    assert list(levels(*one_each)) == ["socket", "numa", "core"], "every rank has its cache for itself"
    assert list(levels(*one_each, node=[0, 0, 1, 1])) == ["socket", "core"], "every node has its NUMA domain"


def test_the_larger_domain_stands_outside():
    """A cache that spans two NUMA domains, as some processors report it."""
    rows = [(SOCKET, (cpu // 4 * 4, 4), (cpu // 8 * 8, 8), None) for cpu in (0, 1, 4, 8, 9, 12)]
    assert list(levels(*rows)) == ["socket", "cache", "numa"]


def test_ranks_that_are_not_bound():
    free = (None, None, None, None)
    assert levels(free, free) == {}
    some = [(SOCKET, (0, 8), (0, 4), (0, 1)), (SOCKET, (0, 8), (0, 4), (1, 1)), (SOCKET, None, None, None)]
    assert levels(*some) == {"socket": ["0"] * 3, "core": ["0", "1", "any"]}


# -- control groups -------------------------------------------------------------------------------------------------


def group(root, path, **files):
    (root / path).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / path / name.replace("__", ".")).write_text(text + "\n")


def test_a_quota_of_version_2_is_the_least_on_the_way_up(tmp_path):
    group(tmp_path, "proc/self", cgroup="0::/job/step")
    assert cpu_quota(tmp_path) is None
    group(tmp_path, "sys/fs/cgroup/job/step", cpu__max="max 100000")
    assert cpu_quota(tmp_path) is None
    group(tmp_path, "sys/fs/cgroup/job", cpu__max="150000 100000")
    assert cpu_quota(tmp_path) == 1.5
    group(tmp_path, "sys/fs/cgroup", cpu__max="100000 100000")
    assert cpu_quota(tmp_path) == 1


def test_a_quota_of_version_1(tmp_path):
    group(tmp_path, "proc/self", cgroup="5:memory:/x\n4:cpu,cpuacct:/job\n0::/")
    group(tmp_path, "sys/fs/cgroup/cpu,cpuacct/job", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    group(tmp_path, "sys/fs/cgroup/memory/x", cpu__cfs_quota_us="1", cpu__cfs_period_us="100000")
    assert cpu_quota(tmp_path) is None
    group(tmp_path, "sys/fs/cgroup/cpu,cpuacct/job", cpu__cfs_quota_us="250000")
    assert cpu_quota(tmp_path) == 2.5


@pytest.mark.parametrize("text", ["", "1 0", "x y", "1", "9" * 40 + " 1", "\x00"])
def test_malformed_quotas_are_none(tmp_path, text):
    group(tmp_path, "proc/self", cgroup="0::/../../etc\n\n::\nx")
    group(tmp_path, "sys/fs/cgroup/etc", cpu__max=text)
    assert cpu_quota(tmp_path) is None
