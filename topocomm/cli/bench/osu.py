"""Rules of the OSU Micro-Benchmarks 7.5: titles, defaults, sizes, iterations, data types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from topocomm.collectives import COLLECTIVES

__all__ = [
    "BENCHMARKS", "DATATYPES", "LARGE", "MEMORY_FLOOR", "MEMORY_LIMIT", "Benchmark", "Datatype", "Loops", "datatype_of",
    "sizes",
]  # fmt: skip

LARGE = 8192
"""Messages above this many bytes are measured with fewer iterations."""

MEMORY_LIMIT = 512 << 20
"""Default of ``-M``, bytes per process."""

MEMORY_FLOOR = 1 << 20
"""The least ``-M`` that is obeyed."""


@dataclass(frozen=True)
class Loops:
    """Iterations and warm-up iterations for small messages and for large ones."""

    small: int
    warmup: int
    small_large: int
    warmup_large: int

    def at(self, size: int) -> tuple[int, int]:
        """Return (iterations, warm-up iterations) at a message size in bytes."""
        return (self.small_large, self.warmup_large) if size > LARGE else (self.small, self.warmup)


_COLLECTIVE = Loops(1000, 100, 100, 10)
_LATENCY = Loops(10000, 100, 1000, 10)
_BANDWIDTH = Loops(100, 10, 20, 2)


@dataclass(frozen=True)
class Benchmark:
    """One OSU benchmark: how it is called, what it prints, which flags it takes."""

    name: str
    title: str
    flags: str = "mixMfczTlk"
    loops: Loops = _COLLECTIVE
    max_size: int = 1 << 20
    unit: str = "us"

    @property
    def point_to_point(self) -> bool:
        return self.name in ("latency", "bw", "bibw")

    @property
    def nonblocking(self) -> bool:
        """True for a non-blocking collective, whose overlap with computing is measured."""
        return self.name not in COLLECTIVES and self.collective in COLLECTIVES

    @property
    def collective(self) -> str:
        """Name of the collective; of a benchmark of messages, its own."""
        return self.name[1:] if self.name[1:] in COLLECTIVES else self.name

    @property
    def method(self) -> str:
        """Name of the communicator's method. Only for a collective."""
        return f"I{self.collective}" if self.nonblocking else COLLECTIVES[self.name].method

    @property
    def blocks(self) -> bool:
        """True if sizes are those of one block of the vector, as OSU counts it."""
        return self.collective in COLLECTIVES and COLLECTIVES[self.collective].blocks and not self.reduces

    @property
    def reduces(self) -> bool:
        """True if operands are combined."""
        return self.collective in COLLECTIVES and COLLECTIVES[self.collective].reduces

    @property
    def metric(self) -> str:
        """Title of the first column of values."""
        if self.nonblocking:
            return "Overall(us)"
        return "Avg Latency(us)" if self.unit == "us" else "Bandwidth (MB/s)"

    @property
    def tail(self) -> str:
        """Title of a percentile column, after ``P50 ``."""
        return "Tail Lat(us)" if self.unit == "us" else "Tail BW(MB/s)"


def _pt2pt(name: str, title: str, loops: Loops, unit: str) -> Benchmark:
    return Benchmark(name, title, "mixczT" + ("W" if unit == "MB/s" else ""), loops=loops, max_size=1 << 22, unit=unit)


def _nonblocking(blocking: Benchmark) -> Benchmark:
    """Return the non-blocking form of a collective."""
    title = f"Non-blocking {blocking.title}"
    return Benchmark(f"i{blocking.name}", title, "".join(flag for flag in blocking.flags if flag not in "fcz"))


_BLOCKING = (
    Benchmark("allgather", "Allgather Latency Test", "mixMfczTl"),
    Benchmark("allreduce", "Allreduce Latency Test", "mixMfczTl"),
    Benchmark("reduce_scatter", "Reduce_scatter Latency Test", "mixMfczTl"),
    Benchmark("reduce_scatter_block", "Reduce_scatter_block Latency Test", "mixMfczTl"),
    Benchmark("alltoall", "All-to-All Personalized Exchange Latency Test", "mixMfczTl"),
    Benchmark("bcast", "Broadcast Latency Test", "mixMfczTk"),
    Benchmark("reduce", "Reduce Latency Test"),
    Benchmark("gather", "Gather Latency Test"),
    Benchmark("scatter", "Scatter Latency Test"),
    Benchmark("scan", "Scan Latency Test", "mixMfczTl"),
    Benchmark("exscan", "Exscan Latency Test", "mixMfczTl"),
    Benchmark("barrier", "Barrier Latency Test", "mixMfz"),
)
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *_BLOCKING,
        *map(_nonblocking, _BLOCKING),
        _pt2pt("latency", "Latency Test", _LATENCY, "us"),
        _pt2pt("bw", "Bandwidth Test", _BANDWIDTH, "MB/s"),
        _pt2pt("bibw", "Bi-Directional Bandwidth Test", _BANDWIDTH, "MB/s"),
    )
}
"""Name on our command line → benchmark; ``flags`` are the short options of OSU that it takes besides -h and -v."""


@dataclass(frozen=True)
class Datatype:
    """An MPI data type by name: in reports, in ``mpi4py.MPI``, in NumPy."""

    name: str
    attribute: str
    dtype: DTypeLike

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize


DATATYPES: dict[str, Datatype] = {
    "mpi_char": Datatype("MPI_CHAR", "CHAR", np.int8),
    "mpi_int": Datatype("MPI_INT", "INT", np.intc),
    "mpi_float": Datatype("MPI_FLOAT", "FLOAT", np.float32),
    "mpi_double": Datatype("MPI_DOUBLE", "DOUBLE", np.float64),
}
"""Argument of ``-T`` → type; the last is ours, ``all`` means OSU's own three."""

_SIGNED_CHAR = Datatype("MPI_SIGNED_CHAR", "SIGNED_CHAR", np.int8)


def datatype_of(word: str | None, benchmark: Benchmark) -> Datatype:
    """Return the type for one ``-T`` word, None for the default: MPI_INT where values are added, else MPI_CHAR.

    As in OSU a reduction of MPI_CHAR is one of MPI_SIGNED_CHAR: MPI does not add printable characters.
    """
    if word is None:
        word = "mpi_int" if benchmark.reduces else "mpi_char"
    datatype = DATATYPES[word]
    return _SIGNED_CHAR if benchmark.reduces and datatype.name == "MPI_CHAR" else datatype


def sizes(least: int, most: int, itemsize: int) -> Iterator[int]:
    """Yield message sizes in bytes: `least`, doubled up to `most`, without those that hold no element."""
    size = least
    while size <= most:
        if size >= itemsize:
            yield size
        size *= 2
