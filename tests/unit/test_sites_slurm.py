"""Slurm's descriptions as its own parser takes them, and as its commands print them."""

import pytest

from topocomm import Topology, TopologyError
from topocomm.topology import read_site
from topocomm.topology.sites import SiteOptions, parse_site, slurm_addr

SHOWN = """SwitchName=l1 Level=0 LinkSpeed=1 Nodes=n[1-2]
SwitchName=l2 Level=0 LinkSpeed=1 Nodes=n[3-4]
SwitchName=l3 Level=0 LinkSpeed=1 Nodes=n5
SwitchName=l4 Level=0 LinkSpeed=1 Nodes=
SwitchName=a Level=1 LinkSpeed=1 Nodes=n[1-4] Switches=l[1-2]
SwitchName=b Level=1 LinkSpeed=1 Nodes= Switches=l4
SwitchName=top Level=2 LinkSpeed=1 Nodes=n[1-5] Switches=a,b,l3
"""
SHOWN_BLOCKS = """BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2
BlockName=b2 BlockIndex=1 Nodes=n[3-4] BlockSize=2
BlockName=b3 BlockIndex=2 Nodes=n5 BlockSize=2
BlockName=b4 BlockIndex=3 BlockSize=2
AggregatedBlock=b[1-2] BlockIndex=4 Nodes=n[1-4] BlockSize=4
AggregatedBlock=b[1-4] BlockIndex=5 Nodes=n[1-5] BlockSize=8
"""
PATTERN = "SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.switch.node\n"
DOTTED = "SLURM_TOPOLOGY_ADDR=sw.3.1.sw.2.1.sw.1.{}.{}\n"


def nodes(text, **options):
    return parse_site(text, "f", None, SiteOptions(**options)).nodes


# -- lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'SwitchName=a Nodes="n1,n2"\nSwitchName=b Nodes="n3,n4"',
        'SwitchName = a Nodes = "n[1-2]"\nSwitchName\t=\tb\tNodes\t=\tn[3-4]',
        'SwitchName="a" Nodes="n1, n2"\nSwitchName=b Nodes="n3  n4 "',
        "SwitchName=a Nodes=n1,\\\nn2\nSwitchName=b \\\n  Nodes=n[3-4]",
        "SwitchName=a Nodes=n1,\\ # the rest follows\nn2\n\nswitchname=b nodes=n[3-4]#end",
        "SwitchName=a Nodes=n1,,n2,\r\nSwitchName=b Nodes=n\\3,n4\r\n",
        "\ufeffSwitchName=a Nodes=n[1-2]\nSwitchName=b Nodes=n[3-4]\n",
    ],
)
def test_quotes_blanks_and_continued_lines(text):
    assert nodes(text) == {"n1": ("a",), "n2": ("a",), "n3": ("b",), "n4": ("b",)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('SwitchName=a Nodes="n1,n2', "line 1: 'Nodes=\"n1,n2' is not Key=Value"),
        ('SwitchName=a Nodes=n1"', "is not Key=Value"),
        ('SwitchName=a Nodes="n1"n2', "is not Key=Value"),
        ("SwitchName=a Nodes='n1,n2'", "not a host name"),
        ("SwitchName=a Nodes=n1, n2", "line 1: 'n2' is not Key=Value"),
        ("SwitchName=a Nodes=n1,\\\n n2", "line 1: 'n2' is not Key=Value"),
        ("SwitchName=a Nodes+=n1", "is not Key=Value"),
        ("SwitchName=a Nodes=switch{b}", "not a host name"),
        ("SwitchName= Nodes=n1", "SwitchName is empty"),
        ("BlockName=b Switches=n1", "switches does not belong on the line of a block"),
        ("Include other.conf\nSwitchName=a Nodes=n1", "line 1: Include other.conf: only a file"),
    ],
)
def test_lines_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^f: .*{reason}"):
        parse_site(text, "f", "slurm_topology")


