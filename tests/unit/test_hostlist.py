"""Host lists: expanded, compressed, and refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topocomm import TopologyError
from topocomm.topology.sites.hostlist import compress, expand, expand_slurm

hosts = st.from_regex(r"[a-z]{1,3}[0-9]{0,3}([.-][a-z]{1,2}[0-9]{1,2})?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1", ["n1"]),
        ("nid[001-003,7]", ["nid001", "nid002", "nid003", "nid7"]),
        ("a,b[08-10],c", ["a", "b08", "b09", "b10", "c"]),
        ("r[1-2]n[1-2]x", ["r1n1x", "r1n2x", "r2n1x", "r2n2x"]),
        ("[3-4]", ["3", "4"]),
        ("a, b", ["a", "b"]),
    ],
)
def test_expand(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a host name"),
        ("a,,b", "not a host name"),
        ("a b", "not a host name"),
        ("a[1-3", "never closed"),
        ("a1-3]", "no partner"),
        ("a[[1]]", "no partner"),
        ("a[]", "not a number"),
        ("a[1-x]", "not a number"),
        ("a[3-1]", "backwards"),
        ("a[0-9999999999]", "more than"),
        ("a[0-9999]b[0-9999]", "more than"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(TopologyError, match=reason):
        expand(text)


@pytest.mark.parametrize("quoted", ['"a', "a'", "a=b", "a#b", "switch{a}", "(null)", "a\\b", "a\0"])
def test_no_host_is_called_so(quoted):
    with pytest.raises(TopologyError, match="not a host name"):
        expand(quoted)


def test_expand_as_slurm_does():
    assert expand_slurm("a, b  n[1-2],,\tc,") == ["a", "b", "n1", "n2", "c"]
    assert expand_slurm(" ") == []
    with pytest.raises(TopologyError, match="never closed"):
        expand_slurm("a, n[1")


def test_compress():
    assert compress(["n08", "n09", "n10", "n12", "m1"]) == "n[08-10,12],m1"
    assert compress(["n9", "n10", "n011"]) == "n[9-10,011]"
    assert compress([]) == ""
    with pytest.raises(TopologyError, match="not a host name"):
        compress(["a b"])


@given(st.lists(hosts, min_size=1, max_size=30))
@example(["n09", "n10", "n99", "n100"])
@example(["a1b2", "a1b3", "a2b1"])
def test_round_trip_keeps_names_and_order(names):
    assert expand(compress(names)) == names


@given(st.text(st.sampled_from("ab019[]-, \n"), max_size=25) | st.text(max_size=25))
def test_any_text_is_expanded_or_refused(text):
    try:
        names = expand(text)
    except TopologyError:
        return
    assert expand(compress(names)) == names
