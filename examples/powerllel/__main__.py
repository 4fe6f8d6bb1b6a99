"""A turbulent channel step as PowerLLEL makes it, with one switch for the way in which ranks communicate.

    mpiexec -n 4 python examples/powerllel examples/powerllel/channel.toml --comm notified --steps 20
    mpiexec -n 4 python examples/powerllel examples/powerllel/channel.toml --comm blocking --plot flow.png

All ways give the same bits; they differ in time. README.md says what is in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from flow import Case, Flow
from mpi4py import MPI
from process_grid import WAYS, ProcessGrid

from topocomm.cli.progress import Progress


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="powerllel", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("input", type=Path, help="input file (TOML)")
    add("--comm", choices=WAYS, default="notified", help="way to communicate (default notified)")
    add("--rows", type=int, help="processes along y (default: near the square root)")
    add("--steps", type=int, default=10)
    add("--nics", help="interfaces for notified puts over a network, with commas")
    add("--restart", type=Path, metavar="FILE.npz", help="go on from what --save wrote")
    add("--save", type=Path, metavar="FILE.npz")
    add("--plot", type=Path, metavar="FILE.png", help="draw the flow at the end")
    add("--json", type=Path, metavar="FILE", help="write statistics and timings")
    return parser.parse_args()


def run(flow: Flow, steps: int, shows: bool) -> None:
    """Advance, with a progress bar."""
    progress = Progress("steps", shows)
    for n in range(steps):
        flow.step()
        progress((n + 1) / steps, f"{n + 1} of {steps}")
    progress.end()


def draw(whole: np.ndarray, case: Case, path: Path) -> None:
    """Draw u in a slice along the channel, and its mean profile."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=[3, 1], layout="constrained")
    extent = (0.0, case.lengths[0], 0.0, case.lengths[2])
    image = left.imshow(whole[0, :, whole.shape[2] // 2], origin="lower", extent=extent, aspect="auto", cmap="viridis")
    figure.colorbar(image, ax=left, label="u")
    left.set(xlabel="x", ylabel="z", title="u, in the middle of the channel's width")
    z = (np.arange(whole.shape[1]) + 0.5) * case.lengths[2] / whole.shape[1]
    right.plot(whole[0].mean(axis=(1, 2)), z)
    right.set(xlabel="mean u", ylabel="z")
    figure.savefig(path, dpi=120)


def report(flow: Flow, args: argparse.Namespace) -> dict[str, Any]:
    """Gather statistics, bits and timings; the slowest rank's seconds by phase. Collective."""
    statistics = flow.statistics()
    phases = {name: flow.grid.most(seconds) for name, seconds in sorted(flow.timings.seconds.items())}
    whole = flow.gathered()
    document = {"comm": args.comm, "ranks": flow.grid.cart.size, "steps": flow.steps, **statistics, "seconds": phases}
    if whole is not None:
        document["bits"] = hashlib.sha256(whole.tobytes()).hexdigest()[:16]
        if args.save:
            np.savez(args.save, fields=whole, steps=flow.steps)
        if args.plot:
            draw(whole, flow.case, args.plot)
    return document


def main() -> None:
    args, world = parse_arguments(), MPI.COMM_WORLD
    case = Case(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in tomllib.loads(args.input.read_text()).items()}
    )
    rows = args.rows or MPI.Compute_dims(world.size, 2)[0]
    grid = ProcessGrid(world, rows, args.comm, args.nics.split(",") if args.nics else None)
    flow = Flow(grid, case)
    if args.restart:
        kept = np.load(args.restart)
        flow.restore(kept["fields"], int(kept["steps"]))
    run(flow, args.steps, world.rank == 0)
    document = report(flow, args)
    if world.rank == 0:
        if args.json:
            args.json.write_text(json.dumps(document, indent=1) + "\n")
        for key, value in document.items():
            if key != "seconds":
                print(f"{key:12} {value}")
        for name, seconds in document["seconds"].items():
            print(f"  {name:24} {1e3 * seconds / args.steps:10.3f} ms a step")
    grid.close()


if __name__ == "__main__":
    main()