def test_include(tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "topology.conf").write_text("# site\nInclude more/leaves.conf # here\nSwitchName=top Switches=l[1-2]\n")
    (tmp_path / "more" / "leaves.conf").write_text(f"SwitchName=l1 Nodes=n1\ninclude {tmp_path}/more/last.conf\n")
    (tmp_path / "more" / "last.conf").write_text("SwitchName=l2 Nodes=n2\n")
    assert read_site(tmp_path / "topology.conf").nodes == {"n1": ("top", "l1"), "n2": ("top", "l2")}
    (tmp_path / "more" / "last.conf").write_text("\nSwitchName=l2 Nodes=n[2\n")
    with pytest.raises(TopologyError, match=r"last.conf: line 2: host list .* never closed"):
        read_site(tmp_path / "topology.conf")
    (tmp_path / "more" / "last.conf").write_text("Include topology.conf\n")
    with pytest.raises(TopologyError, match=r"line 2: Include more/leaves.conf: files include each other"):
        read_site(tmp_path / "topology.conf")
    for name, reason in (
        ("no.conf", "cannot be read"),
        ("*.conf", "name of one file"),
        ("%c.conf", "name of one file"),
    ):
        (tmp_path / "topology.conf").write_text(f"\nInclude {name}\n")
        with pytest.raises(TopologyError, match=rf"topology.conf: line 2: Include .*{reason}"):
            read_site(tmp_path / "topology.conf")


# -- trees -----------------------------------------------------------------------------------------------------


def test_empty_leaves_are_allowed():
    text = "SwitchName=l1 Nodes=n[1-2]\nSwitchName=l2\nSwitchName=l3 Nodes=\nSwitchName=top Switches=l[1-3]\n"
    assert nodes(text) == {"n1": ("top", "l1"), "n2": ("top", "l1")}


def test_branches_of_unequal_depth_share_what_they_share():
    """Under x hang a leaf and a switch over a leaf: their nodes meet in x, not only in the top."""
    text = "SwitchName=l1 Nodes=n1\nSwitchName=l2 Nodes=n2\nSwitchName=l3 Nodes=n3\nSwitchName=l4 Nodes=n4\n"
    text += "SwitchName=y Switches=l1\nSwitchName=x Switches=y,l2\nSwitchName=top Switches=x,l[3-4]\n"
    placement = parse_site(text, "f")
    topology = placement.topology(["n1", "n2", "n3", "n4"])
    assert topology.levels == ("switch4", "switch3", "switch2", "switch", "node")
    assert [topology.meet(0, k) for k in (1, 2, 3)] == ["switch3", "switch4", "switch4"]
    assert topology.meet(2, 3) == "switch4"
    assert [placement.nodes[f"n{k}"][-1] for k in range(1, 5)] == ["l1", "l2", "l3", "l4"]


def test_spines_over_the_same_leaves_are_one_place():
    text = (
        "SwitchName=l1 Nodes=n1\nSwitchName=l2 Nodes=n2\nSwitchName=s3 Switches=l[1-2]\nSwitchName=s4 Switches=l[1-2]\n"
    )
    assert nodes(text) == {"n1": ("s[3-4]", "l1"), "n2": ("s[3-4]", "l2")}
    assert nodes(text + "SwitchName=core Switches=s[3-4]\n")["n1"] == ("core", "s[3-4]", "l1")


def test_rings():
    assert parse_site("RingName=r0 Nodes=n[1-2]\nRingName=r1 Nodes=n3 RingSize=1\n", "f").nodes["n3"] == ("r1",)
    with pytest.raises(TopologyError, match="line 2: ring 'r0' is defined twice"):
        parse_site("RingName=r0 Nodes=n1\nRingName=r0 Nodes=n2\n", "f")


# -- blocks ----------------------------------------------------------------------------------------------------


def test_blocks_without_nodes_keep_their_place():
    text = "BlockName=b1 Nodes=n1\nBlockName=b2\nBlockName=b3 Nodes=n3\nBlockSizes=4,8,16\n"
    assert nodes(text) == {"n1": ("16.0", "8.0", "b1"), "n3": ("16.0", "8.1", "b3")}


def test_block_sizes_in_quotes_and_in_any_order():
    text = 'BlockName=b1 Nodes=n1\nBlockName=b2 Nodes=n2\nBlockSizes="4, 16, 8"\n'
    assert parse_site(text, "f").levels == ("block16", "block8", "block")


# -- what scontrol prints --------------------------------------------------------------------------------------


def test_shown_tree():
    placement = parse_site(SHOWN, "f")
    assert placement.levels == ("switch3", "switch2", "switch")
    assert placement.nodes == {
        **{f"n{k}": ("top", "a", "l1") for k in (1, 2)},
        **{f"n{k}": ("top", "a", "l2") for k in (3, 4)},
        "n5": ("top", "l3", "l3"),
    }


