"""Readers of sites' formats: what each says, what each refuses, and what is guessed."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topocomm import Topology, TopologyError
from topocomm.topology import read_site
from topocomm.topology.sites import FORMATS, SiteOptions, mpich, names, parse_site, slurm_addr, tables

TREE = """# fat tree
SwitchName=s0 Nodes=tux[0-1] LinkSpeed=900
switchname=s1 nodes=tux[2-3]  # comment
SwitchName=s2 \\
  Nodes=tux[4-5]
SwitchName=top Switches=s[0-1]
SwitchName=other Switches=s2
"""
BLOCKS = "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockName=b3 Nodes=n[5-6]\nBlockSizes=2,4\n"
ADDR = """0: SLURM_TOPOLOGY_ADDR=root.cell1.leaf4.n386
0: SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.switch.node
1: SLURM_TOPOLOGY_ADDR=root.cell2.leaf1.n12
"""
COORDINATES = "# rank: group id, switch id, port number\n1: 1 10 -1\n0: 1 7 -1\n2: 2 7 -1\n"
XNAMES = "x1000c0s0b0n[0-1]\nx1001c3s7b1n0\n"
NODES = "# node\tgroup\track\tswitch\n1\t1\t1\t100\n2\t1\t1\t101\n3\t2\t9\t100\n"
RANGES = "# first_node\tlast_node\tgroup\n1000\t1003\tA\n2000\t2001\tB\n"
HWLOC2 = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
 <object type="Machine" os_index="0" cpuset="0x000000ff">
  <object type="Package" os_index="0" cpuset="0x0000000f">
   <object type="NUMANode" os_index="0" cpuset="0x00000003"/><object type="NUMANode" os_index="1" cpuset="0x0000000c"/>
   <object type="Core" os_index="0" cpuset="0x00000003"><object type="PU" os_index="0" cpuset="0x1"/></object>
   <object type="Core" os_index="1" cpuset="0x0000000c"/>
  </object>
  <object type="Package" os_index="1" cpuset="0x000000f0">
   <object type="NUMANode" os_index="2" cpuset="0x000000f0"/>
   <object type="Core" os_index="0" cpuset="0x00000030"/><object type="Core" os_index="1" cpuset="0x000000c0"/>
  </object>
 </object>
</topology>
"""
HWLOC1 = """<?xml version="1.0"?><topology><object type="Machine"><object type="NUMANode" os_index="0">
<object type="Socket" os_index="0"><object type="Core" os_index="0"/><object type="Core" os_index="1"/></object>
</object><object type="NUMANode" os_index="1">
<object type="Socket" os_index="1"><object type="Core" os_index="0"/></object>
</object></object></topology>"""
HWLOC_DIES = """<topology version="2.0"><object type="Machine"><object type="Package" os_index="0" cpuset="0xff">
<object type="NUMANode" os_index="0" cpuset="0xff"/>
<object type="Die" os_index="0" cpuset="0x0f"><object type="Group" gp_index="7" cpuset="0x03">
<object type="Core" os_index="0" cpuset="0x01"/><object type="Core" os_index="1" cpuset="0x02"/></object>
<object type="Group" gp_index="8" cpuset="0x0c"><object type="Core" os_index="2" cpuset="0x0c"/></object></object>
<object type="Die" os_index="1" cpuset="0xf0"><object type="Group" gp_index="9" cpuset="0xf0">
<object type="Core" os_index="3" cpuset="0xf0"/></object></object>
</object></object></topology>"""
YAML = """---
- topology: plain
  flat: true
- topology: fabric   # the one to take
  cluster_default: true
  tree:
    switches:
      - {switch: top, children: "s[0-1]"}
      - switch: s0
        nodes: tux[0-1]
      - switch: s1
        nodes: tux2,tux3
- topology: pods
  cluster_default: true
  block: {block_sizes: [4, 8], blocks: [{block: b1, nodes: "n[1-4]"}, {block: b2, nodes: "n[5-8]"}]}
"""
JSON = '{"format": "topocomm-placement", "version": 1, "levels": ["rack"], "nodes": {"a": ["r0"], "b": ["r1"]}}'
SAMPLES = {
    "placement": JSON,
    "hwloc": HWLOC2,
    "slurm_topology": TREE,
    "slurm_yaml": YAML,
    "slurm_addr": ADDR,
    "mpich_coordinates": COORDINATES,
    "node_table": NODES,
    "range_table": RANGES,
    "xnames": XNAMES,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_format_is_guessed_and_can_be_told(name, tmp_path):
    path = tmp_path / "site"
    path.write_text(SAMPLES[name])
    assert read_site(path) == read_site(path, name)
    assert [n for n in SAMPLES if FORMATS[n].looks(SAMPLES[name]) is None] == [name]


def test_says_what_was_tried(tmp_path):
    path = tmp_path / "site"
    path.write_text("hello\n")
    with pytest.raises(TopologyError, match="site: no known format; tried") as e:
        read_site(path)
    reasons = str(e.value).split("\n")[1:]
    assert [line.split()[0] for line in reasons] == list(FORMATS)
    assert max(map(len, reasons)) < 100
    with pytest.raises(TopologyError, match="unknown format 'hwlok'; known are placement, hwloc"):
        read_site(path, "hwlok")
    with pytest.raises(TopologyError, match="cannot be read"):
        read_site(tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TopologyError, match="not UTF-8"):
        read_site(path)


def test_slurm_tree():
    placement = parse_site(TREE, "f")
    assert placement.levels == ("switch2", "switch")
    assert placement.nodes["tux1"] == ("top", "s0")
    assert placement.nodes["tux5"] == ("other", "s2")
    uneven = parse_site("SwitchName=a Nodes=x\nSwitchName=b Nodes=y\nSwitchName=c Switches=a\n", "f")
    assert uneven.nodes == {"x": ("c", "a"), "y": ("b", "b")}


def test_slurm_blocks():
    placement = parse_site(BLOCKS, "f")
    assert placement.levels == ("block4", "block")
    assert [placement.nodes[f"n{i}"] for i in (2, 3, 5)] == [("4.0", "b1"), ("4.0", "b2"), ("4.1", "b3")]


def test_slurm_address():
    placement = parse_site(ADDR, "f")
    assert placement.levels == ("switch3", "switch2", "switch")
    assert placement.nodes == {"n386": ("root", "cell1", "leaf4"), "n12": ("root", "cell2", "leaf1")}
    own = {"SLURM_TOPOLOGY_ADDR": "n1.x", "SLURM_TOPOLOGY_ADDR_PATTERN": "node", "HOME": "/"}
    assert slurm_addr.parse_environment(own).nodes == {"n1.x": ()}
    with pytest.raises(TopologyError, match="not set"):
        slurm_addr.parse_environment({})


def test_coordinates_are_read_and_written():
    placement = parse_site(COORDINATES, "f")
    assert (placement.levels, placement.ranks) == (("group", "switch"), (("1", "7"), ("1", "10"), ("2", "7")))
    topology = Topology(placement.levels, placement.ranks)
    again = mpich.parse(mpich.dumps_coordinates(topology))
    assert Topology(again.levels, again.ranks) == topology
    with pytest.raises(TopologyError, match="equally near"):
        mpich.dumps_coordinates(Topology.flat(3))


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12), st.integers(1, 3))
def test_coordinates_keep_up_to_three_levels(places, depth):
    topology = Topology(["a", "b", "c"][:depth], [row[:depth] for row in places])
    again = mpich.parse(mpich.dumps_coordinates(topology))
    kept = Topology(again.levels, again.ranks)
    assert [list(x) for x in kept.nesting] == [list(x) for x in topology.nesting]


