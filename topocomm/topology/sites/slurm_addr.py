"""The place of nodes as Slurm tells each task: ``SLURM_TOPOLOGY_ADDR`` and ``SLURM_TOPOLOGY_ADDR_PATTERN``.

    SLURM_TOPOLOGY_ADDR=root.cell1.leaf4.node386
    SLURM_TOPOLOGY_ADDR_PATTERN=switch.switch.switch.node
    SLURMD_NODENAME=node386

The address names the switches from the top down and then the node, between dots; the pattern says which is which. A
tier that a branch lacks is empty, and the one below stands for it, as in :mod:`topocomm.topology.sites.slurm_tree`.
``leaf[1-2]`` stands for several switches of one tier: one place, if no other node hangs at some of them only. Of a ring
(``ring:position``) the name before the colon counts; a torus (``torus:x:y:z``) has the levels of
:mod:`topocomm.topology.sites.slurm_torus`.

Where names hold dots themselves, dots alone do not part the address. Then the node's own name must be known: from
SLURMD_NODENAME, from SLURM_JOB_NODELIST, from ``node386:`` before each line, or as a host of the job; and the switches'
names must all begin with one and the same word. Anything else is refused.

The text holds the variables of all nodes of a job, as ``srun --ntasks-per-node=1 env | grep SLURM`` prints them;
``export``, quotes and the labels of ``srun --label`` may stand around them. Source: sbatch(1) and srun(1), OUTPUT
ENVIRONMENT VARIABLES, and topology_p_get_node_addr in Slurm's src/plugins/topology.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from topocomm.errors import TopologyError
from topocomm.topology.files import Placement
from topocomm.topology.sites import hostlist
from topocomm.topology.sites.slurm_torus import LEVELS
from topocomm.topology.sites.slurm_tree import without_gaps
from topocomm.topology.sites.text import Nodes, add_node, fail, lines

__all__ = ["looks", "parse", "parse_environment"]

_ADDR, _PATTERN = "SLURM_TOPOLOGY_ADDR", "SLURM_TOPOLOGY_ADDR_PATTERN"
_TORUS = "torus:x:y:z"
_NODES = ("SLURMD_NODENAME", "SLURM_JOB_NODELIST", "SLURM_NODELIST")
_LINE = re.compile(rf"(?:([\w.-]+):\s*)?(?:export\s+|declare\s+-x\s+)?({_ADDR}|{_PATTERN}|{'|'.join(_NODES)})=(.*)")


def looks(text: str) -> str | None:
    """Tell why these cannot be Slurm's variables; None if they may be."""
    return None if f"{_ADDR}=" in text else f"it does not set {_ADDR}"


def parse(text: str, source: str = _ADDR, hosts: Iterable[str] = ()) -> Placement:
    """Read the placement by node; ``hosts`` are names that nodes are known to have. Other lines are read over.

    Raises TopologyError for anything that does not fit.
    """
    addresses: list[tuple[int, str]] = []
    patterns: dict[str, int] = {}
    own = {name for host in hosts for name in (host, host.partition(".")[0])}
    for number, label, name, value in _variables(text, source):
        if label and not label.isdecimal():
            own.add(label)
        if name == _ADDR:
            addresses.append((number, value))
        elif name == _PATTERN:
            patterns.setdefault(value, number)
        else:
            own |= _listed(value, source, number)
    if not addresses:
        fail(source, f"{_ADDR} is not set anywhere")
    if not patterns:
        fail(source, f"{_PATTERN} is not set anywhere")
    pattern, *others = patterns
    if others:
        fail(source, f"the pattern {others[0]!r} differs from {pattern!r} before it", patterns[others[0]])
    return _placement(addresses, pattern, own, source)


def _variables(text: str, source: str) -> Iterator[tuple[int, str | None, str, str]]:
    """Line, label, name and value of every variable that counts."""
    for number, line in lines(text, comment="\0"):
        match = _LINE.fullmatch(line)
        if match is not None:
            value = match[3].strip()
            quote = value[:1]
            if quote in ("'", '"') and value.endswith(quote) and len(value) > 1:
                value = value[1:-1]
            if not value or re.search(r"[\s\"'\\$`]", value):
                fail(source, f"{match[2]}={match[3][:60]} is not one value in matching quotes, or without any", number)
            yield number, match[1], match[2], value


