"""The pressure solver: FFTs in x and y, transposes among the rows plane by plane, a tridiagonal solve in z."""

from __future__ import annotations

from typing import Any

import numpy as np
from process_grid import ProcessGrid, share
from timings import Timings


class Transpose:
    """x-pencils ↔ y-pencils of one chunk of planes: (planes, my y, all x) ↔ (planes, all y, my x)."""

    def __init__(self, grid: ProcessGrid, planes: int, ny: int, nkx: int) -> None:
        ys, xs = ([share(n, grid.rows, r) for r in range(grid.rows)] for n in (ny, nkx))
        self.planes, self.ys, self.xs = planes, ys, xs
        my_y, my_x = (end - first for first, end in (ys[grid.row], xs[grid.row]))
        self.shape_x, self.shape_y = (planes, my_y, nkx), (planes, ny, my_x)
        by_x, by_y = [planes * my_y * (e - f) for f, e in xs], [planes * my_x * (e - f) for f, e in ys]
        self.forward = grid.channel("y", by_x, by_y, np.complex128)
        self.backward = grid.channel("y", by_y, by_x, np.complex128)  # its own memory: each proves the other's free

    def start_forward(self, plane: np.ndarray) -> None:
        """Send what others need of an x-pencil."""
        np.concatenate([plane[:, :, f:e].ravel() for f, e in self.xs], out=self.forward.source)
        self.forward.start()

    def end_forward(self) -> np.ndarray:
        """Return the y-pencil."""
        came, at, out = self.forward.wait(), 0, np.empty(self.shape_y, np.complex128)
        for f, e in self.ys:
            n = out[:, f:e].size
            out[:, f:e] = came[at : at + n].reshape(self.planes, e - f, -1)
            at += n
        return out

    def start_backward(self, plane: np.ndarray) -> None:
        """Send what others need of a y-pencil."""
        np.concatenate([plane[:, f:e].ravel() for f, e in self.ys], out=self.backward.source)
        self.backward.start()

    def end_backward(self) -> np.ndarray:
        """Return the x-pencil."""
        came, at, out = self.backward.wait(), 0, np.empty(self.shape_x, np.complex128)
        for f, e in self.xs:
            n = out[:, :, f:e].size
            out[:, :, f:e] = came[at : at + n].reshape(self.planes, -1, e - f)
            at += n
        return out


