"""The first small calls of a derived communicator: the MPI library makes them, and nothing is prepared for them.

Programs make communicators for a few calls each. What serves a call is worth finding out, and comparing over all ranks,
only on communicators that make more.
"""

from __future__ import annotations

from topocomm.choose.rule import NATIVE, Decision
from topocomm.collectives import COLLECTIVES
from topocomm.comm.settings import Settings

__all__ = ["EARLY", "SMALL", "Early"]

EARLY = 16
"""Small calls of a collective on a derived communicator that the MPI library makes."""
SMALL = 8192
"""Bytes of the whole vector of a small call, and one more than the largest."""
_WHY = f"automatic: one of the first {EARLY} small ones on a derived communicator"


class Early:
    """Counts the small calls that are left to the MPI library: alike on all ranks, as what counts is alike on all.

    Does not count calls of a collective for which an algorithm is named, and no call where every call is compared.
    """

    def __init__(self, size: int, settings: Settings) -> None:
        self.size = size
        self._named = settings.named
        self.left: dict[str, int] = {} if settings.check_always else dict.fromkeys(COLLECTIVES, EARLY)
        self._first: dict[str, int] = {}
        self._objects = EARLY

    def takes(self, collective: str, nbytes: int, most: int = SMALL) -> bool:
        """Count a call that names no algorithm, on a vector of ``nbytes`` bytes; False if it is not one of them.

        ``most``: bytes from which on a call is not small.
        """
        left = self.left.get(collective)
        if not left or nbytes >= most or collective in self._named:
            return False
        self.left[collective] = left - 1
        self._first.setdefault(collective, nbytes)
        return True

    def takes_buffer(self, collective: str, nbytes: int) -> bool:
        """Count a call as :meth:`takes` does, by the bytes of the buffer that every rank has."""
        return self.takes(collective, nbytes * factor_of(collective, self.size))

    def takes_object(self) -> bool:
        """Count a call on Python objects; False if it is not one of the first."""
        taken = self._objects > 0
        self._objects -= taken
        return taken

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What was decided so: an entry for each collective, with the bytes of its first call."""
        return tuple(self.decision(collective, nbytes) for collective, nbytes in self._first.items())

    @staticmethod
    def decision(collective: str, nbytes: int, root: int = 0) -> Decision:
        """Return the decision for a call that was counted."""
        return Decision(collective, nbytes, NATIVE, NATIVE, _WHY, root=root)


def factor_of(collective: str, size: int) -> int:
    """Return how many of the buffers that every rank has make up the whole vector."""
    return size if collective in ("gather", "scatter") else 1


def blocks_of(collective: str, size: int) -> int:
    """Return the blocks of the buffer that every rank has, of which an argument may give the count of one."""
    return size if COLLECTIVES[collective].counts_block and factor_of(collective, size) == 1 else 1
