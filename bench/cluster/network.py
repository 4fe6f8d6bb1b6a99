"""The network of the emulated cluster: namespaces as hosts, a bridge per rack and one core bridge, links shaped.

    h0 e0 --link-- h0e0 [bridge r0] r0up --uplink-- r0core [bridge core] r1core --uplink-- r1up [bridge r1] h2e0 -- ...

Hosts are namespaces; the bridges share one more. A token bucket shapes both ends of each pair. An unshaped management
network (m0) carries what the launchers say, so that the shaped links carry the program's traffic and nothing else:
addresses are known to everybody from the start, and no broadcast crosses a link.
"""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bench.cluster import namespaces
from bench.cluster.launchers import MANAGEMENT
from bench.cluster.namespaces import ClusterError, Traffic

if TYPE_CHECKING:
    from typing import Self

QUEUE_BYTES = 4 << 20
"""Room in front of every link: enough that a full link delays packets and loses none, as in a lossless fabric."""
MAX_HOSTS = 250

PAYLOAD = 1448 / 1514
"""Bytes of the program in a full frame of Ethernet, IP and TCP."""
ROUND = 40e-6
"""Seconds from host to host without load, one process a core; processes that spin for their turn make it longer."""
MESSAGE = 30e-6
"""Seconds of a core that a message takes, at both ends and on the way through the kernel."""

_SUBNET = "10.77"
_SETTINGS = """
for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $file ] || echo 1 >$file; done
echo reno >/proc/sys/net/ipv4/tcp_congestion_control
"""
"""No IPv6, whose neighbour discovery would be counted as traffic of the program. And reno, which every kernel has:
where nothing is lost it only waits for acknowledgements, so times vary less than with algorithms that probe or pace."""
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kmg]?)bit")


def bits_per_second(rate: str) -> float:
    """A rate as tc spells it: 40mbit, 1gbit, 500kbit."""
    match = _RATE.fullmatch(rate.lower())
    if match is None or float(match[1]) <= 0:
        raise ClusterError(f"rate {rate!r} is not a positive number with kbit, mbit or gbit behind it, such as 40mbit")
    return float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2]]


