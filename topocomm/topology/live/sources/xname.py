"""The cabinet, chassis, slot and board of a node of a Cray by its xname, ``x1000c0s7b1n0``.

It stands in ``/etc/cray/xname``; on machines whose nodes are called by their xnames (many with PBS) the host's own
name says as much.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, only_one_has, quoted

__all__ = ["CRAY_XNAME"]

_FILE = "/etc/cray/xname"
_COMPONENT = re.compile(r"x[0-9]+c[0-9]+s")


def _ask(host: Host) -> str:
    name = host.name.partition(".")[0]
    return host.text(_FILE, 256) or (name if _COMPONENT.match(name) else "")


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    from topocomm.topology.sites.names import LEVELS, XNAME  # many files, which few jobs need

    all_answered(nodes, f"no {_FILE} and no xname as host name")
    rows = []
    owner: dict[str, Node] = {}
    for node in nodes:
        match = XNAME.fullmatch(node.answer)
        if match is None:
            raise TopologyError(f"{quoted(node.answer)} on {node} is not an xname of a node, such as x1000c0s0b0n0")
        only_one_has(owner, node.answer, node, f"the xname {node.answer}")
        rows.append(match.groups())
    return Placed(LEVELS, rows, f"{_FILE} or host names")


CRAY_XNAME = Source(f"Cray xnames: {_FILE}, or host names", _ask, _place)