def test_shown_blocks():
    placement = parse_site(SHOWN_BLOCKS, "f")
    assert placement.levels == ("block8", "block4", "block")
    assert placement.nodes["n2"] == ("8.0", "4.0", "b1")
    assert placement.nodes["n3"] == ("8.0", "4.0", "b2")
    assert placement.nodes["n5"] == ("8.0", "b3", "b3")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SHOWN.replace("Nodes=n[3-4]", "Nodes=n3"), "line 5: switch 'a' and those below it disagree about node 'n4'"),
        (SHOWN.replace("n[1-5]", "n[1-6]"), "line 7: switch 'top' and those below it disagree about node 'n6'"),
        (SHOWN[SHOWN.index("SwitchName=a") :], "switch 'l1' below 'a' is defined nowhere"),
        (SHOWN_BLOCKS.replace("Nodes=n5", "Nodes=n[5-6]"), "line 6: repeats other nodes"),
        (SHOWN_BLOCKS.replace("b[1-4]", "b[1-5]"), "line 6: block 'b5' is defined nowhere"),
        (SHOWN_BLOCKS + "AggregatedBlock=b[2-3] BlockSize=4\n", "line 7: block 'b2' lies in two blocks of 4"),
        (SHOWN_BLOCKS.replace("b[1-4] BlockIndex=5 Nodes=n[1-5]", "b[2-3]"), "a block of 4 nodes lies in two of 8"),
        (SHOWN_BLOCKS.replace(" BlockSize=4", ""), "line 5: AggregatedBlock needs BlockSize"),
        (SHOWN_BLOCKS + "BlockSizes=4\n", "do not stand in one file"),
    ],
)
def test_shown_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^f: .*{reason}"):
        parse_site(text, "f")


# -- addresses -------------------------------------------------------------------------------------------------


def test_empty_parts_are_missing_tiers():
    text = "".join(
        f"{k}: SLURM_TOPOLOGY_ADDR={a}\n{k}: {PATTERN}"
        for k, a in enumerate(["root.g1.l1.n1", "root.g1.l2.n2", "root..l7.n3", "..l8.n4", "...n5"])
    )
    assert nodes(text) == {
        "n1": ("root", "g1", "l1"),
        "n2": ("root", "g1", "l2"),
        "n3": ("root", "l7", "l7"),
        "n4": ("l8", "l8", "l8"),
        "n5": ("n5", "n5", "n5"),
    }


def test_dots_in_names_are_resolved_by_the_nodes_own_names_or_refused():
    right = {"n11": ("sw.3.1", "sw.2.1", "sw.1.1"), "n21.site": ("sw.3.1", "sw.2.1", "sw.1.2")}
    text = DOTTED.format(1, "n11") + PATTERN + DOTTED.format(2, "n21.site")
    with pytest.raises(TopologyError, match=r"line 1: address .* has more than the 4 parts .*SLURMD_NODENAME"):
        parse_site(text, "f")
    assert nodes(text + "SLURMD_NODENAME=n11\nSLURMD_NODENAME=n21.site\n") == right
    assert nodes(text + 'export SLURM_JOB_NODELIST="n[11,21].site"\n', hosts=("n11",)) == right
    assert nodes(f"n11: {DOTTED.format(1, 'n11')}{PATTERN}n21.site: {DOTTED.format(2, 'n21.site')}") == right
    assert nodes(text, hosts=("n11.site", "n21.site")) == right
    with pytest.raises(TopologyError, match=r"line 3: .*cannot be told"):
        parse_site(text + "SLURMD_NODENAME=n11\n", "f")
    odd = text.replace("sw.2.1", "agg.1")
    with pytest.raises(TopologyError, match=r"line 1: address .* does not have the 4 parts"):
        parse_site(odd + "SLURMD_NODENAME=n11\n", "f")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('"root.g.l.n', "matching quotes"),
        ("root.g.l.n'", "matching quotes"),
        ("root.g.l.n other", "matching quotes"),
        ("", "matching quotes"),
        ("root.l.n", "does not have the 4 parts"),
        ("root.g.l.", "does not have the 4 parts"),
        ("root.g.l[1-.n", "host list"),
    ],
)
def test_addresses_refused(value, reason):
    with pytest.raises(TopologyError, match=f"^f: line 1: .*{reason}"):
        parse_site(f"SLURM_TOPOLOGY_ADDR={value}\n{PATTERN}", "f")


