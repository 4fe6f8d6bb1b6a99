"""Notified RMA between processes under this Python's MPI."""

import pytest

MESSAGES = pytest.param("mpi", id="messages")  # an id with "mpi" in it would be taken for pytest-mpi's marker


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("faulty", "checked"), [("0", "0"), ("1", "1")])
def test_all_to_all_in_shared_memory(launch, ranks, faulty, checked):
    launch(ranks, "all_to_all.py", "shm", faulty, checked, "12")


@pytest.mark.parametrize(("ranks", "faulty", "checked"), [(2, "0", "0"), (3, "1", "1"), (4, "1", "0")])
def test_all_to_all_over_messages(launch, ranks, faulty, checked):
    launch(ranks, "all_to_all.py", "mpi", faulty, checked, "8")


@pytest.mark.parametrize("transport", ["shm", MESSAGES])
def test_bad_input_is_refused(launch, transport):
    launch(1, "bad_input.py", transport)
