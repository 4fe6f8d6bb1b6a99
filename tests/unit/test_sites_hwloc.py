"""hwloc's XML: objects are told apart whatever their numbers, and only what the job may use is there."""

import pytest

from topocomm import Topology, TopologyError
from topocomm.topology import in_label_order
from topocomm.topology.sites import parse_site


def xml(inner, **machine):
    attributes = "".join(f' {key}="{value}"' for key, value in machine.items())
    return f'<topology version="2.0"><object type="Machine"{attributes}>{inner}</object></topology>'


def thing(kind, inner="", **attributes):
    words = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<object type="{kind}"{words}>{inner}</object>'


def cores(*indices, first=0):
    """A core for each os_index, with one PU each from PU ``first`` on."""
    return "".join(thing("Core", os_index=index, cpuset=hex(1 << first + k)) for k, index in enumerate(indices))


def topology(text):
    placement = parse_site(text, "f")
    return Topology(placement.levels, placement.ranks)


def test_core_numbers_that_repeat_below_caches():
    l3 = [thing("L3Cache", cores(0, 1, first=first), cpuset=hex(3 << first)) for first in (0, 2)]
    found = topology(xml(thing("Package", "".join(l3), os_index=0, cpuset="0xf")))
    assert found.levels == ("socket", "core")
    assert found.counts("core").tolist() == [1, 1, 1, 1]
    assert found.labels[:, 0].tolist() == ["0"] * 4
    assert (in_label_order(found).places == found.places).all(), "cores of one cache stay neighbours"


def test_numbers_of_places_that_repeat():
    """Dies called 0 in every cluster of a socket, sockets all called 0, cores without any number."""
    dies = [thing("Die", cores(0, 1, first=first), os_index=0, cpuset=hex(3 << first)) for first in (0, 2, 4, 6)]
    sockets = [thing("Package", "".join(dies[k : k + 2]), os_index=0) for k in (0, 2)]
    found = topology(xml("".join(sockets)))
    assert found.levels == ("socket", "die", "core")
    assert [found.counts(level).tolist() for level in found.levels] == [[4, 4], [2] * 4, [1] * 8]
    unnumbered = topology(xml(thing("Package", thing("Core") * 3 + thing("Core", os_index="-1"))))
    assert unnumbered.counts("core").tolist() == [1] * 4


def test_cores_without_numa_are_read():
    near = thing("NUMANode", os_index=0, cpuset="0x3") + cores(0, 1)
    package = thing("Package", thing("Group", near, gp_index=5, cpuset="0x3") + cores(2, 3, first=2), os_index=0)
    found = topology(xml(package + thing("NUMANode", os_index=1, cpuset="0x0")))
    assert (found.levels, found.size) == (("socket", "core"), 4)


def test_memory_without_cores_is_no_place():
    near = "".join(thing("NUMANode", os_index=k, cpuset=hex(3 << 2 * k)) for k in range(2))
    far = thing("NUMANode", os_index=2, cpuset="0x0")
    found = topology(xml(thing("Package", near + cores(0, 1, 2, 3), os_index=0, cpuset="0xf") + far))
    assert found.levels == ("socket", "numa", "core")
    assert found.counts("numa").tolist() == [2, 2]


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_memories_the_nearest_counts(order):
    memories = [("0xf", 0), ("0x3", 1), ("0xc", 2)][::order]
    near = "".join(thing("NUMANode", os_index=index, cpuset=cpuset) for cpuset, index in memories)
    found = topology(xml(thing("Package", near + cores(0, 1, 2, 3), os_index=0, cpuset="0xf")))
    assert found.labels[:, 1].tolist() == ["1", "1", "2", "2"]


def test_what_the_job_may_not_use_is_not_there():
    sockets = [
        thing("Package", cores(0, 1, first=first), os_index=first // 2, cpuset=hex(3 << first)) for first in (0, 2, 4)
    ]
    found = parse_site(xml("".join(sockets), allowed_cpuset="0x0000000e"), "f")
    assert found.ranks == (("0", "1"), ("1", "0"), ("1", "1"))
    with pytest.raises(TopologyError, match="f: allows no core"):
        parse_site(xml("".join(sockets), allowed_cpuset="0x0"), "f")
    everywhere = parse_site(xml("".join(sockets), allowed_cpuset="0xf...f"), "f")
    assert len(everywhere.ranks) == 6


def test_what_is_said_of_an_object_holds_inside_it():
    """hwloc 1 writes the allowed and the online PUs of every object; a core with one of two PUs is there."""
    first = thing("Core", os_index=0, cpuset="0x3", allowed_cpuset="0x1", online_cpuset="0x3")
    second = thing("Core", os_index=1, cpuset="0xc", allowed_cpuset="0xc", online_cpuset="0x0")
    third = thing("Core", os_index=2, cpuset="0x30", allowed_cpuset="0x0", online_cpuset="0x30")
    assert parse_site(xml(thing("Socket", first + second + third, os_index=0)), "f").ranks == (("0", "0"),)


def test_pus_outside_cores_count():
    pus = "".join(thing("PU", os_index=k, cpuset=hex(1 << k)) for k in (2, 3))
    inside = thing("Core", thing("PU", os_index=0, cpuset="0x1"), os_index=0, cpuset="0x1")
    assert topology(xml(thing("Package", inside + pus, os_index=0))).counts("core").tolist() == [1, 1, 1]
    assert topology(xml(thing("Core") + thing("PU") + thing("Core"))).counts("core").tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("value", "bits"),
    [("0x00000001,0x00000000", 1 << 32), ("0x1,,0x2", (1 << 64) + 2), ("0xf...f,0x0000fff0", ~0xFFFF000F), ("3", 3)],
)
def test_bitmaps(value, bits):
    allowed = [k for k in range(70) if bits >> k & 1]
    text = xml(thing("Package", cores(*range(70)), os_index=0), allowed_cpuset=value)
    assert [int(row[1]) for row in parse_site(text, "f").ranks] == allowed


@pytest.mark.parametrize("value", ["0x1g", "0x123456789,0x0", "0x1;0x2", "0xf...f,0xf...f"])
def test_bitmaps_refused(value):
    with pytest.raises(TopologyError, match=r"f: Machine has allowed_cpuset .* is not a bitmap"):
        parse_site(xml(cores(0), allowed_cpuset=value), "f")