class Tridiagonal:
    """a x[k-1] + b x[k] + c x[k+1] = d in z for all modes at once, z cut into blocks over the ranks of a column.

    Each rank eliminates its block; two unknowns a block and mode are left, whose small system every rank solves after
    one exchange (``exact``). ``pdd`` drops the coupling of a block's two ends, as the paper does: exact for two blocks,
    an approximation for more, worst in the lowest modes.
    """

    def __init__(self, grid: ProcessGrid, a: np.ndarray, b: np.ndarray, c: np.ndarray, method: str) -> None:
        self.grid, self.a, self.method = grid, a, method
        self.scale, self.upper = self._factors(b, c)
        low, high = np.zeros(b.shape), np.zeros(b.shape)
        low[0], high[-1] = -a[0], -c[-1]
        self.low, self.high = self.eliminate(low), self.eliminate(high)
        modes = b.shape[1:]
        self.ends = grid.channel("z", [2 * b[0].size] * grid.columns, [2 * b[0].size] * grid.columns, np.complex128)
        self.inverse = self._reduced(modes) if method == "exact" else None

    def _factors(self, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale, upper = np.empty(b.shape), np.empty(b.shape)
        for k in range(len(b)):
            scale[k] = 1 / (b[k] - (self.a[k] * upper[k - 1] if k else 0))
            upper[k] = c[k] * scale[k]
        return scale, upper

    def eliminate(self, d: np.ndarray) -> np.ndarray:
        """Solve with this block alone."""
        x = d * self.scale
        for k in range(1, len(d)):
            x[k] -= self.a[k] * self.scale[k] * x[k - 1]
        for k in range(len(d) - 2, -1, -1):
            x[k] -= self.upper[k] * x[k + 1]
        return x

    def _reduced(self, modes: tuple[int, ...]) -> np.ndarray:
        """Invert the system of the blocks' ends, (modes, 2 P, 2 P); it never changes. Collective."""
        mine = np.stack([self.low[0], self.low[-1], self.high[0], self.high[-1]])
        blocks = self.grid.comms["z"].allgather(mine)
        n = 2 * len(blocks)
        matrix = np.broadcast_to(np.eye(n), (*modes, n, n)).copy()
        for k, (low_0, low_1, high_0, high_1) in enumerate(blocks):
            for row, low, high in ((2 * k, low_0, high_0), (2 * k + 1, low_1, high_1)):
                if k:
                    matrix[..., row, 2 * k - 1] = -low
                if k < len(blocks) - 1:
                    matrix[..., row, 2 * k + 2] = -high
        return np.linalg.inv(matrix)

    def solve(self, d: np.ndarray) -> np.ndarray:
        """Solve for all modes; d and the result are (my z, modes…)."""
        x = self.eliminate(d)
        if self.grid.columns == 1:
            return x
        mine = np.stack([x[0], x[-1]])
        self.ends.source[:] = np.tile(mine.ravel(), self.grid.columns)
        self.ends.start()
        ends = self.ends.wait().reshape(2 * self.grid.columns, *d.shape[1:])
        low, high = self._neighbours(ends)
        return x + self.low * low + self.high * high

    def _neighbours(self, ends: np.ndarray) -> tuple[Any, Any]:
        """Return the unknown below this block and the one above it."""
        k, last = self.grid.column, self.grid.columns - 1
        if self.inverse is not None:
            found = np.einsum("...ij,j...->i...", self.inverse, ends)
            return (found[2 * k - 1] if k else 0.0), (found[2 * k + 2] if k < last else 0.0)
        low = self._pair(ends, k - 1)[0] if k else 0.0
        return low, (self._pair(ends, k)[1] if k < last else 0.0)

    def _pair(self, ends: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Solve the two unknowns between blocks k and k + 1, as if there were no others."""
        if not hasattr(self, "borders"):
            self.borders = self.grid.comms["z"].allgather((self.high[-1], self.low[0]))
        up, down = self.borders[k][0], self.borders[k + 1][1]
        below = (ends[2 * k + 1] + up * ends[2 * k + 2]) / (1 - up * down)
        return below, ends[2 * k + 2] + down * below


class Poisson:
    """Laplace(phi) = f: periodic in x and y, no gradient at the walls in z; second-order differences."""

    def __init__(self, grid: ProcessGrid, cells: tuple[int, int, int], lengths: Any, z: Any, method: str) -> None:
        nx, ny, _ = cells
        self.nx, self.nkx = nx, nx // 2 + 1
        self.nz = len(z.cell)
        first, end = share(self.nkx, grid.rows, grid.row)
        wave_x, wave_y = (2 - 2 * np.cos(2 * np.pi * np.arange(n) / n) for n in (nx, ny))
        waves = wave_x[first:end] * (nx / lengths[0]) ** 2 + (wave_y * (ny / lengths[1]) ** 2)[:, None]
        a, c = 1 / (z.cell * z.below), 1 / (z.cell * z.above)
        a[0] *= grid.column > 0
        c[-1] *= grid.column < grid.columns - 1
        b = -(a + c)[:, None, None] - waves
        if first == 0 and grid.column == 0:
            b[0, 0, 0] *= 2  # the mean of phi is free: its lowest value becomes 0, and nothing else changes
        shape = (self.nz, 1, 1)
        self.modes = Tridiagonal(grid, a.reshape(shape), b, np.broadcast_to(c.reshape(shape), b.shape), method)
        chunks = min(grid.way.chunks, self.nz)
        self.chunks = [slice(*share(self.nz, chunks, i)) for i in range(chunks)]
        self.transposes = [Transpose(grid, s.stop - s.start, ny, self.nkx) for s in self.chunks]

    def solve(self, f: np.ndarray, timings: Timings) -> np.ndarray:
        """Return phi for f of shape (my z, my y, all x)."""
        for chunk, transpose in zip(self.chunks, self.transposes, strict=True):
            with timings("Forward X-FFT"):
                plane = np.fft.rfft(f[chunk], axis=2)
            with timings("Transpose x to y"):
                transpose.start_forward(plane)
        spectrum = np.empty((self.nz, *self.transposes[0].shape_y[1:]), np.complex128)
        for chunk, transpose in zip(self.chunks, self.transposes, strict=True):
            with timings("Transpose x to y"):
                plane = transpose.end_forward()
            with timings("Forward Y-FFT"):
                spectrum[chunk] = np.fft.fft(plane, axis=1)
        with timings("Solve trid"):
            spectrum = self.modes.solve(spectrum)
        for chunk, transpose in zip(self.chunks, self.transposes, strict=True):
            with timings("Backward Y-FFT"):
                plane = np.fft.ifft(spectrum[chunk], axis=1)
            with timings("Transpose y to x"):
                transpose.start_backward(plane)
        phi = np.empty(f.shape)
        for chunk, transpose in zip(self.chunks, self.transposes, strict=True):
            with timings("Transpose y to x"):
                plane = transpose.end_backward()
            with timings("Backward X-FFT"):
                phi[chunk] = np.fft.irfft(plane, n=self.nx, axis=2)
        return phi
