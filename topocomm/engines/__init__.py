"""Engines: how a program's bytes move. ``walk`` interprets over a port; ``local``: one process; ``messages``: MPI."""

__all__ = ["ENGINES", "TRANSPORTS", "USUAL_TRANSPORTS"]

ENGINES = ("c", "python")
"""Names of the engines that run calls of a communicator; the first is the default."""

TRANSPORTS = ("shm", "ofi", "mpi")
"""What carries the messages of engine ``c`` between two ranks: the first that is allowed and reaches both. ``mpi``
reaches all, and is always allowed."""

USUAL_TRANSPORTS = ("mpi",)
"""Those that may carry messages where nobody names any."""