def test_xnames():
    placement = parse_site(XNAMES, "f")
    assert placement.levels == ("cabinet", "chassis", "slot", "board")
    assert placement.nodes["x1001c3s7b1n0"] == ("x1001", "c3", "s7", "b1")
    assert parse_site("nid000001 x1000c0s0b0n0\n", "f").nodes == {"nid000001": ("x1000", "c0", "s0", "b0")}


def test_pattern():
    options = SiteOptions(pattern=r"r(?P<rack>\d+)n(?P<node>\d+)")
    placement = parse_site("r1n[1-2] r2n1\n", "f", None, options)
    assert (placement.levels, placement.nodes) == (("rack",), {"r1n1": ("1",), "r1n2": ("1",), "r2n1": ("2",)})
    for pattern, reason in [("(", "not a regular"), ("r.*", "no named group"), (r"(?P<a>x)?.*", "does not match")]:
        with pytest.raises(TopologyError, match=reason):
            names.place_by_pattern(["r1n1"], pattern)
    with pytest.raises(TopologyError, match="needs a pattern"):
        parse_site("r1n1", "f", "pattern")


def test_tables():
    placement = parse_site(NODES, "f", None, SiteOptions(host="lrdn{:04d}"))
    assert (placement.levels, placement.nodes["lrdn0002"]) == (("group", "rack", "switch"), ("1", "1", "101"))
    placement = parse_site(RANGES, "f")
    assert len(placement.nodes) == 6
    assert placement.nodes["2001"] == ("B",)
    jobs = tables.parse_jobs("# job\tnodes\tnode_ids\n17\t3\t1,3-4\n")
    assert jobs == [tables.Job("17", (1, 3, 4))]
    for form in ("nid", "{:d", "{x}", "{:.99999999999}", "{0.real}{}"):
        with pytest.raises(TopologyError, match="host format"):
            parse_site(NODES, "f", None, SiteOptions(host=form))