def test_quoted_addresses():
    text = (
        'declare -x SLURM_TOPOLOGY_ADDR="r.g.l.n"\ndeclare -x SLURM_TOPOLOGY_ADDR_PATTERN="switch.switch.switch.node"\n'
    )
    assert nodes(text) == {"n": ("r", "g", "l")}
    assert nodes(text.replace("declare -x ", "export ").replace('"', "'")) == {"n": ("r", "g", "l")}


def test_several_switches_of_a_tier_are_one_place_if_they_overlap_no_other():
    text = f"SLURM_TOPOLOGY_ADDR=s[1-2].g.l1.n1\n{PATTERN}SLURM_TOPOLOGY_ADDR=s[1-2].g.l2.n2\n"
    assert nodes(text)["n2"] == ("s[1-2]", "g", "l2")
    with pytest.raises(TopologyError, match=r"line 3: 's2' is in 's\[2-3\]' and in 's\[1-2\]'"):
        parse_site(text.replace("s[1-2].g.l2", "s[2-3].g.l2"), "f")


def test_addresses_in_rings_and_of_this_node():
    ring = "SLURM_TOPOLOGY_ADDR=r8:2.n1\nSLURM_TOPOLOGY_ADDR_PATTERN=ring:position.node\nSLURM_TOPOLOGY_ADDR=r8:3.n2\n"
    assert parse_site(ring, "f").topology(["n1", "n2"]).meet(0, 1) == "ring"
    own = {"SLURM_TOPOLOGY_ADDR": "a.b.n1.x", "SLURM_TOPOLOGY_ADDR_PATTERN": "switch.switch.node"}
    with pytest.raises(TopologyError, match="cannot be told"):
        slurm_addr.parse_environment(own)
    assert slurm_addr.parse_environment({**own, "SLURMD_NODENAME": "n1.x"}).nodes == {"n1.x": ("a", "b")}


# -- several topologies in one file ------------------------------------------------------------------------------

YAML = """- topology: first
  tree: {switches: [{switch: a, nodes: "n[1-2]"}, {switch: empty}, {switch: none, nodes: }]}
- topology: second
  flat: no
  cluster_default: true
  block:
    block_sizes: [1, 2]
    blocks: [{block: b1, nodes: n1}, {block: b2}, {block: b3, nodes: n2}]
- topology: third
  ring: {rings: [{ring: r, nodes: "n[1-2]"}]}
- topology: none
  flat: true
- topology: cube
  torus3d: {toruses: []}
"""


def test_a_topology_is_chosen_by_name(tmp_path):
    path = tmp_path / "topology.yaml"
    path.write_text(YAML, encoding="utf-8")
    assert read_site(path).nodes == {"n1": ("2.0", "b1"), "n2": ("2.1", "b3")}
    assert read_site(path, name="first").nodes == {"n1": ("a",), "n2": ("a",)}
    assert read_site(f"{path}#third").nodes == {"n1": ("r",), "n2": ("r",)}
    for name, reason in (
        ("none", "is flat"),
        ("cube", "no torus has nodes"),
        ("x", "has no topology 'x'; it has 'first'"),
    ):
        with pytest.raises(TopologyError, match=reason):
            read_site(path, name=name)
    path.write_text(SHOWN)
    with pytest.raises(TopologyError, match="holds one topology"):
        read_site(path, name="first")
    odd = tmp_path / "file#1"
    odd.write_text(SHOWN)
    assert read_site(odd).nodes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (YAML.replace("true", "maybe"), "line 5: cluster_default is 'maybe'"),
        (YAML.replace("second", "first"), "line 3: topology 'first' is defined twice"),
        (YAML.replace("block:\n", "tree: {}\n  block:\n"), "needs one of"),
        (YAML.replace("block: b2", "nodes: n3"), "line 8: an item without 'block'"),
    ],
)
def test_topologies_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^f: .*{reason}"):
        parse_site(text, "f")


