"""Sources of places: recorded nodes, mixtures and lies, and what is refused."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from recordings import FOLDER, choice_of, chosen, hosts_of, places, recorded

from topocomm.errors import TopologyError
from topocomm.topology.live.sources import SOURCES, Host, named_sources

RECORDINGS = {
    "slurm_tree": ("slurm", ("switch2", "switch"), ["core/s0", "core/s0", "core/s4"]),
    "slurm_block": ("slurm", ("block16", "block4"), ["ab1/b01", "ab1/b02", "ab3/b09"]),
    "slingshot": ("slingshot", ("group", "switch"), ["2/4+5", "2/4+5", "2/6+7", "258/5"]),
    "xname": (
        "xname",
        ("cabinet", "chassis", "slot", "board"),
        ["x3000/c0/s17/b1", "x3000/c0/s17/b2", "x3000/c1/s1/b0"],
    ),
    "kubernetes": ("kubernetes", ("zone", "block", "subblock"), ["eu-1a/b7/s1", "eu-1a/b7/s2", "eu-1b/b7/s1"]),
    "place": ("place", ("group", "switch"), ["g0/s1", "g0/s1", "g1/s1"]),
}


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text()


def one(choice, source: str) -> str:
    """The line on one source."""
    (line,) = [line for line in choice.lines if line.split(":")[0].removeprefix("not ") == source]
    return line


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_placed(name, tmp_path):
    source, levels, rows = RECORDINGS[name]
    choice = chosen(text_of(name), tmp_path)
    assert choice.placed is not None, choice.lines
    assert (choice.placed.levels, places(choice)) == (levels, rows)
    assert choice.lines[0].startswith(f"{source}: {', '.join(levels)} from ")
    assert [line.split(":")[0] for line in choice.lines[1:]] == [f"not {s}" for s in named_sources(None) if s != source]


def test_nothing_says_anything(tmp_path):
    choice = chosen("[a]\n[b]\n", tmp_path)
    assert choice.placed is None
    assert choice.lines == (
        "not place: TOPOCOMM_PLACE is not set on any node",
        "not slurm: SLURM_TOPOLOGY_ADDR is not set on any node; no topology.conf or topology.yaml",
        "not slingshot: no card hsn0 on any node",
        "not xname: no /etc/cray/xname and no xname as host name on any node",
        "not kubernetes: no label of TOPOCOMM_LABELS names a place on any node",
    )


def test_the_first_source_wins_and_the_order_can_be_named(tmp_path):
    both = (
        "[a]\nTOPOCOMM_PLACE=0/0\n/etc/cray/xname: x1c0s0b0n0\n[b]\nTOPOCOMM_PLACE=1/0\n/etc/cray/xname: x1c1s0b0n0\n"
    )
    choice = chosen(both, tmp_path / "1")
    assert choice.lines[0] == "place: group, switch from TOPOCOMM_PLACE"
    assert one(choice, "xname") == "not xname: place comes before it; they agree"
    assert chosen(both, tmp_path / "2", "xname,place").lines[0].startswith("xname: cabinet, ")
    assert len(chosen(both, tmp_path / "3", "xname").lines) == 1
    assert chosen(both, tmp_path / "4", "off").lines == ()


def test_a_source_that_tells_nodes_apart_comes_before_a_better_one_that_does_not(tmp_path):
    text = "[a]\nTOPOCOMM_PLACE=0\n/etc/cray/xname: x1c0s0b0n0\n[b]\nTOPOCOMM_PLACE=0\n/etc/cray/xname: x1c1s0b0n0\n"
    choice = chosen(text, tmp_path / "1")
    assert choice.placed.levels[0] == "cabinet"
    assert one(choice, "place") == "not place: has all nodes in one place (group from TOPOCOMM_PLACE)"
    assert chosen(text, tmp_path / "2", "place").placed.rows == [("0",), ("0",)]


def test_sources_that_contradict_each_other_are_named(tmp_path):
    rows = ("0 x1c0", "0 x1c1", "1 x1c0", "1 x1c1")
    text = "".join(
        f"[n{k}]\nTOPOCOMM_PLACE={row.split()[0]}\n/etc/cray/xname: {row.split()[1]}s0b0n{k}\n"
        for k, row in enumerate(rows)
    )
    choice = chosen(text, tmp_path)
    assert choice.placed.levels == ("group",)
    assert one(choice, "xname") == (
        "not xname: place comes before it, and they disagree: a chassis of xname crosses a group of place"
    )


LIES = {
    "handed on": (
        "[a]\nSLURM_TOPOLOGY_ADDR=s.a\n[b]\nSLURM_TOPOLOGY_ADDR=s.a\n[*]\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n",
        "slurm",
        "node 'a' (rank 0) and node 'b' (rank 1) both have SLURM_TOPOLOGY_ADDR='s.a', which",
    ),
    "flat": (
        "[a]\nSLURM_TOPOLOGY_ADDR=a\n[b]\nSLURM_TOPOLOGY_ADDR=b\n[*]\nSLURM_TOPOLOGY_ADDR_PATTERN=node\n",
        "slurm",
        "names no level above the nodes",
    ),
    "some": (
        "[a]\nSLURM_TOPOLOGY_ADDR=s.a\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n[b]\n[c]\n",
        "slurm",
        "SLURM_TOPOLOGY_ADDR is not set on node 'b' (rank 1) and 1 more of 3 nodes; no topology.conf",
    ),
    "two patterns": (
        "[a]\nSLURM_TOPOLOGY_ADDR=s.a\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n"
        "[b]\nSLURM_TOPOLOGY_ADDR=t.s.b\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\n",
        "slurm",
        "differs from",
    ),
    "short": (
        "[a]\nSLURM_TOPOLOGY_ADDR=s.a\n[b]\nSLURM_TOPOLOGY_ADDR=b\n[*]\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n",
        "slurm",
        "does not have the 2 parts",
    ),
    "node twice": (
        "[a]\nSLURM_TOPOLOGY_ADDR=s.n\n[b]\nSLURM_TOPOLOGY_ADDR=t.n\n[*]\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n",
        "slurm",
        "placed twice",
    ),
    "unprintable": ("[a]\nSLURM_TOPOLOGY_ADDR=\x1b[2J\n[b]\n", "slurm", "not printable (rank 0)"),
    "endless": ("[a]\nSLURM_TOPOLOGY_ADDR=" + "x" * 9000 + "\n[b]\n", "slurm", "more than 4096 characters (rank 0)"),
    "a card of another maker": (
        "[a]\n/sys/class/net/hsn0/address: b8:ce:f6:00:11:22\n[b]\n/sys/class/net/hsn0/address: 02:00:00:00:00:01\n",
        "slingshot",
        "hsn0 of node 'a' (rank 0) has the address 'b8:ce:f6:00:11:22', which is not an algorithmic one",
    ),
    "a container's card": (
        "[a]\n/sys/class/net/hsn0/address: 02:42:ac:11:00:02\n[b]\n/sys/class/net/hsn0/address: 02:42:ac:11:00:03\n",
        "slingshot",
        "not an algorithmic one",
    ),
    "more bits than there are": (
        "[a]\n/sys/class/net/hsn0/address: 02:00:00:10:00:01\n[b]\n/sys/class/net/hsn0/address: 02:00:00:00:00:01\n",
        "slingshot",
        "not an algorithmic one",
    ),
    "one address twice": (
        "[a]\n/sys/class/net/hsn0/address: 02:00:00:00:19:85\n[b]\n/sys/class/net/hsn0/address: 02:00:00:00:19:85\n",
        "slingshot",
        "node 'a' (rank 0) and node 'b' (rank 1) both have the address 02:00:00:00:19:85",
    ),
    "a card without address": (
        "[a]\n/sys/class/net/hsn0/mtu: 9000\n[b]\n/sys/class/net/hsn0/address: 02:00:00:00:00:01\n",
        "slingshot",
        "has the address ''",
    ),
    "no card": ("[a]\n/sys/class/net/hsn0/address: 02:00:00:00:00:01\n[b]\n", "slingshot", "no card hsn0 on node 'b'"),
    "one xname twice": (
        "[a]\n/etc/cray/xname: x1c0s0b0n0\n[b]\n/etc/cray/xname: x1c0s0b0n0\n",
        "xname",
        "node 'a' (rank 0) and node 'b' (rank 1) both have the xname x1c0s0b0n0",
    ),
    "no xname": ("[a]\n/etc/cray/xname: x1c0r0b0\n[b]\n/etc/cray/xname: x1c0s0b0n1\n", "xname", "is not an xname"),
    "a long xname": ("[a]\n/etc/cray/xname: x" + "1" * 400 + "\n[b]\n", "xname", "more than 256 bytes (rank 0)"),
    "ranks of a node differ": (
        "[a]\nTOPOCOMM_PLACE=0\n[a]\nTOPOCOMM_PLACE=1\n[b]\nTOPOCOMM_PLACE=2\n",
        "place",
        "node 'a' (rank 0) and rank 1 on it disagree: '0' and '1'",
    ),
    "a rank is silent": (
        "[a]\nTOPOCOMM_PLACE=0\n[a]\n[b]\nTOPOCOMM_PLACE=2\n",
        "place",
        "node 'a' (rank 0) and rank 1 on it disagree: '0' and ''",
    ),
    "levels differ": (
        "[a]\nTOPOCOMM_PLACE=0/1\n[b]\nTOPOCOMM_PLACE=2\n",
        "place",
        "has levels group/switch on node 'a' (rank 0), group on node 'b' (rank 1)",
    ),
    "an empty place": ("[a]\nTOPOCOMM_PLACE=0//1\n[b]\nTOPOCOMM_PLACE=0/0/0\n", "place", "'' is no name of a place"),
    "half named": ("[a]\nTOPOCOMM_PLACE=rack=1/2\n[b]\nTOPOCOMM_PLACE=1/2\n", "place", "some levels have a name"),
    "node again": ("[a]\nTOPOCOMM_PLACE=node=1\n[b]\nTOPOCOMM_PLACE=node=2\n", "place", "calls a level 'node'"),
    "labels differ": (
        "[a]\nTOPOCOMM_LABELS=topology.kubernetes.io/zone=z\n[b]\nTOPOCOMM_LABELS=topology.kubernetes.io/region=r\n",
        "kubernetes",
        "names zone on node 'a' (rank 0), region on node 'b' (rank 1)",
    ),
    "an empty label": (
        "[a]\nTOPOCOMM_LABELS=topology.kubernetes.io/zone=\n[b]\nTOPOCOMM_LABELS=topology.kubernetes.io/zone=z\n",
        "kubernetes",
        "'' is no name of a place",
    ),
    "other labels": ("[a]\nTOPOCOMM_LABELS=a=b,c=d\n[b]\n", "kubernetes", "names a place on any node"),
    "many labels": ("[a]\nTOPOCOMM_LABELS=" + "a=b," * 600 + "\n[b]\n", "kubernetes", "more than 512 labels (rank 0)"),
    "deep": ("[a]\nTOPOCOMM_PLACE=" + "/".join("0" * 40) + "\n[b]\nTOPOCOMM_PLACE=0\n", "place", "has 40 levels"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_left_aside_with_a_word(name, tmp_path):
    text, source, reason = LIES[name]
    choice = chosen(text, tmp_path)
    assert choice.placed is None
    assert reason in one(choice, source)
    assert all(line.isprintable() and line.isascii() and len(line) < 400 for line in choice.lines)


def test_a_lie_does_not_hide_what_is_true(tmp_path):
    lie = "[*]\nSLURM_TOPOLOGY_ADDR=s.n1\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node\n"
    choice = chosen(text_of("xname") + lie, tmp_path)
    assert choice.placed.levels[0] == "cabinet"
    assert "both have SLURM_TOPOLOGY_ADDR=" in one(choice, "slurm")


def test_levels_of_a_place_can_be_named(tmp_path):
    choice = chosen("[a]\nTOPOCOMM_PLACE=row=1/rack=b\n[b]\nTOPOCOMM_PLACE=row=1/rack=c\n", tmp_path)
    assert choice.placed.levels == ("row", "rack")
    deep = chosen("[a]\nTOPOCOMM_PLACE=0/0/0/0\n[b]\nTOPOCOMM_PLACE=0/0/0/1\n", tmp_path / "deep")
    assert deep.placed.levels == ("group3", "group2", "group", "switch")


def test_cards_at_switches_in_common_make_them_one_place(tmp_path):
    """Node a hangs at switches 0 and 1, b at 1 and 2, c at 3 alone, d at two groups."""
    cards = {"a": (0, 64), "b": (65, 128), "c": (192,), "d": (193, 2048)}
    text = "".join(
        f"[{name}]\n" + "".join(f"/sys/class/net/hsn{k}/address: 02:00:00:00:{mac >> 8:02x}:{mac & 255:02x}\n"
                                for k, mac in enumerate(macs))
        for name, macs in cards.items()
    )  # fmt: skip
    assert places(chosen(text, tmp_path)) == ["0+1/0+1+2", "0+1/0+1+2", "0+1/0.3+1.0", "0+1/0.3+1.0"]


# -- the running configuration of Slurm -----------------------------------------------------------------------------

BLOCKS = "BlockName=a Nodes=n[0-1]\nBlockName=b Nodes=n[2-3]\nBlockSizes=2,4\n"
CONF = "SwitchName=s0 Nodes=n[0-1]\nSwitchName=s1 Nodes=n[2-3]\nSwitchName=top Switches=s[0-1]\n"
NODES = "[n0]\n[n1]\n[n2]\n"


def with_files(tmp_path, files: dict[str, str], nodes: str = NODES, **environment: str):
    """The choice where rank 0's node alone has these files: nobody else may be asked for them."""
    found = recorded(nodes)
    found[0].files |= files
    found[0].environment |= environment
    return choice_of(hosts_of(found, tmp_path), "slurm")


