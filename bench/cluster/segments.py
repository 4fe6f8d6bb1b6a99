"""Counts the TCP segments that pass an interface of this host, between marks that the program sends over it.

    python -m bench.cluster.segments e0 counts.json       # until it is terminated; needs root

A mark is a UDP datagram to the discard port, sent by ``mark``: it passes the interface in its turn. Counted per pair of
marks and direction: segments with data, their bytes, and bare acknowledgements; and *flights*, which is how often the
direction of data changed, plus one: how often data crossed the network one thing after the other.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench.cluster.namespaces import ClusterError

if TYPE_CHECKING:
    from bench.cluster.emulated import Cluster

__all__ = ["Count", "counting", "mark"]

ROOT = Path(__file__).resolve().parents[2]
DISCARD = 9
OUTGOING = 4  # PACKET_OUTGOING of linux/if_packet.h
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE, ETH_P_IP = 263, 6, 33, 0x0800


@dataclass
class Count:
    """What passed between two marks."""

    out_segments: int = 0
    out_bytes: int = 0
    out_acks: int = 0
    in_segments: int = 0
    in_bytes: int = 0
    in_acks: int = 0
    flights: int = 0
    last: str = ""

    def segment(self, direction: str, data: int) -> None:
        """Count one TCP segment with ``data`` bytes of data."""
        if not data:
            setattr(self, f"{direction}_acks", getattr(self, f"{direction}_acks") + 1)
            return
        setattr(self, f"{direction}_segments", getattr(self, f"{direction}_segments") + 1)
        setattr(self, f"{direction}_bytes", getattr(self, f"{direction}_bytes") + data)
        self.flights += direction != self.last
        self.last = direction


def mark(peer: str, name: str) -> None:
    """Begins the count of this name, or ends it if it was begun."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, contextlib.suppress(ConnectionRefusedError):
        sender.sendto(name.encode(), (peer, DISCARD))


@contextlib.contextmanager
def counting(cluster: Cluster, host: int) -> Iterator[dict[str, Count]]:
    """Counts on a host of an emulated cluster meanwhile; filled in at the end. Errors: ClusterError if any was lost."""
    path, counts = cluster.scratch / f"segments{host}.json", dict[str, Count]()
    words = [sys.executable, "-m", "bench.cluster.segments", cluster.interfaces[0], str(path)]
    with cluster.host_command(host, words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as counter:
        try:
            assert counter.stdout is not None
            counter.stdout.readline()
            yield counts
            time.sleep(0.2)
        finally:
            counter.terminate()
    found = json.loads(path.read_text())
    if found["lost"]:
        raise ClusterError(f"{found['lost']} packets went past the counter on host {host}")
    counts.update({name: Count(**count) for name, count in found["counts"].items()})


def _watch(packets: socket.socket, counts: dict[str, Count]) -> None:
    """Until an exception ends it."""
    current = ""
    while True:
        frame, (_, _, kind, *_) = packets.recvfrom(256)
        header = (frame[0] & 15) * 4
        length, protocol = struct.unpack_from("!2xH5xB", frame)
        if protocol == socket.IPPROTO_UDP and kind == OUTGOING:
            if struct.unpack_from("!2xH", frame, header)[0] == DISCARD:
                name = frame[header + 8 : length].decode()
                current = "" if current == name else name
        elif protocol == socket.IPPROTO_TCP and current:
            data = length - header - (frame[header + 12] >> 4) * 4
            counts.setdefault(current, Count()).segment("out" if kind == OUTGOING else "in", data)


def _end(number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Count until SIGTERM, then write; says ``ready`` once it listens."""
    interface, path = sys.argv[1], Path(sys.argv[2])
    counts: dict[str, Count] = {}
    signal.signal(signal.SIGTERM, _end)
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as packets:  # 3: also what leaves
        packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        packets.bind((interface, 3))
        print("ready", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            _watch(packets, counts)
        _, lost = struct.unpack("II", packets.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    path.write_text(json.dumps({"lost": lost, "counts": {name: asdict(c) for name, c in counts.items()}}))


if __name__ == "__main__":
    main()