def test_every_dialect_says_the_same():
    """One machine, five ways: the same levels up to their names."""
    conf = "SwitchName=l1 Nodes=n[1-2]\nSwitchName=l2 Nodes=n3\nSwitchName=top Switches=l[1-2]\n"
    shown = "".join(
        line.replace(" Nodes", " Level=0 LinkSpeed=1 Nodes").replace(" Switches", " Level=1 Nodes=n[1-3] Switches")
        + "\n"
        for line in conf.splitlines()
    )
    yaml = "- topology: t\n  tree:\n    switches:\n" + "".join(
        f"      - {{switch: {name}, {key}: '{value}'}}\n"
        for name, key, value in [("l1", "nodes", "n[1-2]"), ("l2", "nodes", "n3"), ("top", "children", "l[1-2]")]
    )
    addr = "SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.node\n" + "".join(
        f"SLURM_TOPOLOGY_ADDR=top.l{1 + k // 3}.n{k}\n" for k in (1, 2, 3)
    )
    right = Topology(("switch2", "switch", "node"), [["top", "l1", 1], ["top", "l1", 2], ["top", "l2", 3]])
    for text in (conf, shown, yaml, addr):
        assert parse_site(text, "f").topology(["n1", "n2", "n3"]) == right


# -- tori -----------------------------------------------------------------------------------------------------------

TORUS = """- topology: pods
  torus3d:
    toruses:
      - name: pod1
        dims: {x: 2, y: 2, z: 2}
        nodes: n[1-8]
        placements: [{dims: {x: 2, y: 1, z: 1}}]
      - name: pod2
        dims: {x: 4, y: 2, z: 1}
        regions:
          - {anchor: {x: 2, y: 0, z: 0}, dims: {x: 2, y: 2, z: 1}, nodes: "m[1-4]"}
          - {anchor: {x: 0, y: 1, z: 0}, dims: {x: 2, y: 1, z: 1}, nodes: "m[5-6]"}
"""


def test_a_torus_is_planes_and_lines():
    found = parse_site(TORUS, "f")
    assert found.levels == ("torus", "z", "y")
    rows = {name: "/".join(row) for name, row in found.nodes.items()}
    assert [rows[f"n{k}"] for k in (1, 2, 3, 5, 8)] == ["pod1/0/0", "pod1/0/0", "pod1/0/1", "pod1/1/0", "pod1/1/1"]
    assert [rows[f"m{k}"] for k in (1, 2, 3, 5)] == ["pod2/0/0", "pod2/0/0", "pod2/0/1", "pod2/0/1"]


def test_a_node_of_a_torus_says_the_same_as_the_file():
    line = "SLURM_TOPOLOGY_ADDR=pod1:{}:{}:{}.n{}\nSLURM_TOPOLOGY_ADDR_PATTERN=torus:x:y:z.node\n"
    said = "".join(line.format(k % 2, k // 2 % 2, k // 4, k + 1) for k in range(8))
    found, filed = parse_site(said, "f"), parse_site(TORUS, "f")
    assert found.levels == filed.levels
    assert found.nodes == {name: row for name, row in filed.nodes.items() if name[0] == "n"}
    shown = "TorusName=pod1 Dims=2x2x2 Nodes=n[1-8]\n  TorusName=pod1 PlacementDims=2x1x1(2) Anchors=4\n"
    assert parse_site(shown, "f").nodes["n3"] == ("pod1",)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("n[1-8]", "n[1-7]", "line 6: 2 x 2 x 2 places, but 7 hosts"),
        ("x: 2, y: 2, z: 2", "x: 2, y: 2", "line 5: needs x, y and z"),
        ("x: 2, y: 2, z: 2", "x: 2, y: 2, z: -2", "line 5: needs x, y and z"),
        ("x: 2, y: 2, z: 2", "x: 99999, y: 99999, z: 99999", "needs 1 to 1000000"),
        ("name: pod2", "name: pod1", "line 8: torus 'pod1' is defined twice"),
        ("anchor: {x: 2, y: 0", "anchor: {x: 3, y: 0", "line 11: a region reaches out of torus 'pod2'"),
        ("m[5-6]", "m[1-2]", "line 12: node 'm1' is placed twice"),
        ("anchor: {x: 0, y: 1", "anchor: {x: 2, y: 1", "line 12: 'm5' and 'm3' are both at (2, 1, 0)"),
        ("        nodes: n[1-8]\n", "", "line 4: a torus needs name, dims, and either nodes or regions"),
        ("toruses:", "rings:", "needs 'toruses'"),
        ("n[1-8]", "n[1-", "line 6: "),
    ],
)
def test_malformed_tori_are_refused(old, new, reason):
    assert old in TORUS
    with pytest.raises(TopologyError) as e:
        parse_site(TORUS.replace(old, new), "f")
    assert reason in str(e.value)
