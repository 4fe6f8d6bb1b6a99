"""Engines: how the bytes of a plan move. ``local`` in one process; ``p2p`` as mpi4py messages."""

__all__ = ["ENGINES"]

ENGINES = ("p2p",)
"""Names of the engines that run calls of a communicator; the first is the default."""