@pytest.mark.parametrize(
    ("path", "environment"),
    [
        ("/run/slurm/conf/topology.conf", {}),
        ("/etc/slurm/topology.conf", {}),
        ("/opt/s/topology.conf", {"SLURM_CONF": "/opt/s/slurm.conf"}),
    ],
)
def test_rank_0_reads_the_running_configuration(tmp_path, path, environment):
    choice = with_files(tmp_path, {path: CONF}, **environment)
    assert choice.lines == (f"slurm: switch2, switch from {path}",)
    assert places(choice) == ["top/s0", "top/s0", "top/s1"]


@pytest.mark.parametrize(
    ("text", "levels", "rows"),
    [
        (BLOCKS, ("block4", "block"), ["4.0/a", "4.0/a", "4.0/b"]),
        ("RingName=r0 Nodes=n[0,2]\nRingName=r1 Nodes=n1\n", ("ring",), ["r0", "r1", "r0"]),
        ("Include more.conf\n", ("switch2", "switch"), ["top/s0", "top/s0", "top/s1"]),
    ],
)  # fmt: skip
def test_all_kinds_of_files_are_read(tmp_path, text, levels, rows):
    choice = with_files(tmp_path, {"/etc/slurm/topology.conf": text, "/etc/slurm/more.conf": CONF})
    assert choice.placed is not None, choice.lines
    assert (choice.placed.levels, places(choice)) == (levels, rows)