def _listed(value: str, source: str, line: int) -> set[str]:
    try:
        return set(hostlist.expand_slurm(value))
    except TopologyError as e:
        fail(source, str(e), line)


def _placement(addresses: list[tuple[int, str]], pattern: str, own: set[str], source: str) -> Placement:
    levels = _levels(pattern, source)
    nodes: Nodes = {}
    shared: list[dict[str, str]] = [{} for _ in levels]
    for number, address in addresses:
        tiers, node = _parted(address, pattern, own, source, number)
        kinds = zip(pattern.split("."), tiers, strict=False)
        row = [label for kind, name in kinds for label in _labels(kind, name, source, number)]
        for places, name in zip(shared, row, strict=True):
            for switch in _listed(name, source, number):
                if places.setdefault(switch, name) != name:
                    fail(source, f"{switch!r} is in {name!r} and in {places[switch]!r}: these are not places", number)
        add_node(nodes, node, without_gaps(row, node), source, number)
    return Placement(levels, None, nodes, source)


def _labels(kind: str, name: str, source: str, line: int) -> list[str]:
    """The labels of one tier: one, but of a torus its name and two coordinates."""
    if kind == _TORUS:
        torus, *at = name.split(":")
        if not torus or len(at) != 3 or not all(re.fullmatch("[0-9]{1,5}", number) for number in at):
            fail(source, f"{name!r} is not a torus and its coordinates, {_TORUS}", line)
        return [torus, at[2], at[1]]
    return [name.partition(":")[0] if ":" in kind else name]


def _parted(address: str, pattern: str, own: set[str], source: str, line: int) -> tuple[list[str], str]:
    """The names of the tiers, outermost first, and that of the node."""
    need = pattern.count(".")
    if not need:
        return [], address
    parts = address.split(".")
    ends = [address[dot + 1 :] for dot, char in enumerate(address) if char == "." and address[dot + 1 :] in own]
    if len(ends) == 1:
        tiers: Sequence[str] = address.removesuffix(f".{ends[0]}").split(".")
        node = ends[0]
    elif len(parts) > need + 1:
        known = f"it ends in {' and '.join(sorted(ends))}" if ends else "give SLURMD_NODENAME of all nodes, too"
        fail(source, f"address {address!r} has more than the {need + 1} parts of {pattern!r}: which dots belong to the "
             f"node's name cannot be told ({known})", line)  # fmt: skip
    else:
        *tiers, node = parts
    if len(tiers) > need:
        tiers = _dotted(tiers, need)
    if len(tiers) != need or not node:
        fail(source, f"address {address!r} does not have the {need + 1} parts of {pattern!r}", line)
    return list(tiers), node


def _dotted(parts: Sequence[str], need: int) -> list[str]:
    """Names with dots that all begin with one word: joined, if there are as many as needed, else none."""
    starts = [i for i, part in enumerate(parts) if part == parts[0]]
    if len(starts) != need or not parts[0]:
        return []
    return [".".join(parts[a:b]) for a, b in zip(starts, [*starts[1:], len(parts)], strict=True)]


def _levels(pattern: str, source: str) -> tuple[str, ...]:
    kinds = pattern.split(".")
    if kinds[-1] != "node" or "node" in kinds[:-1] or not all(kinds):
        fail(source, f"the pattern {pattern!r} must be levels between dots, and end with 'node'")
    kinds = [level for kind in kinds for level in (LEVELS if kind == _TORUS else (kind.partition(":")[0] or kind,))]
    levels: list[str] = []
    for i, kind in enumerate(kinds[:-1]):
        tier = kinds[i:-1].count(kind)
        levels.append(kind if tier == 1 else f"{kind}{tier}")
    if len(set(levels)) != len(levels):
        fail(source, f"the pattern {pattern!r} gives two levels the same name")
    return tuple(levels)


def parse_environment(environment: Mapping[str, str], source: str = "environment") -> Placement:
    """Read the place of this node from its environment. Raises TopologyError if Slurm did not tell."""
    names = (_ADDR, _PATTERN, *_NODES)
    return parse("\n".join(f"{name}={environment[name]}" for name in names if name in environment), source)
