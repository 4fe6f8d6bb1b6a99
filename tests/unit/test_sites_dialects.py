"""Random machines, known beforehand, written in every dialect and read back: what is accepted is right.

A machine is compared by its places: every set of hosts below one switch is a place at some level, and no other set is.
"""

import random
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topocomm import Topology, TopologyError
from topocomm.topology import dumps_nodes, dumps_placement, parse_placement, read_site
from topocomm.topology.sites import FORMATS, SiteOptions, hostlist, mpich, parse_site

HOST_STYLES = ("n{}", "cn-{:03d}", "r{}.site.org", "{:02d}x", "n{}-ib0")
SWITCH_STYLES = ("s{}", "leaf-{:02d}", "ib/{}", "s.{}", "s.{}.1")


class Machine:
    """A forest of switches: hosts by leaf, children by switch, drawn with ``rng``; some leaves are empty."""

    def __init__(self, rng: random.Random, even: bool = False) -> None:
        self.rng = rng
        self.host_style, self.switch_style = rng.choice(HOST_STYLES), rng.choice(SWITCH_STYLES)
        self.leaves: dict[str, list[str]] = {}
        self.below: dict[str, list[str]] = {}
        numbers = iter(rng.sample(range(1, 100), 60))
        sizes = [rng.randint(0 if not even else 1, 4) for _ in range(rng.randint(1, 8))]
        for size in (*sizes, 1):
            self.leaves[self._switch()] = [self.host_style.format(next(numbers)) for _ in range(size)]
        roots = [[leaf] for leaf in self.leaves]
        for _ in range(0 if even else rng.randint(0, 6)):
            chosen = rng.sample(roots, rng.randint(1, len(roots)))
            roots = [root for root in roots if root not in chosen] + [self._over(chosen)]
        while even and len(roots) > 1:
            parts = rng.choice((1, 2)) if len(roots) > 2 else 1
            roots = [self._over(roots[k::parts]) for k in range(parts)]

    def _switch(self) -> str:
        return self.switch_style.format(len(self.leaves) + len(self.below) + 1)

    def _over(self, children: list[list[str]]) -> list[str]:
        """A switch over others, or two of them in parallel, the spines of a fat tree."""
        parents = []
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            parents.append(self._switch())
            self.below[parents[-1]] = [child for twins in children for child in twins]
        return parents

    @property
    def hosts(self) -> list[str]:
        return [host for hosts in self.leaves.values() for host in hosts]

    def under(self, switch: str) -> list[str]:
        if switch in self.leaves:
            return self.leaves[switch]
        return list(dict.fromkeys(host for child in self.below[switch] for host in self.under(child)))

    def height(self, switch: str) -> int:
        return 1 + max((self.height(child) for child in self.below[switch]), default=0) if switch in self.below else 0

    @property
    def switches(self) -> list[str]:
        return [*self.leaves, *self.below]

    @property
    def dotted(self) -> bool:
        return "." in self.switch_style

    @property
    def places(self) -> set[frozenset[str]]:
        return {frozenset(self.under(switch)) for switch in self.switches} - {frozenset()}

    def path(self, host: str) -> list[str]:
        """The switches over a host by tier, outermost first, as Slurm writes them into an address."""
        over = [switch for switch in self.switches if host in self.under(switch)]
        top = max(map(self.height, self.switches))
        return [hostlist.compress(s for s in over if self.height(s) == tier) for tier in range(top, -1, -1)]


def places_of(topology: Topology, names: list[str]) -> set[frozenset[str]]:
    """The sets of hosts in one place, at any level but the node's."""
    return {
        frozenset(names[rank] for rank in group)
        for level in topology.levels
        if level != "node"
        for group in topology.groups(level)
    }


def compare(placement, machine: Machine) -> None:
    hosts = machine.hosts
    assert sorted(placement.nodes) == sorted(hosts)
    assert places_of(placement.topology(hosts), hosts) == machine.places


# -- writers -----------------------------------------------------------------------------------------------------


def listed(names: list[str], rng: random.Random) -> str:
    return rng.choice((hostlist.compress, ",".join))(names)


