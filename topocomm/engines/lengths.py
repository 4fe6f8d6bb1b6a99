"""The error of a message whose length is not the one that its receiver needs."""

from __future__ import annotations

from mpi4py import MPI

from topocomm.errors import Error

__all__ = ["LengthError"]


class LengthError(Error, MPI.Exception):
    """A message is shorter or longer than the collective needs: the ranks gave different counts or types.

    It is the :class:`mpi4py.MPI.Exception` of class ``MPI.ERR_TRUNCATE`` that a program expects of an MPI library
    whatever carries the message, and names ranks and lengths.
    """

    def __new__(cls, text: str) -> LengthError:
        """Create the exception with MPI's error code."""
        return MPI.Exception.__new__(cls, MPI.ERR_TRUNCATE)

    def __init__(self, text: str) -> None:
        MPI.Exception.__init__(self, MPI.ERR_TRUNCATE)
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def __reduce__(self) -> tuple[type[LengthError], tuple[str]]:
        """Give what pickling needs: the text, from which the exception is made again."""
        return LengthError, (self._text,)
