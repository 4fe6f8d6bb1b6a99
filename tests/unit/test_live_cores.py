"""The core to which a process is bound, on machines whose core numbers repeat."""

import pytest

from topocomm.topology.live.cores import own_place

NEW, OLD = ("package_cpus_list", "core_cpus_list"), ("core_siblings_list", "thread_siblings_list")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Describe CPUs by their socket's and core's CPUs, and say to which of them this process is bound."""

    def make(names, sets, allowed):
        for cpu, lists in enumerate(sets):
            folder = tmp_path / f"cpu{cpu}" / "topology"
            folder.mkdir(parents=True)
            for name, value in zip((*names, "core_id", "physical_package_id"), (*lists, 0, -1), strict=True):
                (folder / name).write_text(f"{value}\n")
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(allowed), raising=False)
        return own_place(tmp_path)

    return make


SETS = [("0-3", "0-1"), ("0-3", "0-1"), ("0-3", "2-3"), ("0-3", "2-3"), ("4,6", "4"), ("5,7", "5"), ("4,6", "6")]


@pytest.mark.parametrize("names", [NEW, OLD])
@pytest.mark.parametrize(
    ("allowed", "place"),
    [
        ((0,), ("0", "0")),
        ((0, 1), ("0", "0")),
        ((3,), ("0", "2")),
        ((1, 2), ("0", "any")),
        ((4,), ("4", "4")),
        ((6,), ("4", "6")),
        ((5,), ("5", "5")),
        ((3, 4), ("any", "any")),
        ((0, 99), ("any", "any")),
    ],
)
def test_a_core_is_the_set_of_its_cpus(machine, names, allowed, place):
    assert machine(names, SETS, allowed) == place


def test_what_the_files_do_not_tell_is_any(machine):
    assert machine(("package_cpus_list", "other"), [("0", "0")], (0,)) == ("0", "any")