def test_a_yaml_hides_a_conf_beside_it(tmp_path):
    yaml = '- topology: t\n  ring: {rings: [{ring: r, nodes: "n[0-1]"}, {ring: q, nodes: n2}]}\n'
    files = {"/etc/slurm/topology.yaml": yaml, "/etc/slurm/topology.conf": CONF}
    assert places(with_files(tmp_path / "1", files)) == ["r", "r", "q"]
    choice = with_files(tmp_path / "2", files | {"/etc/slurm/topology.yaml": yaml.replace("n2", "n7")})
    assert choice.placed is None
    assert "topology.yaml does not place node 'n2' (rank 2); it knows 2 of 3" in choice.lines[0]


def test_a_file_that_does_not_know_the_nodes_is_left_aside(tmp_path):
    other = {"/run/slurm/conf/topology.conf": "SwitchName=s Nodes=other[1-9]\n"}
    choice = with_files(tmp_path / "1", other)
    assert choice.placed is None
    assert "/run/slurm/conf/topology.conf does not place node 'n0' (rank 0); it knows 0 of 3" in choice.lines[0]
    both = other | {"/etc/slurm/topology.conf": CONF}
    assert places(with_files(tmp_path / "2", both)) == ["top/s0", "top/s0", "top/s1"]


def test_nodes_are_known_by_the_names_that_slurm_gives_them(tmp_path):
    names = "[x]\nSLURMD_NODENAME=n0\n[y]\nSLURMD_NODENAME=n2\n"
    files = {"/etc/slurm/topology.conf": CONF}
    assert places(with_files(tmp_path / "1", files, names)) == ["top/s0", "top/s1"]
    handed_on = "[n0.site]\n[n2.site]\n[*]\nSLURMD_NODENAME=n0\n"
    assert places(with_files(tmp_path / "2", files, handed_on)) == ["top/s0", "top/s1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "defines no switch"),
        ("SwitchName=s0 Nodes=n[0-\n", "never closed"),
        ("SwitchName=s0 Nodes=n[0-99999999]\n", "more than 1000000 hosts"),
        ("{}", "not Key=Value"),
        ("SwitchName=s\x07 Nodes=n[0-3]\n", "no name of a place"),
    ],
)
def test_malformed_files_are_left_aside(tmp_path, text, reason):
    choice = with_files(tmp_path, {"/etc/slurm/topology.conf": text})
    assert choice.placed is None
    assert reason in choice.lines[0]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    hosts = hosts_of(recorded(NODES), tmp_path)
    (hosts[0].root / "etc/slurm").mkdir(parents=True)
    os.mkfifo(hosts[0].root / "etc/slurm/topology.conf")
    assert "topology.conf cannot be read" in choice_of(hosts).lines[1]


