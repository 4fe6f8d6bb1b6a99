"""Lists and files of hosts: what launchers, batch systems and people write, and where it is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topocomm import TopologyError
from topocomm.cli import main
from topocomm.cli.arguments import hosts_of
from topocomm.topology.sites import SiteOptions, parse_site
from topocomm.topology.sites.hosts import names_of, parse_hosts

FAT = "SwitchName=l1 Nodes=n[1-2]\nSwitchName=l2 Nodes=n[3-4]\n"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a,b:4,c", [("a", 1), ("b", 4), ("c", 1)]),
        ("n[1-2]:3,m", [("n1", 3), ("n2", 3), ("m", 1)]),
        ("n1 n2\tn3", [("n1", 1), ("n2", 1), ("n3", 1)]),
        ("# head\nn1 slots=4 max_slots=8\nn2 slots = 2 # two\nn3 max-slots=9\n", [("n1", 4), ("n2", 2), ("n3", 1)]),
        ("n1:4\nn2:2\r\n", [("n1", 4), ("n2", 2)]),
        ("n1\nn1\nn2\n", [("n1", 1), ("n1", 1), ("n2", 1)]),
        ("10.0.0.1 slots=2\n10.0.0.2", [("10.0.0.1", 2), ("10.0.0.2", 1)]),
        ("10.0.0.1 10.0.0.2", [("10.0.0.1", 1), ("10.0.0.2", 1)]),
        ("127.0.0.1 localhost\n::1 localhost\nff02::1 all\n10.0.0.1 n1.a n1\nfd00::2 n2\n", [("n1.a", 1), ("n2", 1)]),
    ],
)
def test_hosts(text, hosts):
    assert parse_hosts(text) == hosts
    assert names_of(text) == list(dict.fromkeys(host for host, _ in hosts))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no host"),
        ("# only a comment", "names no host"),
        ("a:", "NAME or NAME:RANKS"),
        ("a:0", "NAME or NAME:RANKS"),
        ("a:b", "NAME or NAME:RANKS"),
        ("a:4:4", "NAME or NAME:RANKS"),
        ("a:1234567", "NAME or NAME:RANKS"),
        (":4", "not a host name"),
        ("n[1-", "never closed"),
        ("n1\nn2 slots=0", "line 2: 'slots=0' is not slots=N"),
        ("n1 slots=2 slots=3", "gives the number of slots again"),
        ("n1 colour=2", "'colour=2' is not slots=N"),
        ("n1 n2 slots=4", "gives a number of slots to 2 hosts"),
        ("n1:4 slots=4", "has its number of ranks already"),
        ("user@n1", "not a host name"),
        ("n[1-999]:999999", "more than 1000000 ranks"),
    ],
)
def test_hosts_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^f: .*{reason}"):
        parse_hosts(text, "f")


@given(
    st.text(max_size=40) | st.lists(st.sampled_from(["n1", ":", "4", "[", "]", "-", ",", " ", "\n", "slots=", "::1"]))
)
def test_any_text_is_read_or_refused(text):
    if not isinstance(text, str):
        text = "".join(text)
    try:
        found = parse_hosts(text, "f")
    except TopologyError:
        with pytest.raises(TopologyError, match=r"^f: "):
            parse_hosts(text, "f")
        return
    assert found
    assert all(host and ranks > 0 for host, ranks in found)


def test_hosts_of_an_argument_and_of_a_file(tmp_path):
    assert hosts_of("n[1-2]:2,m") == ["n1", "n1", "n2", "n2", "m"]
    (tmp_path / "hosts").write_text("n1 slots=2\nn2\n")
    assert hosts_of(f"@{tmp_path}/hosts") == ["n1", "n1", "n2"]
    with pytest.raises(TopologyError, match="cannot be read"):
        hosts_of(f"@{tmp_path}/none")


COMMANDS = (
    ["topology"],
    ["explain", "bcast", "--bytes", "1M", "--placement"],
    ["simulate", "bcast", "--bytes", "1M", "--placement"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_every_command_takes_the_same_hosts(command, tmp_path, capsys):
    path = tmp_path / "topology.conf"
    path.write_text(FAT)
    for hosts in ("n[1,3]:2,n4", "n1,n1, n3:2 n4"):
        assert main([*command, str(path), "--hosts", hosts]) == 0
        assert "5 ranks, 2 switches of 2-3, 3 nodes of 1-2" in capsys.readouterr().out
    for hosts, reason in (("n[1-9]", "does not place node 'n5'"), ("n1:x", "NAME:RANKS"), ("", "names no host")):
        assert main([*command, str(path), "--hosts", hosts]) == 2
        assert reason in capsys.readouterr().err


PLACES = {"nid1": ("x1000", "c0", "s0", "b0"), "nid2": ("x1000", "c0", "s0", "b1")}


@pytest.mark.parametrize(
    "text",
    [
        "nid1 x1000c0s0b0n0\nnid2 x1000c0s0b1n0\n",
        "x1000c0s0b0n0 nid1\nx1000c0s0b1n0 nid2\n",
        "nid[1-2] x1000c0s0b[0-1]n0\n",
        "x1000c0s0b[0-1]n0 nid[1-2]\n",
        "127.0.0.1 localhost\n10.1.0.1 nid1 x1000c0s0b0n0\n10.1.0.2 x1000c0s0b1n0 nid2 nid2-nmn\n10.9.0.1 login\n",
        "10.1.0.1 nid1 nid1.site x1000c0s0b0n0\n10.2.0.1 nid1-hsn x1000c0s0b0n0\n10.1.0.2 nid2 x1000c0s0b1n0\n",
    ],
)
def test_hosts_beside_their_xnames(text):
    assert parse_site(text, "f").nodes == PLACES


@pytest.mark.parametrize(
    "text", ["x1000c0s0b[0-1]n0", "x1000c0s0b0n0:4\nx1000c0s0b1n0:4", "x1000c0s0b0n0 slots=2\nx1000c0s0b1n0 slots=2\n"]
)
def test_xnames_as_hosts(text):
    assert parse_site(text, "f").nodes == {f"x1000c0s0b{k}n0": ("x1000", "c0", "s0", f"b{k}") for k in (0, 1)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nid1 x1c0s0b0n0\nnid2 x1c0s0b0n0", "line 2: x1c0s0b0n0 is 'nid1' already, not 'nid2'"),
        ("nid[1-3] x1c0s0b[0-1]n0", "line 1: 'nid1' is not an xname"),
        ("10.0.0.1 x1c0s0b0n0 x1c0s0b1n0", "line 1: x1c0s0b0n0 and x1c0s0b1n0 are two nodes"),
        ("x1c0s0b0n0 colour=3", "line 1: 'colour=3'"),
    ],
)
def test_xnames_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^f: {reason}"):
        parse_site(text, "f", "xnames")


@pytest.mark.parametrize(
    "text",
    ["r1n1 slots=4\nr2n1 slots=4\n", "r1n1:4\nr2n1:2", "10.0.0.1 r1n1 a\n10.0.0.2 r2n1 b", "r[1-2]n1", "r1n1, r2n1"],
)
def test_host_files_and_a_pattern(text):
    placement = parse_site(text, "f", None, SiteOptions(pattern=r"r(?P<rack>\d+)n\d+"))
    assert placement.nodes == {"r1n1": ("1",), "r2n1": ("2",)}
