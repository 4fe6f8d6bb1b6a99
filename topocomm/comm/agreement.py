"""What all ranks of a communicator compare: that they make the same call, or that one has a bad argument."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np
from mpi4py import MPI

from topocomm import objects
from topocomm.arrays import IntArray
from topocomm.errors import BufferError, Error

if TYPE_CHECKING:
    from topocomm.engines.carrier import Carrier

__all__ = ["Agreement"]

_AGREE, _NOTICE = 1, 2
"""Tags, counted from the carrier's."""
_FINE, _WRONG = 0, 1
_GRACE_SECONDS = 5.0
"""How long a rank with a bad argument waits for the others, so that they learn of it."""

T = TypeVar("T")


class Agreement:
    """Comparisons over all ranks of ``comm``: messages on its carrier, collectives on itself.

    All ranks are in one and the same call on ``comm`` then, so that its own collectives meet.
    """

    def __init__(self, comm: MPI.Intracomm, carrier: Carrier) -> None:
        self.comm = comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._messages, self._ranks = carrier.comm, carrier.ranks
        self._agree, self._notice = carrier.tag + _AGREE, carrier.tag + _NOTICE
        self._before = carrier.ranks[(self.rank - 1) % self.size]
        self._after = carrier.ranks[(self.rank + 1) % self.size]
        self._before_waits = False  # the rank before this one has said that it wants to compare, and not taken it back

    def compare(self, text: str) -> None:
        """Raise Error on every rank unless all give the same text. Collective.

        Raises BufferError on every rank if one of them has a bad argument (:meth:`refuse`).
        """
        import hashlib

        digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        self._raise_disagreement(self.largest([digest, -digest, _FINE]), text)

    def refuse(self, message: str) -> NoReturn:
        """Tell the other ranks that this one has a bad argument, if they come to compare; then raise BufferError."""
        if self.size > 1 and not self.others_come(_GRACE_SECONDS):
            raise BufferError(f"{message} (the other ranks did not make a new call; they may wait for this one)")
        self._raise_disagreement(self.largest([0, 0, _WRONG]), message, wrong=True)
        raise AssertionError("a rank that is wrong disagrees")

    def tell(self, message: str) -> None:
        """As :meth:`refuse`, but leave it to the caller to raise."""
        try:
            self.refuse(message)
        except BufferError:
            return

    def share(self, answer: Callable[[], T], question: str) -> T:
        """Rank 0's answer, which it alone works out. Collective. Raises Error on every rank if that fails."""
        from topocomm.topology.live.meeting import quiet_barrier

        found: T | Exception | None = None
        if self.rank == 0:
            try:
                found = answer()
            except Exception as e:  # the others wait for an answer, whatever it is
                found = e
        quiet_barrier(self.comm)  # who waits takes no core from rank 0
        found = objects.bcast(self.comm, found)
        if isinstance(found, Exception):
            raise Error(f"rank 0 cannot {question}: {found}") from found
        assert found is not None
        return found

    def _raise_disagreement(self, out: IntArray, text: str, wrong: bool = False) -> None:
        if out[2] == _FINE and out[0] == -out[1]:
            return
        texts = objects.allgather(self.comm, (wrong, text))
        bad = [(r, t) for r, (w, t) in enumerate(texts) if w]
        if bad:
            rank, message = bad[0]
            raise BufferError(message if rank == self.rank else f"stopped on rank {self.rank}, because {message}")
        groups: dict[str, list[int]] = {}
        for r, (_, t) in enumerate(texts):
            groups.setdefault(t, []).append(r)
        shown = "; ".join(f"ranks {_shorten(ranks)}: {t}" for t, ranks in list(groups.items())[:4])
        raise Error(f"rank {self.rank}: the ranks call differently: {shown}; all must give the same")

    def largest(self, mine: Sequence[int]) -> IntArray:
        """The largest of every number over all ranks. Collective.

        By dissemination with messages, so that a rank can see whether the others have begun, which no collective of
        MPI shows.
        """
        rank, size, ranks = self.rank, self.size, self._ranks
        held, got, distance = np.array(mine, np.int64), np.empty(len(mine), np.int64), 1
        while distance < size:
            there, here = ranks[(rank + distance) % size], ranks[(rank - distance) % size]
            self._messages.Sendrecv(held, there, self._agree, got, here, self._agree)
            held, distance = np.maximum(held, got), 2 * distance
        self._read_notices()
        self._before_waits = False
        return held

    def others_come(self, seconds: float) -> bool:
        """Whether, within ``seconds``, the rank before this one wants to compare, too.

        If all ranks want to, each one's turn comes. If not, nothing is left behind that would disturb later: the notice
        to the rank after this one is taken back.
        """
        deadline = time.monotonic() + seconds
        self._notify(True)
        while not self._messages.Iprobe(self._before, self._agree):
            self._read_notices()
            if self._before_waits:
                break
            if time.monotonic() > deadline:
                self._notify(False)
                return False
            time.sleep(0.0005)
        return True

    def _notify(self, waits: bool) -> None:
        self._messages.Send(np.array([waits], np.int64), self._after, self._notice)

    def _read_notices(self) -> None:
        notice = np.empty(1, np.int64)
        while self._messages.Iprobe(self._before, self._notice):
            self._messages.Recv(notice, self._before, self._notice)
            self._before_waits = bool(notice[0])


def _shorten(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
