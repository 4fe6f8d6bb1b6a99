"""The errors topocomm raises. MPI's own errors pass through unchanged as ``mpi4py.MPI.Exception``."""

__all__ = ["AlgorithmError", "BufferError", "Error", "ProgramError", "ScheduleError", "TopologyError"]


class Error(Exception):
    """Base class of every error topocomm raises itself."""


class TopologyError(Error, ValueError):
    """A topology description is malformed or does not fit the communicator."""


class AlgorithmError(Error, ValueError):
    """An algorithm or engine is unknown, or cannot do what it was named for."""


class ScheduleError(Error):
    """A schedule is wrong: the verifier's finding, with round, rank, peer, block and reason."""


class BufferError(Error, ValueError):
    """A buffer argument does not fit the call: wrong size, type, form or place."""


class ProgramError(Error, ValueError):
    """A program is malformed: bytes that are none, a step outside its memory, a message misnumbered or left behind."""