def pair(key: str, value: str, rng: random.Random) -> str:
    """``Key=Value`` in one of the ways in which Slurm takes it."""
    key = rng.choice((key, key.lower(), key.upper()))
    equals = rng.choice(("=", " = ", "\t="))
    return key + equals + (f'"{value}"' if rng.random() < 0.5 or not value else value)


def conf(machine: Machine) -> list[str]:
    rng, out = machine.rng, []
    for name in rng.sample(machine.switches, len(machine.switches)):
        words = [pair("SwitchName", name, rng)]
        if names := machine.leaves.get(name) or machine.below.get(name):
            words.append(pair("Nodes" if name in machine.leaves else "Switches", listed(names, rng), rng))
        if rng.random() < 0.3:
            words.insert(rng.randint(1, len(words)), "LinkSpeed=10")
        out.append(rng.choice((" ", "  ", " \\\n")).join(words) + rng.choice(("", " ", "\t# here", "\r")))
        out += rng.choice(([], ["# Nodes=none", ""]))
    return out


def shown(machine: Machine) -> str:
    out = []
    for name in sorted(machine.switches, key=machine.height):
        line = (
            f"SwitchName={name} Level={machine.height(name)} LinkSpeed=1 Nodes={hostlist.compress(machine.under(name))}"
        )
        out.append(line + (f" Switches={hostlist.compress(machine.below[name])}" if name in machine.below else ""))
    return "\n".join(out) + "\n"


def yaml(machine: Machine) -> str:
    out = ["- topology: other", "  flat: true", "- topology: chosen", "  tree:", "    switches:"]
    for name in machine.switches:
        out.append(f"    - switch: '{name}'")
        if names := machine.leaves.get(name) or machine.below.get(name):
            out.append(f"      {'nodes' if name in machine.leaves else 'children'}: '{listed(names, machine.rng)}'")
    return "\n".join(out) + "\n"


def addresses(machine: Machine) -> str:
    rng, out = machine.rng, []
    tiers = 1 + max(map(machine.height, machine.switches))
    for rank, host in enumerate(rng.sample(machine.hosts, len(machine.hosts))):
        before = rng.choice(("", f"{rank}: ", "export "))
        quote = rng.choice(("", "'", '"'))
        out += [f"{before}SLURM_TOPOLOGY_ADDR={quote}{'.'.join([*machine.path(host), host])}{quote}"]
        out += [f"{before}SLURM_TOPOLOGY_ADDR_PATTERN={'switch.' * tiers}node"]
        out += [f"{before}SLURMD_NODENAME={host}", "SLURM_JOB_ID=7"]
    return "\n".join(out)