def test_hwloc():
    placement = parse_site(HWLOC2, "f")
    assert placement.levels == ("socket", "numa", "core")
    assert placement.ranks == (("0", "0", "0"), ("0", "1", "1"), ("1", "2", "0"), ("1", "2", "1"))
    assert parse_site(HWLOC1, "f").ranks == (("0", "0", "0"), ("0", "0", "1"), ("1", "1", "0"))


def test_hwloc_dies_and_groups():
    placement = parse_site(HWLOC_DIES, "f")
    assert placement.levels == ("socket", "die", "group", "core")
    assert placement.ranks == (("0", "0", "7", "0"), ("0", "0", "7", "1"), ("0", "0", "8", "2"), ("0", "1", "9", "3"))
    one_die = HWLOC2.replace('Package" os_index="0"', 'Package" os_index="0"', 1)
    assert parse_site(one_die, "f").levels == ("socket", "numa", "core")
    half = HWLOC_DIES.replace('<object type="Group" gp_index="9" cpuset="0xf0">', "").replace(
        "</object></object>\n</object></object></topology>", "</object>\n</object></object></topology>"
    )
    assert parse_site(half, "f").levels == ("socket", "die", "core"), "core 3 belongs to no group"
    nested = HWLOC1.replace("NUMANode", "Group")
    assert parse_site(nested.replace("Socket", "Group"), "f").levels == ("group2", "group", "core")


def test_slurm_yaml():
    placement = parse_site(YAML, "f")
    assert placement.levels == ("switch2", "switch")
    assert placement.nodes == {f"tux{i}": ("top", f"s{i // 2}") for i in range(4)}
    blocks = parse_site(YAML[YAML.index("- topology: pods") :], "f")
    assert blocks.levels == ("block8", "block")
    assert blocks.nodes["n5"] == ("8.0", "b2")


def test_slurm_yaml_without_pyyaml_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(TopologyError, match="pip install pyyaml"):
        parse_site(YAML, "f")


