"""What a communicator keeps: recent values, scratch memory, sizes of the MPI library."""

import pytest

pytest.importorskip("mpi4py")

from topocomm.comm.kinds import MOST_SIZES, NativeSizes
from topocomm.comm.programs import KEPT, Scratch
from topocomm.comm.recent import Recent


def test_the_value_used_longest_ago_goes_first():
    kept = Recent(3)
    for key in "abc":
        assert kept.put(key, key.upper()) == key.upper()
    assert kept.get("a") == "A"
    kept.put("d", "D")
    assert [kept.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    kept.put("d", "E")
    assert len(kept) == 3
    assert kept.get("a") == "A"


def test_scratch_memory_that_is_kept_is_bounded():
    scratch = Scratch(1000)
    small, other = scratch.take(400), scratch.take(500)
    assert (len(small), len(other)) == (400, 500)
    scratch.give_back(small)
    assert scratch.take(300) is small
    scratch.give_back(small)
    scratch.give_back(other)
    assert scratch.kept == 900
    large = scratch.take(2000)
    assert len(large) == 2000
    scratch.give_back(large)
    assert scratch.kept <= 1000
    assert Scratch().most == KEPT


def test_sizes_of_the_library_are_those_of_known_classes():
    sizes = NativeSizes((513, 609), 4)
    assert not sizes[8]
    sizes.classes[0] = True
    assert sizes[8]
    assert sizes[128]
    assert not sizes[129]
    assert not sizes[200]
    for n in range(128):
        sizes[n]
    sizes.classes[2] = True
    sizes.classes[1] = False
    for n in range(1000, 3000):
        assert sizes[n]
    assert len(sizes) == MOST_SIZES
    assert not sizes[129]
