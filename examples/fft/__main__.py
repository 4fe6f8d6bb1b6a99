"""A transform in three dimensions by mpi4py-fft, there and back, beside NumPy's.

    mpiexec -n 4 python examples/fft                                                       # on the MPI library
    mpiexec -n 4 python -m topocomm run --algorithm alltoall=pairwise examples/fft --time 5  # on topocomm

The program knows nothing of topocomm: its communicator is ``MPI.COMM_WORLD``, wrapped or not.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
from mpi4py import MPI
from mpi4py_fft import PFFT, newDistArray

TOLERANCE = 1e-12


def field(transform: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return this rank's part of a field that is made from global indices, so that no grid of ranks changes it."""
    part = transform.local_slice(False)
    x, y, z = np.ogrid[part]
    return np.sin(3 * x) + np.cos(0.7 * y * z / shape[2]) + ((7 * x + 11 * y + 13 * z) % 17)


def check(transform: Any, shape: tuple[int, ...]) -> None:
    """Compare the transform with NumPy's of the whole field, and the way back with the field. Raises AssertionError."""
    given, spectrum = newDistArray(transform, False), newDistArray(transform, True)
    given[...] = field(transform, shape)
    transform.forward(given, spectrum)
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    whole = np.sin(3 * x) + np.cos(0.7 * y * z / shape[2]) + ((7 * x + 11 * y + 13 * z) % 17)
    wanted = np.fft.rfftn(whole)[transform.local_slice(True)] / whole.size
    assert np.abs(np.asarray(spectrum) - wanted).max(initial=0) < TOLERANCE
    back = newDistArray(transform, False)
    transform.backward(spectrum, back)
    assert np.abs(np.asarray(back) - np.asarray(given)).max(initial=0) < 1e3 * TOLERANCE


def there_and_back(transform: Any, comm: MPI.Intracomm) -> float:
    """Return the seconds of a transform and its inverse, of the slowest rank."""
    comm.Barrier()
    start = MPI.Wtime()
    transform.forward()
    transform.backward()
    return float(comm.allreduce(MPI.Wtime() - start, MPI.MAX))


def main() -> None:
    """Check a transform, and take its time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=32, help="points in each dimension (default 32)")
    parser.add_argument("--time", type=int, default=0, metavar="N", help="take the time of N transforms")
    options = parser.parse_args()
    comm, shape = MPI.COMM_WORLD, (options.size,) * 3
    transform = PFFT(comm, shape, dtype=np.float64)
    check(transform, shape)
    seconds = [there_and_back(transform, comm) for _ in range(options.time)]
    if comm.rank == 0:
        grid = " × ".join(str(part.size) for part in transform.subcomm)
        print(f"{options.size}³ on {grid} ranks: right")
        if seconds:
            print(f"there and back in {1e3 * statistics.median(seconds):.2f} ms, the middle of {len(seconds)}")
    transform.destroy()


if __name__ == "__main__":
    main()