@pytest.mark.parametrize(
    ("format", "text", "reason"),
    [
        ("slurm_topology", "", "defines no switch"),
        ("slurm_topology", "SwitchName=a Nodes=x Ports=3", "line 1: 'Ports=3' is not one of"),
        ("slurm_topology", "\nSwitchName=a", "places no node: no switch has Nodes"),
        ("slurm_topology", "\nSwitchName=a Nodes=x Switches=b\nSwitchName=b", "line 2: switch 'a' has both"),
        ("slurm_topology", "SwitchName=a Nodes=x Nodes=y", "Nodes is given twice"),
        ("slurm_topology", "SwitchName=a Nodes=x\nSwitchName=a Nodes=y", "line 2: switch 'a' is defined twice"),
        ("slurm_topology", "SwitchName=a Nodes=x\nSwitchName=b Nodes=x", "line 2: node 'x' is placed twice"),
        ("slurm_topology", "SwitchName=a Switches=b", "'b' below 'a' is defined nowhere"),
        ("slurm_topology", "SwitchName=a Switches=b\nSwitchName=b Switches=a", "lies below itself"),
        ("slurm_topology", "SwitchName=a Nodes=x[2-1]", "line 1: host list item .* backwards"),
        ("slurm_topology", "SwitchName=a Nodes=x \\", "continued"),
        ("slurm_topology", "Nodes=x", "without SwitchName"),
        ("slurm_topology", "SwitchName=a Nodes=x\nBlockName=b Nodes=y", "mixes"),
        (
            "slurm_topology",
            "SwitchName=a Nodes=x\nSwitchName=d Nodes=y\nSwitchName=b Switches=a\nSwitchName=c Switches=a,d",
            "line 4: switch 'a' hangs below 'b' already",
        ),
        ("slurm_topology", "BlockSizes=4", "defines no block"),
        ("slurm_topology", "BlockName=b", "places no node: no block has Nodes"),
        ("slurm_topology", "BlockName=b Nodes=x\nBlockSizes=4,12", "power of two"),
        ("slurm_topology", "BlockName=b Nodes=x\nBlockSizes=4,x", "not whole numbers"),
        ("slurm_topology", "BlockName=b Nodes=x\nBlockSizes=4\nBlockSizes=4", "stand once"),
        ("slurm_yaml", "a: [", "line 1: not YAML"),
        ("slurm_yaml", "a: b", "line 1: needs a list"),
        ("slurm_yaml", "", "needs a list"),
        ("slurm_yaml", "- 3", "line 1: needs 'key: value'"),
        ("slurm_yaml", "- tree: x", "without 'topology'"),
        ("slurm_yaml", "- topology: x\n  topology: y", "line 2: topology is given twice"),
        ("slurm_yaml", "- topology: x\n  flat: true", "places no node"),
        ("slurm_yaml", "- topology: x\n  tree: {a: b}", "line 2: a tree topology needs 'switches'"),
        ("slurm_yaml", "- topology: x\n  tree:\n    switches: []", "defines no switch"),
        (
            "slurm_yaml",
            "- topology: x\n  tree:\n    switches:\n    - {switch: a, node: b}",
            "line 4: unknown key 'node'",
        ),
        ("slurm_yaml", "- topology: x\n  tree:\n    switches:\n    - {switch: a, nodes: [b]}", "needs a word"),
        ("slurm_yaml", "- topology: x\n  tree:\n    switches:\n    - {switch: a}", "no switch has Nodes"),
        ("slurm_yaml", "- topology: x\n  block: {}", "needs 'blocks'"),
        ("slurm_yaml", "- topology: x\n  block: {blocks: [{block: b}]}", "no block has Nodes"),
        ("slurm_addr", "x", "ADDR is not set"),
        ("slurm_addr", "SLURM_TOPOLOGY_ADDR=a.b", "PATTERN is not set"),
        ("slurm_addr", "SLURM_TOPOLOGY_ADDR=b\nSLURM_TOPOLOGY_ADDR_PATTERN=switch.node", "does not have the 2"),
        ("slurm_addr", "SLURM_TOPOLOGY_ADDR=b\nSLURM_TOPOLOGY_ADDR_PATTERN=switch", "end with 'node'"),
        ("slurm_addr", ADDR + "SLURM_TOPOLOGY_ADDR_PATTERN=node", "line 4: the pattern 'node' differs"),
        ("mpich_coordinates", "#\n", "places no rank"),
        ("mpich_coordinates", "#\n0: 1 2\n", "line 2: rank 0 has 2 coordinates"),
        ("mpich_coordinates", "#\n0 1 2 3\n", "line 2"),
        ("mpich_coordinates", "#\n0: 1 2 3\n0: 1 2 3", "line 3: rank 0 appears twice"),
        ("mpich_coordinates", "#\n1: 1 2 3\n", "rank 0 is missing"),
        ("mpich_coordinates", "#\n0: 1 2 3\n1: 1 -1 3\n", "switch of rank 1 is unknown"),
        ("mpich_coordinates", "#\n0: 1 -2 3\n", "below -1"),
        ("xnames", "x1c0s0b0n0 x1c0s0b0", "line 1: 'x1c0s0b0' is not an xname"),
        ("xnames", "# none", "holds no xname"),
        ("xnames", "a x1c0s0b0n0\na x1c0s0b0n0\na x2c0s0b0n0", "line 3: node 'a' is placed twice"),
        ("node_table", "# node\tgroup\nx\t1", "line 2: 'x' is not the number"),
        ("node_table", "# node\tgroup\n1\t1\t2", "line 2: has 3 columns"),
        ("node_table", "# node\tgroup\tgroup\n", "each level once"),
        ("node_table", "# node\tgroup\n", "places no node"),
        ("node_table", "1\t1\n", "heading"),
        ("range_table", "# first_node\tlast_node\tgroup\n5\t1\t1", "backwards"),
        ("range_table", "# first_node\tlast_node\tgroup\n1\t9999999\t1", "more than"),
        ("range_table", "# first_node\tlast_node\tgroup\n1\t9\t1\n9\t10\t2", "line 3: node '9' is placed twice"),
        ("hwloc", "<topology>", "line 1: not XML"),
        ("hwloc", "<a/>", "the document is <a>"),
        ("hwloc", "<topology/>", "no object of type Core"),
        ("hwloc", "<topology><object/></topology>", "object 0 has no type"),
        ("hwloc", '<!DOCTYPE t [<!ENTITY a "b">]><topology/>', "entities"),
        ("hwloc", '<topology><object type="Core" cpuset="zz"/></topology>', "not a bitmap"),
        ("hwloc", '<topology><object type="Package"/><object type="Core"/></topology>', "lies in no socket"),
    ],
)
def test_refused_with_the_reason(format, text, reason):
    with pytest.raises(TopologyError, match=f"^file: .*{reason}"):
        parse_site(text, "file", format)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# job\tnodes\n", "heading"),
        ("# job\tnodes\tnode_ids\n1\t2\t1\n", "line 2: job 1 has 1 nodes, not 2"),
        ("# job\tnodes\tnode_ids\n1\t2\t1,1\n", "names a node twice"),
        ("# job\tnodes\tnode_ids\n1\t2\t1-x\n", "line 2: host list"),
    ],
)
def test_jobs_refused(text, reason):
    with pytest.raises(TopologyError, match=f"^jobs: .*{reason}"):
        tables.parse_jobs(text)