def test_a_defect_is_an_answer_too(tmp_path, monkeypatch):
    """Raised on one rank alone it would leave the others waiting."""
    monkeypatch.setattr(Host, "text", lambda *_: 1 / 0)
    choice = choice_of([Host(name, {}, tmp_path) for name in "ab"], "xname")
    assert choice.lines == ("not xname: failed: ZeroDivisionError: 'division by zero' (rank 0)",)


def test_binary_files_are_left_aside(tmp_path):
    hosts = hosts_of(recorded("[a]\n/etc/cray/xname: -\n[b]\n"), tmp_path)
    (hosts[0].root / "etc/cray/xname").write_bytes(b"\xff\x00")
    assert "is not UTF-8 text: byte 0 (rank 0)" in one(choice_of(hosts), "xname")


# -- Google Cloud ---------------------------------------------------------------------------------------------------

REPLY = b"HTTP/1.0 200 OK\r\nMetadata-Flavor: Google\r\n\r\n"


@pytest.fixture
def answering():
    """A server on the loopback interface that says these bytes, piece by piece, to everybody, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        asked = []

        def serve(replies, pause=0.0):
            for pieces in replies:
                link = server.accept()[0]
                with link, suppress(OSError):
                    asked.append(link.recv(4096))
                    for piece in pieces:
                        link.sendall(piece)
                        time.sleep(pause)

        def start(*replies, pause=0.0):
            pool.submit(serve, replies, pause)
            return {"GCE_METADATA_HOST": f"127.0.0.1:{server.getsockname()[1]}"}, asked

        yield start


def test_the_metadata_server_is_asked_once_a_node(answering, tmp_path):
    environment, asked = answering([REPLY, b"/c1/r", b"1/h1"], [REPLY + b"/c1/r2/h1\n"])
    nodes = recorded("[a] 2\n[b]\n")
    for node in nodes:
        node.environment |= environment
    choice = choice_of(hosts_of(nodes, tmp_path), "gcp,xname")
    assert (choice.placed.levels, places(choice)) == (("cluster", "rack", "host"), ["c1/r1/h1", "c1/r2/h1"])
    assert len(asked) == 2
    assert asked[0].startswith(b"GET /computeMetadata/v1/instance/attributes/physical_host HTTP/1.0\r\n")
    assert b"\r\nMetadata-Flavor: Google\r\n" in asked[0]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (REPLY.replace(b"Google", b"Other") + b"/c/r/h", "is not Google's"),
        (b"", "is not Google's"),
        (b"\xff\r\n\r\n", "is not Google's"),
        (REPLY.replace(b"200", b"404"), "has no physical_host (status '404')"),
        (REPLY, "physical_host is empty on any node"),
        (REPLY + b"x" * 9000, "more than 8192 bytes (rank 0)"),
        (REPLY + b"/a/b/c/d", "is '/a/b/c/d', not /CLUSTER/RACK/HOST"),
        (REPLY + b"/a//c", "'' is no name of a place"),
        (REPLY + b"/a/\x07/c", "is no name of a place"),
    ],
)
def test_other_answers_are_left_aside(answering, tmp_path, reply, reason):
    environment, _ = answering([reply], [reply])
    choice = choice_of([Host(name, environment, tmp_path) for name in "ab"], "gcp")
    assert choice.placed is None
    assert reason in one(choice, "gcp")


def test_a_server_that_does_not_end_is_left_aside(answering, tmp_path, monkeypatch):
    monkeypatch.setattr("topocomm.topology.live.sources.gcp._SECONDS", 0.2)
    drops, _ = answering([REPLY, *[b"x"] * 40], pause=0.02)
    assert "timed out (rank 0)" in one(choice_of([Host("a", drops, tmp_path)] * 2, "gcp"), "gcp")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "does not answer"),
        ("127.0.0.1:x", "needs 1 to 65535"),
        ("127.0.0.1:99999999", "needs 1 to 65535"),
    ],
)
def test_no_server(tmp_path, address, reason):
    host = Host("a", {"GCE_METADATA_HOST": address}, tmp_path)
    assert reason in one(choice_of([host], "gcp"), "gcp")


def test_google_cloud_is_asked_by_name_only(tmp_path):
    assert "gcp" not in named_sources(None)
    assert not any("gcp" in line for line in chosen("[a]\n[b]\n[*]\nGCE_METADATA_HOST=127.0.0.1:1\n", tmp_path).lines)


# -- asking ---------------------------------------------------------------------------------------------------------


def test_files_are_read_by_one_rank_a_node(tmp_path):
    hosts = hosts_of(recorded("[a] 2\n/etc/cray/xname: x1c0s0b0n0\n[b]\n/etc/cray/xname: x1c0s1b0n0\n"), tmp_path)
    hosts[1] = replace(hosts[1], root=tmp_path / "nowhere")
    assert places(choice_of(hosts)) == ["x1/c0/s0/b0", "x1/c0/s1/b0"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [("slrum", "unknown source 'slrum'; known are place, slurm"), ("xname,off", "unknown source 'off'"),
     ("xname, xname", "named twice"), (",", "unknown source ''")],
)  # fmt: skip
def test_unknown_sources_are_refused(words, reason):
    with pytest.raises(TopologyError, match=reason):
        named_sources(words)


def test_what_need_not_be_asked_for():
    assert named_sources(None) == tuple(name for name in SOURCES if SOURCES[name].unasked)
    assert named_sources("off") == ()
    assert named_sources("xname , slurm") == ("xname", "slurm")
