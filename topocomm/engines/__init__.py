"""Engines: how a program's bytes move. ``walk`` interprets over a port; ``local``: one process; ``messages``: MPI."""

__all__ = ["ENGINES"]

ENGINES = ("c", "python")
"""Names of the engines that run calls of a communicator; the first is the default."""
