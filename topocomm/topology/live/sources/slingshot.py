"""The group and the switch of a node by the MAC addresses of its HPE Slingshot cards.

The fabric manager gives a card an algorithmic address, ``02:00:00`` and 24 bits that hold its port (bits 0 to 5), its
switch (6 to 10) and its group (11 to 19): ``02:00:00:00:19:85`` is port 5 of switch 6 in group 3. A node answers with
the addresses of all its cards, ``hsn0``, ``hsn1`` and so on.

Cards of one node may hang at several switches. Switches (or groups) that any node connects in this way are one place,
called by all their numbers: ``4+5``. Source: "Algorithmic MAC Address" in HPE's Slingshot documentation.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, only_one_has, quoted

__all__ = ["SLINGSHOT"]

_FOLDER = "/sys/class/net"
_CARD = re.compile(r"hsn[0-9]{1,3}")
_MAC = re.compile(r"02:00:00:0([0-9a-f]):([0-9a-f]{2}):([0-9a-f]{2})", re.IGNORECASE)
_MOST_CARDS = 64
K = TypeVar("K", bound=Hashable)


def _ask(host: Host) -> str:
    cards = sorted((name for name in host.names(_FOLDER) if _CARD.fullmatch(name)), key=lambda name: int(name[3:]))
    if len(cards) > _MOST_CARDS:
        raise TopologyError(f"{len(cards)} cards hsn*; at most {_MOST_CARDS}")
    return " ".join(f"{name}={host.text(f'{_FOLDER}/{name}/address', 64) or ''}" for name in cards)


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    all_answered(nodes, "no card hsn0")
    owner: dict[int, Node] = {}
    groups: list[set[int]] = []
    switches: list[set[tuple[int, int]]] = []
    for node in nodes:
        numbers = [_number(card, node) for card in node.answer.split()]
        for number in numbers:
            only_one_has(owner, number, node, f"the address {_address(number)}")
        switches.append({(number >> 11, number >> 6 & 31) for number in numbers})
        groups.append({group for group, _ in switches[-1]})
    group_of, switch_of = _connected(groups), _connected(switches)
    rows = [
        (_group_label(group_of[min(g)]), _switch_label(switch_of[min(s)]))
        for g, s in zip(groups, switches, strict=True)
    ]
    return Placed(("group", "switch"), rows, f"MAC addresses in {_FOLDER}/hsn*")


def _number(card: str, node: Node) -> int:
    """The lowest 20 bits of an address. Raises TopologyError if it is not one that Slingshot gives."""
    name, _, address = card.partition("=")
    match = _MAC.fullmatch(address)
    if match is None:
        raise TopologyError(
            f"{name} of {node} has the address {quoted(address)}, which is not an algorithmic one (02:00:00:0x:xx:xx)"
        )
    return int("".join(match.groups()), 16)


def _address(number: int) -> str:
    return ":".join(f"{0x020000000000 | number:012x}"[i : i + 2] for i in range(0, 12, 2))


def _connected(sets: Iterable[set[K]]) -> Mapping[K, frozenset[K]]:
    """The members that sets in common connect, by member."""
    found: dict[K, set[K]] = {}
    for members in sets:
        if all(found.get(member) == members for member in members):
            continue
        joined = set().union(members, *(found.get(member, ()) for member in members))
        found.update(dict.fromkeys(joined, joined))
    return {member: frozenset(joined) for member, joined in found.items()}


def _group_label(groups: Iterable[int]) -> str:
    return "+".join(map(str, sorted(groups)))


def _switch_label(switches: frozenset[tuple[int, int]]) -> str:
    """Numbers between plus signs, with those of their groups before them if there are several groups."""
    several = len({group for group, _ in switches}) > 1
    return "+".join(f"{group}.{switch}" if several else str(switch) for group, switch in sorted(switches))


SLINGSHOT = Source("HPE Slingshot: addresses of the cards hsn0, hsn1, …", _ask, _place)
