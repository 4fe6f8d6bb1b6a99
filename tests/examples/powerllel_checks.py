"""Checks of the mini-app on four ranks, 2 × 2: prints one line a check, rank 0."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "powerllel"))

import process_grid
from flow import Case, Flow
from process_grid import WAYS, ProcessGrid

WORLD = MPI.COMM_WORLD
STEPS = 3


def gathered(case: Case, way: str, comm: MPI.Intracomm = WORLD, steps: int = STEPS) -> tuple[np.ndarray, float]:
    """All fields after some steps, on every rank, and the largest divergence."""
    grid = ProcessGrid(comm, 2 if comm.size > 1 else 1, way)
    flow = Flow(grid, case)
    for _ in range(steps):
        flow.step()
    whole, divergence = comm.bcast(flow.gathered()), flow.largest_divergence()
    grid.close()
    return whole, divergence


def say(text: str) -> None:
    if WORLD.rank == 0:
        print(text, flush=True)


def all_ways_give_the_same_bits(case: Case) -> np.ndarray:
    alone, _ = gathered(case, "blocking", MPI.COMM_SELF)
    first = None
    for way in WAYS:
        whole, divergence = gathered(case, way)
        first = whole if first is None else first
        assert (whole == first).all(), way
        assert np.abs(whole - alone).max() < 1e-12, (way, np.abs(whole - alone).max())
        assert divergence <= 1e-12, (way, divergence)
    say(f"{len(WAYS)} ways: same bits, as one process, divergence at most 1e-12")
    return alone


def a_swapped_face_is_noticed(case: Case, right: np.ndarray) -> None:
    """The ghost cells behind and ahead in y, exchanged for each other."""
    honest = process_grid.PackedHalo._fill

    def swapped(self: process_grid.PackedHalo, array: np.ndarray) -> None:
        honest(self, array)
        array[1:-1, 0], array[1:-1, -1] = array[1:-1, -1].copy(), array[1:-1, 0].copy()

    process_grid.PackedHalo._fill = swapped  # type: ignore[method-assign]
    wrong, divergence = gathered(case, "blocking")
    process_grid.PackedHalo._fill = honest  # type: ignore[method-assign]
    assert np.abs(wrong - right).max() > 1e-6
    assert divergence > 1e-6
    say("a swapped face: fields differ, divergence seen")


def a_restart_goes_on(case: Case) -> None:
    grid = ProcessGrid(WORLD, 2, "notified")
    flow = Flow(grid, case)
    flow.step()
    kept = WORLD.bcast(flow.gathered())
    flow.step()
    again = Flow(grid, case)
    again.restore(kept, 1)
    again.step()
    assert (WORLD.bcast(again.gathered()) == WORLD.bcast(flow.gathered())).all()
    grid.close()
    say("start and stop: the same bits as a straight run")


def pdd_is_exact_for_two_blocks_only(case: Case) -> None:
    exact, _ = gathered(case, "blocking")
    other = Case(**{**vars(case), "solver": "pdd"})
    two, divergence = gathered(other, "blocking")
    assert np.abs(two - exact).max() < 1e-12
    assert divergence <= 1e-12
    grid = ProcessGrid(WORLD, 1, "blocking")
    flow = Flow(grid, other)
    flow.step()
    assert flow.largest_divergence() > 1e-6
    say("pdd: exact for two blocks in z, not for four")


def vortices_decay_as_they_should(plane: str) -> None:
    """Taylor–Green: exp(-2 t / Re) everywhere; second order, so half the cells' width leaves a quarter of the error."""
    errors = []
    for n in (8, 16):
        shape = (2 * n, 8, n) if plane == "xz" else (8, 2 * n, n)
        case = Case(shape, (2 * np.pi, 2 * np.pi, np.pi), 10.0, 0.32 / n, f"taylor-green-{plane}")
        start, _ = gathered(case, "notified", steps=0)
        end, _ = gathered(case, "notified", steps=2 * n)
        expected = start[:3] * np.exp(-2 * 2 * n * case.dt / case.reynolds)
        errors.append(float(np.abs(end[:3] - expected).max()))
    order = np.log2(errors[0] / errors[1])
    assert 1.8 < order < 2.3, (plane, errors, order)
    say(f"Taylor-Green in {plane}: order {order:.2f}")


def main() -> None:
    case = Case((12, 10, 8))
    alone = all_ways_give_the_same_bits(case)
    a_swapped_face_is_noticed(case, alone)
    a_restart_goes_on(case)
    pdd_is_exact_for_two_blocks_only(case)
    vortices_decay_as_they_should("xz")
    vortices_decay_as_they_should("yz")


main()