class Network:
    """racks x hosts emulated hosts h0, h1, ... (host i is in rack i // hosts); a context manager."""

    def __init__(
        self,
        racks: int = 2,
        hosts: int = 2,
        *,
        link: str = "40mbit",
        uplink: str = "40mbit",
        nics: int = 1,
        nic2_rate: str | None = None,
    ) -> None:
        if not (racks >= 1 and hosts >= 1 and racks * hosts <= MAX_HOSTS):
            raise ClusterError(f"{racks} racks of {hosts} hosts: 1 to {MAX_HOSTS} hosts can be emulated")
        if nics not in (1, 2):
            raise ClusterError(f"{nics} network cards per host: 1 or 2 can be emulated")
        self.racks, self.hosts, self.uplink = racks, hosts, uplink
        self.links = [link, nic2_rate or link][:nics]
        self._shape = {rate: self._token_bucket(rate) for rate in (*self.links, uplink)}
        self.name = namespaces.unique_name()
        self.switch = f"{self.name}-sw"
        self._made: list[str] = []
        self.scratch = namespaces.scratch_of(self.name)
        self.memory = namespaces.memory_of(self.name)

    def machine(self) -> dict[str, Any]:
        """The machine file: links as they are shaped; latency and overhead as with one spinning process a host.

        With more processes than cores each waits for its turn. Eight a core: when all 16 ranks sent 1 to 15 messages
        at once, each more took 0.25 ms (lower quartile); one after another, 0.65 ms a round.
        """
        hosts = self.racks * self.hosts
        share = max(1.0, hosts / (os.cpu_count() or 1))
        latency = ROUND / 2 * share
        up, out = (bits_per_second(rate) / 8 * PAYLOAD for rate in (self.uplink, self.links[0]))
        levels = [
            {"name": "rack", "up": up, "down": up, "latency": 0.0},
            {"name": "node", "up": out, "down": out, "latency": latency},
        ]
        return {"format": "topocomm-machine", "version": 1, "levels": levels, "overhead": MESSAGE * share}

    def __enter__(self) -> Self:
        namespaces.check_host()
        namespaces.remove_leftovers()
        try:
            self.scratch.mkdir(mode=0o700)
            self.memory.mkdir(mode=0o700)
            self._make_switches()
            for host in range(self.racks * self.hosts):
                self._make_host(host)
            self._fix_routes()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process on the hosts and remove all that was set up."""
        made, self._made = self._made, []
        namespaces.remove(made)
        namespaces.remove_files(self.name)

    # -- what it consists of

    def namespace(self, host: int) -> str:
        return f"{self.name}-h{host}"

    def address(self, host: int, nic: int = 0) -> str:
        return f"{_SUBNET}.{nic}.{host + 1}"

    def add_card(self, host: int, name: str, mac: int) -> None:
        """Give a host a network card that leads nowhere, for what its address says."""
        address = ":".join(f"{mac:012x}"[i : i + 2] for i in range(0, 12, 2))
        port = f"h{host}{name}"
        line = f"link add name {name} address {address} type veth peer name {port} netns {self.switch}"
        namespaces.run(["ip", "-n", self.namespace(host), "-batch", "-"], [line])

    @property
    def interfaces(self) -> list[str]:
        return [f"e{nic}" for nic in range(len(self.links))]

    def counters(self) -> dict[str, Traffic]:
        """Traffic of every uplink ("r0") and every host link ("h0/e0"), as the switches saw it."""
        return namespaces.traffic_of(self.switch)

    # -- setting up

    @staticmethod
    def _token_bucket(rate: str) -> str:
        """One millisecond may pass in a burst, but at least four frames: less would cost too many timer interrupts."""
        bits = bits_per_second(rate)
        return f"root tbf rate {int(bits)}bit burst {max(6100, int(bits / 8000))} limit {QUEUE_BYTES}"

    @staticmethod
    def _mac(host: int, nic: int) -> str:
        return f"02:00:00:00:{nic:02x}:{host + 1:02x}"

    def _make_namespace(self, name: str) -> None:
        self._made.append(name)  # before it exists: an interrupt in between must not leave it behind
        namespaces.run(["ip", "netns", "add", name])
        namespaces.run(["ip", "netns", "exec", name, "sh", "-c", _SETTINGS])

    def _bridges(self) -> list[str]:
        return [MANAGEMENT, "core", *(f"r{rack}" for rack in range(self.racks))]

    def _make_switches(self) -> None:
        self._make_namespace(self.switch)
        lines = ["link set lo up"]
        # without snooping: a bridge that snoops sends multicast reports of its own
        lines += [f"link add name {name} type bridge mcast_snooping 0" for name in self._bridges()]
        lines += [f"link set {name} up" for name in self._bridges()]
        lines.append(f"addr add {_SUBNET}.255.254/24 dev {MANAGEMENT}")
        shape = []
        for rack in range(self.racks):
            up, down = f"r{rack}up", f"r{rack}core"
            lines += [f"link add name {up} type veth peer name {down}"]
            lines += [f"link set {up} master r{rack} up", f"link set {down} master core up"]
            shape += [f"qdisc add dev {port} {self._shape[self.uplink]}" for port in (up, down)]
        namespaces.run(["ip", "-n", self.switch, "-batch", "-"], lines)
        namespaces.run(["tc", "-n", self.switch, "-batch", "-"], shape)

    def _make_host(self, host: int) -> None:
        name = self.namespace(host)
        self._make_namespace(name)
        (self.memory / f"h{host}").mkdir()
        plugs = [(MANAGEMENT, MANAGEMENT, f"{_SUBNET}.255.{host + 1}", 255)]
        plugs += [(e, f"r{host // self.hosts}", self.address(host, nic), nic) for nic, e in enumerate(self.interfaces)]
        inside, outside = ["link set lo up"], []
        for interface, bridge, address, nic in plugs:
            port, mac = f"h{host}{interface}", self._mac(host, nic)
            inside.append(f"link add name {interface} address {mac} type veth peer name {port} netns {self.switch}")
            inside += [f"addr add {address}/24 dev {interface}", f"link set {interface} up"]
            outside.append(f"link set {port} master {bridge} up")
        namespaces.run(["ip", "-n", name, "-batch", "-"], inside)
        namespaces.run(["ip", "-n", self.switch, "-batch", "-"], outside)
        shapes = list(zip(self.interfaces, (self._shape[rate] for rate in self.links), strict=True))
        for namespace, prefix in ((name, ""), (self.switch, f"h{host}")):
            lines = [f"qdisc add dev {prefix}{interface} {shape}" for interface, shape in shapes]
            namespaces.run(["tc", "-n", namespace, "-batch", "-"], lines)

    def _fix_routes(self) -> None:
        """Tell every host and bridge where everybody is: asking around would be counted as traffic of the program."""
        total = self.racks * self.hosts
        everybody = [(host, nic) for host in range(total) for nic in range(len(self.links))]
        table = []
        for host, nic in everybody:
            home, mac = host // self.hosts, self._mac(host, nic)
            ports = [f"h{host}e{nic}", f"r{home}core", *(f"r{rack}up" for rack in range(self.racks) if rack != home)]
            table += [f"fdb replace {mac} dev {port} master static" for port in ports]
        namespaces.run(["bridge", "-n", self.switch, "-batch", "-"], table)
        for host in range(total):
            known = [
                f"neigh replace {self.address(peer, nic)} lladdr {self._mac(peer, nic)} dev e{nic} nud permanent"
                for peer, nic in everybody
                if peer != host
            ]
            namespaces.run(["ip", "-n", self.namespace(host), "-batch", "-"], known)
