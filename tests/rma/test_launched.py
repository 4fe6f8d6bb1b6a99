"""Notified RMA between processes under this Python's MPI."""

import re
import sys

import pytest
from launching import MPIEXEC, ROOT, run

from topocomm import rma

FABRIC = any(c.transport == "ofi" and c.present for c in rma.capabilities())
needs_fabric = pytest.mark.skipif(not FABRIC, reason="needs libfabric")
MESSAGES = pytest.param("mpi", id="messages")  # an id with "mpi" in it would be taken for pytest-mpi's marker


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("faulty", "checked"), [("0", "0"), ("1", "1")])
def test_all_to_all_in_shared_memory(launch, ranks, faulty, checked):
    launch(ranks, "all_to_all.py", "shm", faulty, checked, "12")


@pytest.mark.parametrize(("ranks", "faulty", "checked"), [(2, "0", "0"), (3, "1", "1"), (4, "1", "0")])
def test_all_to_all_over_messages(launch, ranks, faulty, checked):
    launch(ranks, "all_to_all.py", "mpi", faulty, checked, "8")


@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
def test_bad_input_is_refused(launch, transport):
    launch(1, "bad_input.py", transport)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_origins_of_a_window_and_ranks_without_memory(launch, ranks):
    launch(ranks, "origins.py")


def test_every_bad_argument_has_its_own_error(launch):
    launch(1, "refusals.py")


@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
def test_what_outlives_what(launch, transport):
    launch(1, "lifetimes.py", transport)


@pytest.mark.parametrize("place", ["main", "thread"])
@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
def test_who_waits_drives_mpi(launch, transport, place):
    launch(2, "driving.py", transport, place)


def test_a_program_may_end_with_its_context_open(launch):
    launch(2, "lifetimes.py", "mpi", "exit")


@pytest.mark.parametrize("transport", ["shm", MESSAGES])
def test_ranks_leave_and_enter_unlike_each_other(launch, transport):
    launch(3, "leaving.py", transport)


def test_interrupts_lose_no_message(launch):
    launch(1, "interrupts.py")


@needs_fabric
@pytest.mark.parametrize("provider", [("tcp", "lo"), ("tcp", "lo,lo"), ("shm", "")], ids=["tcp", "two-rails", "shm"])
@pytest.mark.parametrize(("ranks", "faulty", "checked"), [(2, "0", "0"), (3, "1", "1"), (8, "1", "0")])
def test_all_to_all_over_libfabric(launch, ranks, faulty, checked, provider):
    launch(ranks, "all_to_all.py", "ofi", faulty, checked, "8", *provider)


@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_patterns_equal_the_mpi_library(launch, transport, ranks):
    launch(ranks, "patterns.py", transport)


@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
@pytest.mark.parametrize("ranks", [1, 3])
def test_features(launch, transport, ranks):
    launch(ranks, "features.py", transport)


@pytest.mark.parametrize("transport", ["shm", MESSAGES, pytest.param("ofi", marks=needs_fabric)])
def test_dropped_pieces_are_missing_by_name(launch, transport):
    launch(2, "dropped.py", transport)


@pytest.mark.parametrize("transport", [MESSAGES, pytest.param("ofi", marks=needs_fabric)])
def test_a_progress_thread_lands_data_while_the_target_computes(launch, transport):
    launch(2, "progress_thread.py", transport)


def test_hand_made_plans_are_proven_or_refused(launch):
    launch(3, "rounds.py")


@pytest.mark.parametrize("transport", ["shm", MESSAGES])
def test_a_mistake_of_one_rank_is_raised_on_all(launch, transport):
    launch(3, "one_bad_rank.py", transport)


@pytest.mark.parametrize("ranks", [1, 3])
def test_info_measures_what_is_emulated(ranks):
    code, output = run([str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "topocomm", "info"])
    assert code == 0, output
    assert ranks == 1 or "not tried" not in output, output  # the world's context has met other processes
    words = output.partition("emulated transports against plain messages")[2]
    if ranks == 1:
        assert words.startswith(": not measured with 1 rank (mpiexec -n 2 "), output
        return
    assert words.startswith(", between ranks 0 and 1 of 3:\n"), output
    form = r"  mpi, (\d+) bytes: ([\d.]+) µs one way, plain message ([\d.]+) µs: ([\d.]+) times as long"
    found = re.findall(form, words)
    assert [size for size, *_ in found] == ["8", "65536"]
    for _, notified, plain, ratio in found:
        assert float(notified) > 0 < float(plain)
        assert float(ratio) == pytest.approx(float(notified) / float(plain), rel=0.1)


EXAMPLES = {
    "rma_producer_consumer.py": (2, (), "consumed 1000 items"),
    "rma_halo.py": (4, (), "messages = 20 × 2 neighbours"),
    "rma_halo.py --violate": (3, ("--violate",), "block tag 7 is not proven free"),
    "rma_two_nics.py": (2, (), "2097152 bytes went in 2 pieces"),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_do_what_they_say(example):
    ranks, arguments, wanted = EXAMPLES[example]
    if "nics" in example and not FABRIC:
        pytest.skip("needs libfabric")
    program = str(ROOT / "examples" / example.split()[0])
    code, output = run([str(MPIEXEC), "-n", str(ranks), sys.executable, program, *arguments])
    assert code == 0, output
    assert output.count(wanted) == (1 if "producer" in example else ranks), output


@needs_fabric
@pytest.mark.parametrize(
    ("arguments", "reason"), [(("nosuch0", "nosuch1"), "cannot open its context"), (("lo", "lo", "x"), "float: 'x'")]
)
def test_an_interface_that_is_not_there_is_one_line(arguments, reason):
    program = str(ROOT / "examples" / "rma_two_nics.py")
    code, output = run([str(MPIEXEC), "-n", "2", sys.executable, program, *arguments])
    assert code == 2, output
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if line.startswith("rma_two_nics.py ") and reason in line]) == 1
