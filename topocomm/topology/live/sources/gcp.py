"""The place of a virtual machine on Google Cloud: the attribute ``physical_host`` of its metadata server.

    /46f9a0/b2c1/77aa          cluster, rack and host, as of machines with a compact placement policy

Only asked for by name: elsewhere nobody answers at the server's link-local address, and each node would wait for a
second. ``GCE_METADATA_HOST`` names another address, as for Google's own libraries. Source: "View VM topology", Compute
Engine documentation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from topocomm.errors import TopologyError
from topocomm.topology.live.sources.host import Host, Node, Placed, Source, all_answered, as_label, quoted

__all__ = ["GCP"]

_ADDRESS, _VARIABLE = "169.254.169.254", "GCE_METADATA_HOST"
_PATH = "/computeMetadata/v1/instance/attributes/physical_host"
_SECONDS = 1.0
_MOST_BYTES = 8192
_LEVELS = {1: ("host",), 2: ("rack", "host"), 3: ("cluster", "rack", "host")}


def _ask(host: Host) -> str:
    name, _, port = host.environment.get(_VARIABLE, _ADDRESS).partition(":")
    if port and not (port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise TopologyError(f"{_VARIABLE} has port {quoted(port)}; needs 1 to 65535")
    try:
        return _body(_reply(name, int(port or 80)))
    except (OSError, UnicodeError) as e:
        raise TopologyError(f"the metadata server {quoted(name)} does not answer: {e or type(e).__name__}") from None


def _reply(name: str, port: int) -> bytes:
    """Ask once, and wait for at most a second in all, whatever the other end does. Raises OSError."""
    import socket  # which few jobs need

    until = time.monotonic() + _SECONDS
    request = f"GET {_PATH} HTTP/1.0\r\nHost: {name}\r\nMetadata-Flavor: Google\r\n\r\n"
    reply = b""
    with socket.create_connection((name, port), timeout=_SECONDS) as link:
        link.sendall(request.encode("ascii"))
        while len(reply) <= _MOST_BYTES:
            link.settimeout(max(0.001, until - time.monotonic()))
            data = link.recv(_MOST_BYTES)
            if not data:
                return reply
            reply += data
            if time.monotonic() > until:
                raise TimeoutError("timed out")
    raise TopologyError(f"the metadata server answers with more than {_MOST_BYTES} bytes")


def _body(reply: bytes) -> str:
    """The text of an answer. Raises TopologyError if it is another's, or not found."""
    head, blank, body = reply.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0].split(None, 2)[1:2]
    if not blank or not any(line.lower().replace(" ", "") == "metadata-flavor:google" for line in lines):
        raise TopologyError("what answers is not Google's metadata server")
    if status != ["200"]:
        raise TopologyError(f"the metadata server has no physical_host (status {quoted(' '.join(status))})")
    return body.decode("ascii", "replace").strip()


def _place(nodes: Sequence[Node], host: Host) -> Placed:
    all_answered(nodes, "physical_host is empty")
    rows: list[tuple[str, ...]] = []
    for node in nodes:
        row = tuple(as_label(part) for part in node.answer.strip("/").split("/"))
        if len(row) not in _LEVELS or (rows and len(row) != len(rows[0])):
            raise TopologyError(f"physical_host of {node} is {quoted(node.answer)}, not /CLUSTER/RACK/HOST")
        rows.append(row)
    return Placed(_LEVELS[len(rows[0])], rows, "physical_host of the metadata server")


GCP = Source("Google Cloud: physical_host of the metadata server; only if named", _ask, _place, unasked=False)
