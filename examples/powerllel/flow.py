"""A step of an incompressible flow between two plates: staggered second-order differences, two Runge–Kutta stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from poisson import Poisson
from process_grid import ProcessGrid, share
from timings import Timings

FLOWS = ("channel", "taylor-green-xz", "taylor-green-yz")


@dataclass
class Case:
    """The input file; lengths in half heights of the channel, z up."""

    cells: tuple[int, int, int] = (32, 32, 32)
    lengths: tuple[float, float, float] = (4 * np.pi, 2 * np.pi, 2.0)
    reynolds: float = 2800.0
    dt: float = 1e-3
    flow: str = "channel"
    solver: str = "exact"
    noise: float = 0.05

    def __post_init__(self) -> None:
        if self.flow not in FLOWS:
            raise SystemExit(f"flow {self.flow!r} is none of {', '.join(FLOWS)}")
        if self.solver not in ("exact", "pdd"):
            raise SystemExit(f"solver {self.solver!r} is neither exact nor pdd")


@dataclass
class Heights:
    """This rank's cells in z: heights, and distances of centres to the cell below and to the one above."""

    cell: np.ndarray
    below: np.ndarray = field(init=False)
    above: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.below, self.above = self.cell.copy(), self.cell.copy()


class Flow:
    """Velocities (u, v, w at the faces ahead of the cells) and pressure on this rank."""

    def __init__(self, grid: ProcessGrid, case: Case) -> None:
        self.grid, self.case = grid, case
        nx, ny, nz = case.cells
        self.z, self.y = share(nz, grid.columns, grid.column), share(ny, grid.rows, grid.row)
        self.size = (self.z[1] - self.z[0], self.y[1] - self.y[0], nx)
        self.dx, self.dy, self.dz = (length / n for length, n in zip(case.lengths, case.cells, strict=True))
        self.viscosity = 1 / case.reynolds
        self.velocity = grid.halo(*self.size[:2], 3, nx + 2)
        self.potential = grid.halo(*self.size[:2], nx + 2)
        heights = Heights(np.full(self.size[0], self.dz))
        self.poisson = Poisson(grid, case.cells, case.lengths, heights, case.solver)
        self.pressure = np.zeros((self.size[0] + 2, self.size[1] + 2, nx + 2))
        self.timings = Timings()
        self.steps, self.now = 0, self._filled(self._start())
        self.bulk = grid.total(float(self._inside(self.now)[:, :, 0].sum())) / np.prod(case.cells)

    # --- start, and what surrounds the cells --------------------------------------------------------------------------

    def _start(self) -> np.ndarray:
        """Velocities of the start, made from global places, so that the process grid does not matter."""
        nx, (_, ny, _) = self.case.cells[0], self.case.cells
        k, j, i = np.meshgrid(np.arange(*self.z), np.arange(*self.y), np.arange(nx), indexing="ij")
        xc, xf, yc, yf = (i + 0.5) * self.dx, (i + 1) * self.dx, (j + 0.5) * self.dy, (j + 1) * self.dy
        zc, zf = (k + 0.5) * self.dz, (k + 1) * self.dz
        still = np.zeros(self.size)
        if self.case.flow == "taylor-green-xz":
            return np.stack([np.sin(xf) * np.cos(zc), still, -np.cos(xc) * np.sin(zf)], axis=2)
        if self.case.flow == "taylor-green-yz":
            return np.stack([still, np.sin(yf) * np.cos(zc), -np.cos(yc) * np.sin(zf)], axis=2)
        height = self.case.lengths[2]
        cell = (k * ny + j) * nx + i
        noise = [np.mod(np.sin(cell * 12.9898 + n) * 43758.5453, 1.0) - 0.5 for n in range(3)]
        profile = 6 * zc / height * (1 - zc / height)
        u, v, w = (self.case.noise * one for one in noise)
        return np.stack([profile + u, v, np.where(k == self.case.cells[2] - 1, 0.0, w)], axis=2)

    @staticmethod
    def _inside(array: np.ndarray) -> np.ndarray:
        return array[1:-1, 1:-1, ..., 1:-1]

    @staticmethod
    def _wrap(array: np.ndarray) -> None:
        """Fill the ghost cells in x, which is never cut."""
        array[..., 0], array[..., -1] = array[..., -2], array[..., 1]

    def _filled(self, inside: np.ndarray) -> np.ndarray:
        """Put velocities into the next array and fill what surrounds them."""
        self._inside(self.velocity.next)[...] = inside
        array = self.velocity.exchange()
        self._wrap(array)
        mirror = -1.0 if self.case.flow == "channel" else 1.0  # plates hold the fluid, or let it slip
        if self.grid.column == 0:
            array[0, :, :2], array[0, :, 2] = mirror * array[1, :, :2], 0.0
        if self.grid.column == self.grid.columns - 1:
            array[-1, :, :2], array[-2, :, 2], array[-1, :, 2] = mirror * array[-2, :, :2], 0.0, 0.0
        return array

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Advance by dt: two stages, then the pressure that takes the divergence away."""
        dt, timings = self.case.dt, self.timings
        with timings("Main loop"):
            old = self._inside(self.now).copy()
            with timings("uvw1"):
                first = self._rates(self.now)
            with timings("Update boundary vel"):
                between = self._filled(old + dt * first)
            with timings("uvw2"):
                second = self._rates(between)
            with timings("Update boundary vel"):
                guess = self._filled(old + 0.5 * dt * (first + second))
            with timings("Calculate RHS"):
                f = self.divergence(guess) / dt
            with timings("Poisson solver"):
                found = self.poisson.solve(f, timings)
            with timings("Update boundary pres"):
                phi = self._surrounded(found)
            with timings("Correct vel"):
                new = self._inside(guess) - dt * self._gradient(phi)
                self.pressure += phi
            with timings("Force vel"):
                self._force(new)
            with timings("Update boundary vel"):
                self.now = self._filled(new)
        self.steps += 1

    def _surrounded(self, inside: np.ndarray) -> np.ndarray:
        """Put a potential into its next array and fill what surrounds it."""
        self._inside(self.potential.next)[...] = inside
        array = self.potential.exchange()
        self._wrap(array)
        if self.grid.column == 0:
            array[0] = array[1]
        if self.grid.column == self.grid.columns - 1:
            array[-1] = array[-2]
        return array

    def _force(self, new: np.ndarray) -> None:
        """Keep the flow rate of a channel."""
        if self.case.flow == "channel":
            mean = self.grid.total(float(new[:, :, 0].sum())) / np.prod(self.case.cells)
            new[:, :, 0] += self.bulk - mean

    def _gradient(self, p: np.ndarray) -> np.ndarray:
        here = p[1:-1, 1:-1, 1:-1]
        ahead = [p[1:-1, 1:-1, 2:], p[1:-1, 2:, 1:-1], p[2:, 1:-1, 1:-1]]
        parts = [(one - here) / d for one, d in zip(ahead, (self.dx, self.dy, self.dz), strict=True)]
        return np.stack(parts, axis=2)

    def divergence(self, array: np.ndarray) -> np.ndarray:
        """Return the divergence in this rank's cells."""
        u, v, w = (array[:, :, n] for n in range(3))
        x = (u[1:-1, 1:-1, 1:-1] - u[1:-1, 1:-1, :-2]) / self.dx
        y = (v[1:-1, 1:-1, 1:-1] - v[1:-1, :-2, 1:-1]) / self.dy
        return x + y + (w[1:-1, 1:-1, 1:-1] - w[:-2, 1:-1, 1:-1]) / self.dz

    def _rates(self, array: np.ndarray) -> np.ndarray:
        """Return what convection, friction and the pressure so far do to u, v, w."""
        fields = [np.ascontiguousarray(array[:, :, n]) for n in range(3)]
        rates = -self._gradient(self.pressure)
        for n, one in enumerate(fields):
            rates[:, :, n] += self._friction(one) - self._convection(fields, n)
        if self.grid.column == self.grid.columns - 1:
            rates[-1, :, 2] = 0.0  # nothing moves through the plate
        return rates

    def _friction(self, q: np.ndarray) -> Any:
        found = 0.0
        for axis, d in ((2, self.dx), (1, self.dy), (0, self.dz)):
            found = found + (_at(q, axis, 1) - 2 * _at(q, axis, 0) + _at(q, axis, -1)) / d**2
        return self.viscosity * found

    def _convection(self, fields: list[np.ndarray], n: int) -> Any:
        """Sum the differences of fluxes through the faces around the points of component n."""
        q, own, found = fields[n], 2 - n, 0.0
        for m, d in enumerate((self.dx, self.dy, self.dz)):
            axis, carrier = 2 - m, fields[m]
            ahead = 0.25 * (_at(q, axis, 0) + _at(q, axis, 1))
            behind = 0.25 * (_at(q, axis, -1) + _at(q, axis, 0))
            if m == n:
                out, into = _at(q, axis, 0) + _at(q, axis, 1), _at(q, axis, -1) + _at(q, axis, 0)
            else:
                out = _at(carrier, own, 0) + _at(carrier, own, 1)
                into = _at(carrier, axis, -1) + _at(carrier, axis, -1, own, 1)
            found = found + (out * ahead - into * behind) / d
        return found

    # --- what is known of it ------------------------------------------------------------------------------------------

    def largest_divergence(self) -> float:
        """Return the largest divergence anywhere."""
        return self.grid.most(float(np.abs(self.divergence(self.now)).max()))

    def statistics(self) -> dict[str, float]:
        """Return mean and fluctuation of the flow, over all cells."""
        inside, cells = self._inside(self.now), np.prod(self.case.cells)
        mean = self.grid.total(float(inside[:, :, 0].sum())) / cells
        energy = self.grid.total(float((inside**2).sum())) / cells / 2
        return {"mean u": mean, "energy": energy, "divergence": self.largest_divergence()}

    def gathered(self) -> np.ndarray | None:
        """Return u, v, w and p of all cells, (4, z, y, x), on rank 0."""
        mine = [*np.moveaxis(self._inside(self.now), 2, 0), self.pressure[1:-1, 1:-1, 1:-1]]
        parts = self.grid.cart.gather((self.z, self.y, np.stack(mine)))
        if parts is None:
            return None
        whole = np.empty((4, *self.case.cells[::-1]))
        for z, y, part in parts:
            whole[:, slice(*z), slice(*y)] = part
        return whole

    def restore(self, whole: np.ndarray, steps: int) -> None:
        """Go on from what was gathered."""
        mine = whole[:, slice(*self.z), slice(*self.y)]
        self.now = self._filled(np.moveaxis(mine[:3], 0, 2))
        self.pressure = self._surrounded(mine[3]).copy()
        self.steps = steps


def _at(q: np.ndarray, axis: int, step: int, other: int = -1, more: int = 0) -> np.ndarray:
    """Return the inside of an array, moved by a step along one axis and by another along a second one."""
    index = [slice(1, -1)] * 3
    for a, s in ((axis, step), (other, more)):
        if a >= 0:
            index[a] = slice(1 + s, q.shape[a] - 1 + s)
    return q[tuple(index)]