def blocks(rng: random.Random) -> tuple[Machine, list[int], list[str]]:
    """A machine whose leaves are blocks and whose other switches are the larger blocks that Slurm makes of them."""
    machine = Machine(rng, even=False)
    machine.below = {}
    names = list(machine.leaves)
    sizes = [4, *(4 * factor for factor in rng.choice(((), (2,), (4,), (2, 4), (8,))))]
    for size in sizes[1:]:
        for first in range(0, len(names), size // 4):
            machine.below[f"{size}.{first}"] = names[first : first + size // 4]
    return machine, sizes, names


MACHINES = st.integers(0, 2**32).map(random.Random)
MANY = settings(max_examples=150, deadline=None)


# -- one tree, every dialect of Slurm ------------------------------------------------------------------------------


@MANY
@given(MACHINES)
def test_trees(rng):
    machine = Machine(rng)
    compare(parse_site("\n".join(conf(machine)), "f"), machine)
    compare(parse_site(shown(machine), "f"), machine)
    compare(parse_site(yaml(machine), "f", None, SiteOptions(name="chosen")), machine)


@settings(max_examples=20, deadline=None)
@given(MACHINES)
def test_trees_over_several_files(tmp_path_factory, rng):
    machine, folder = Machine(rng), tmp_path_factory.mktemp("conf")
    lines = conf(machine)
    cut = rng.randint(0, len(lines))
    (folder / "topology.conf").write_text("\n".join(["INCLUDE  more.conf", *lines[:cut]]), encoding="utf-8-sig")
    (folder / "more.conf").write_text("\n".join(lines[cut:]))
    compare(read_site(folder / "topology.conf"), machine)


@MANY
@given(MACHINES)
def test_addresses(rng):
    """Switches whose names hold dots may be refused where tiers are missing; nothing is read wrongly."""
    machine = Machine(rng)
    text = addresses(machine)
    try:
        placement = parse_site(text, "f")
    except TopologyError:
        assert machine.dotted
        return
    compare(placement, machine)


@MANY
@given(MACHINES)
def test_dots_are_resolved_where_no_tier_is_missing(rng):
    machine = Machine(rng, even=True)
    assert not any("" in machine.path(host) for host in machine.hosts)
    compare(parse_site(addresses(machine), "f"), machine)


@MANY
@given(MACHINES)
def test_without_own_names_dots_never_make_a_wrong_node(rng):
    machine = Machine(rng)
    text = "\n".join(line for line in addresses(machine).split("\n") if "NODENAME" not in line)
    if machine.dotted or "." in machine.host_style:
        with pytest.raises(TopologyError, match="cannot be told"):
            parse_site(text, "f")
    else:
        compare(parse_site(text, "f"), machine)


@MANY
@given(MACHINES)
def test_blocks(rng):
    machine, sizes, names = blocks(rng)
    lines = [
        f"BlockName={name}" + (f" Nodes={listed(hosts, rng)}" if hosts else "")
        for name, hosts in machine.leaves.items()
    ]
    compare(parse_site("\n".join([*lines, f"BlockSizes={','.join(map(str, sizes))}"]), "f"), machine)
    bases = [f"{line} BlockIndex={k} BlockSize=4" for k, line in enumerate(lines)]
    larger = [
        f"AggregatedBlock={hostlist.compress(inside)} BlockIndex={len(names)} "
        f"Nodes={hostlist.compress(machine.under(name))} BlockSize={name.partition('.')[0]}"
        for name, inside in machine.below.items()
    ]
    compare(parse_site("\n".join(bases + larger), "f"), machine)
    items = [f"{{block: '{name}', nodes: '{hostlist.compress(hosts)}'}}" for name, hosts in machine.leaves.items()]
    text = f"- topology: b\n  block: {{block_sizes: {sizes}, blocks: [{', '.join(items)}]}}\n"
    compare(parse_site(text, "f"), machine)


# -- other formats -------------------------------------------------------------------------------------------------


@MANY
@given(MACHINES)
def test_placements_and_tables(rng):
    """Rows of places by node, at one to three levels: JSON, both tables, coordinates, a pattern."""
    levels = ("group", "rack", "switch")[: rng.randint(1, 3)]
    rows = {
        n: tuple(str(rng.randint(0, 2)) for _ in levels) for n in sorted(rng.sample(range(1000), rng.randint(1, 12)))
    }
    topology = Topology((*levels, "node"), [[*row, n] for n, row in rows.items()])
    hosts = [str(n) for n in rows]
    table = ["# node\t" + "\t".join(levels), *("\t".join([str(n), *row]) for n, row in rows.items())]
    ranges = ["# first_node\tlast_node\t" + "\t".join(levels)]
    ranges += ["\t".join([str(n), str(n), *row]) for n, row in rows.items()]
    placement = parse_site("\n".join(table), "f")
    assert placement.topology(hosts) == topology
    assert parse_site("\n".join(ranges), "f").topology(hosts) == topology
    assert parse_placement(dumps_nodes(placement)).topology(hosts) == topology
    ranked = parse_site(dumps_placement(topology), "f")
    assert Topology(ranked.levels, ranked.ranks) == topology
    if len(levels) < 3:
        coordinates = parse_site(mpich.dumps_coordinates(topology), "f")
        found = Topology(coordinates.levels, coordinates.ranks)
        assert [list(places) for places in found.nesting] == [list(places) for places in topology.nesting]
    named = [f"{'-'.join(row)}n{n}" for n, row in rows.items()]
    pattern = "-".join(f"(?P<{level}>[0-9])" for level in levels) + "n[0-9]+"
    text = "\n".join(f"{host}{rng.choice(('', ':4', ' slots=2'))}" for host in named)
    assert parse_site(text, "f", None, SiteOptions(pattern=pattern)).topology(named) == topology


@MANY
@given(MACHINES)
def test_xnames(rng):
    where = {
        (rng.randint(1, 2), rng.randint(0, 1), rng.randint(0, 7), rng.randint(0, 1), rng.randint(0, 1))
        for _ in range(9)
    }
    xnames = ["x{}c{}s{}b{}n{}".format(*place) for place in sorted(where)]
    rows = [[f"x{x}", f"c{c}", f"s{s}", f"b{b}"] for x, c, s, b, _ in sorted(where)]
    hosts = [f"nid{k:06d}" for k in range(len(xnames))]
    pairs = list(zip(hosts, xnames, strict=True))
    for names, text in (
        (xnames, " ".join(xnames)),
        (xnames, "\n".join(f"{x} slots=8" for x in xnames)),
        (hosts, "\n".join(f"{h} {x}" for h, x in pairs)),
        (hosts, "\n".join(f"{x}\t{h}  # first" for h, x in pairs)),
        (hosts, "127.0.0.1 localhost\n" + "\n".join(f"10.0.0.{k} {h}.site {h} {x}" for k, (h, x) in enumerate(pairs))),
        (hosts, "\n".join(f"10.0.0.{k} {x} {h}" for k, (h, x) in enumerate(pairs))),
    ):
        placement = parse_site(text, "f")
        assert placement.topology(names) == Topology(
            ("cabinet", "chassis", "slot", "board", "node"), [[*row, k] for k, row in enumerate(rows)]
        )


@MANY
@given(MACHINES)
def test_insides_of_nodes(rng):
    """Sockets of NUMA nodes of caches of cores, with numbers that repeat at will, as hwloc 1 and 2 write them."""
    version = rng.choice((1, 2))
    root = ElementTree.Element("topology")
    machine = ElementTree.SubElement(root, "object", type="Machine")
    rows, pu, allowed = [], 0, 0
    sockets, numas = rng.randint(1, 3), rng.randint(1, 3)
    for socket in range(sockets):
        package = ElementTree.SubElement(machine, "object", type="Package", os_index=str(rng.randint(0, 1)))
        first_of_socket = pu
        for numa in range(numas):
            around, first = package, pu
            if version == 1:
                around = memory = ElementTree.SubElement(
                    package, "object", type="NUMANode", os_index=str(rng.randint(0, 1))
                )
            else:
                memory = ElementTree.SubElement(package, "object", type="NUMANode", os_index=str(rng.randint(0, 1)))
            for _ in range(rng.randint(1, 2)):
                cache = ElementTree.SubElement(around, "object", type="L3Cache")
                for _ in range(rng.randint(1, 2)):
                    core = ElementTree.SubElement(cache, "object", type="Core", os_index=str(rng.randint(0, 1)))
                    core.set("cpuset", hex(3 << pu))
                    use = rng.choice((0, 1, 2, 3, 3))
                    allowed |= use << pu
                    if use:
                        rows.append((socket, (socket, numa), len(rows)))
                    pu += 2
            memory.set("cpuset", hex((1 << pu) - (1 << first)))
        package.set("cpuset", hex((1 << pu) - (1 << first_of_socket)))
    machine.set("cpuset", hex((1 << pu) - 1))
    machine.set("allowed_cpuset", hex(allowed))
    text = ElementTree.tostring(root, encoding="unicode")
    if not rows:
        with pytest.raises(TopologyError, match="allows no core"):
            parse_site(text, "f")
        return
    placement = parse_site(text, "f")
    found = Topology(placement.levels, placement.ranks)
    right = {"socket": [row[0] for row in rows], "core": [row[2] for row in rows]}
    if len({row[1] for row in rows}) > 1:
        right["numa"] = [row[1] for row in rows]
    assert {level: sorted(map(tuple, found.groups(level))) for level in found.levels} == {
        level: sorted(tuple(k for k, other in enumerate(column) if other == name) for name in set(column))
        for level, column in right.items()
    }


def test_every_format_has_a_known_machine():
    """The formats that the tests of this module write; another one needs a test here."""
    assert set(FORMATS) == {"placement", "hwloc", "slurm_topology", "slurm_yaml", "slurm_addr", "mpich_coordinates",
                            "node_table", "range_table", "xnames", "pattern"}  # fmt: skip
