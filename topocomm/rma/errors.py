"""Errors of notified RMA: each status of the C core below zero has its class, and the message says who and what."""

from topocomm.errors import BufferError as TopocommBufferError
from topocomm.errors import Error

__all__ = [
    "BlockError",
    "BusyError",
    "FreedError",
    "KindError",
    "LimitError",
    "NotProvenError",
    "PeerLost",
    "RangeError",
    "RmaError",
    "StaleBlockError",
    "SurplusError",
    "TransportError",
    "UnsupportedError",
    "WaitTimeout",
]


class RmaError(Error):
    """Base class of the errors of notified RMA."""


class PeerLost(RmaError, ConnectionError):  # noqa: N818 - says what happened
    """A peer died, or closed its context, while something of it was waited for or sent to it.

    ``rank`` is the peer.
    """

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message)
        self.rank = rank


class WaitTimeout(RmaError, TimeoutError):  # noqa: N818 - as TimeoutError
    """The limit of a wait has passed. ``missing`` lists (source rank, tag, pieces announced, pieces arrived)."""

    def __init__(self, message: str, missing: tuple[tuple[int, int, int, int], ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class NotProvenError(RmaError):
    """Checked mode: nothing received proves that the target's owner has read the epoch before.

    ``rank`` and ``tag`` name the owner and its block.
    """

    def __init__(self, message: str, rank: int, tag: int) -> None:
        super().__init__(message)
        self.rank = rank
        self.tag = tag


class StaleBlockError(RmaError):
    """The block was freed by its owner, or its memory was unregistered."""


class FreedError(RmaError, ValueError):
    """A handle was used after it was freed, or after its context was closed."""


class BusyError(RmaError):
    """The handle is still in use: a running plan, memory or a signal that blocks refer to, a bounded queue."""


class BlockError(RmaError, ValueError):
    """These bytes are not a block of a connected peer, or it was issued to another rank."""


class KindError(RmaError, TypeError):
    """An argument is of another kind than what is needed."""


class RangeError(RmaError, TopocommBufferError):
    """An array reaches outside its memory, has a form that cannot be transferred, or does not fit the block; or a
    number or name is not one of those there are.
    """


class LimitError(RmaError):
    """A table or queue of the context is full; open the context with a larger one."""


class SurplusError(RmaError):
    """More notifications came than the epoch expects."""


class TransportError(RmaError):
    """A transport failed, or none leads to the peer."""


class UnsupportedError(RmaError):
    """Built without it, or this transport or kernel cannot do it."""
