"""Walk a program in Python, over a small port that moves bytes: the one interpreter behind two engines.

A port sends and receives; what it is made of (messages of an MPI library, queues in one process) the walker does not
know.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias

from topocomm.arrays import Bytes
from topocomm.engines.script import EXCHANGE, OWN, Loaded, Sized
from topocomm.plan.program import COPY, RECV, REDUCE, SEND, WAIT

__all__ = ["Combine", "Loaded", "Port", "Regions", "Sized", "walk"]

Regions: TypeAlias = tuple[Bytes, Bytes, Bytes, Bytes]
"""The memory of SEND, RECV and SCRATCH, and of the run."""
Combine: TypeAlias = Callable[[Bytes, Bytes, bool], None]
"""``combine(landed, held, before)``: held ← landed ∘ held, or held ∘ landed unless ``before``."""


class Port(Protocol):
    """How the bytes of one run move. Messages are numbered as in the program."""

    def send(self, peer: int, number: int, data: Bytes) -> None:
        """Begin to send; ``data`` stays as it is until the message is waited for."""

    def expect(self, peer: int, number: int, data: Bytes) -> None:
        """Begin to receive into ``data``."""

    def arrived(self, peer: int, number: int) -> bool:
        """Tell whether an expected message has arrived. A port that blocks waits for it."""

    def sent(self, peer: int, number: int) -> bool:
        """Tell whether what was sent may be overwritten. A port that blocks waits until it may."""

    def exchange(self, to: int, number: int, data: Bytes, source: int, expected: int, into: Bytes) -> bool:
        """Send one message and receive another, if the port has one call for both that waits; else return False."""

    def fence(self) -> bool:
        """Tell whether everything is done. A port that blocks waits for it."""


def walk(  # noqa: PLR0912 (one branch a kind of step)
    sized: Sized, regions: Regions, port: Port, combine: Combine
) -> Generator[None, None, None]:
    """Run a program; yields whenever it waits for the port, and ends when everything is done.

    Parameters
    ----------
    regions
        Memory of SEND, RECV, SCRATCH and the run's own: at least as long as ``sized`` says.
    combine
        The reduction, on contiguous memory.
    """
    for step in sized.script[0]:
        code = step[0]
        if code == EXCHANGE:
            _, to, number, role, low, high, source, expected, into_role, into_low, into_high = step
            data, into = regions[role][low:high], regions[into_role][into_low:into_high]
            if not port.exchange(to, number, data, source, expected, into):
                port.expect(source, expected, into)
                port.send(to, number, data)
                while not (port.arrived(source, expected) and port.sent(to, number)):
                    yield
        elif code == REDUCE:
            _, landed, end, role, low, high, before = step
            combine(regions[OWN][landed:end], regions[role][low:high], before)
        elif code == WAIT:
            done = port.sent if step[3] else port.arrived
            while not done(step[1], step[2]):
                yield
        elif code == SEND:
            port.send(step[1], step[2], regions[step[3]][step[4] : step[5]])
        elif code == RECV:
            port.expect(step[1], step[2], regions[step[3]][step[4] : step[5]])
        elif code == COPY:
            for of, to_region, move in step[1]:
                move.run(regions[of], regions[to_region])
        else:
            while not port.fence():
                yield
