"""A transform by mpi4py-fft on emulated hosts: the MPI library's Alltoallw and topocomm's take turns in one job.

    python -m bench.fft --link 100mbit --size 128 --samples 7

Seconds are those of a transform there and back on the slowest rank. FFTW's plans differ from one to the next, so bits
are compared of whole transforms by NumPy with the same exchanges. mpi4py-fft lets a communicator reorder its grid of
ranks, which topocomm's does. Kept in bench/results/fft_<mpi>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench import cluster
from bench.calm import busy_share
from bench.cluster import Cluster, ClusterError, detect_mpi, find_mpiexec, reported
from bench.record import ROOT, keep

VARIANTS = ("native", "topocomm")
ALGORITHM = "pairwise"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--racks", type=int, default=4)
    parser.add_argument("--hosts", type=int, default=4, help="hosts per rack")
    parser.add_argument("--link", default="100mbit", help="rate of host links")
    parser.add_argument("--uplink", default="400mbit", help="rate of a rack's uplink")
    parser.add_argument("--placement", default="block,cyclic")
    parser.add_argument("--size", type=int, default=128, help="points in each dimension")
    parser.add_argument("--samples", type=int, default=7, help="of each variant, in turns")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options: argparse.Namespace, about: Mapping[str, Any]) -> None:
    """One rank: a transform for each variant, in turns."""
    from mpi4py import MPI
    from mpi4py_fft import PFFT

    import topocomm
    from topocomm.cli.provenance import versions

    world = MPI.COMM_WORLD
    machine = {"topology": about["topology"], "machine": about["machine"]}
    comms = {"native": world, "topocomm": topocomm.Comm(world, algorithm={"alltoall": ALGORITHM}, **machine)}
    transforms = {name: PFFT(comm, (options.size,) * 3, dtype=np.float64) for name, comm in comms.items()}
    checked = [PFFT(comm, (options.size,) * 3, dtype=np.float64, backend="numpy") for comm in comms.values()]
    spectra = [_spectrum(world, transform) for transform in checked]
    alike = all(np.array_equal(spectra[0], other) for other in spectra)
    rng = np.random.default_rng(world.rank)
    for transform in transforms.values():
        transform.forward.input_array[...] = rng.standard_normal(transform.forward.input_array.shape)
    samples: dict[str, list[float]] = {name: [] for name in transforms}
    for _ in range(options.samples):
        for name, transform in transforms.items():
            world.Barrier()
            start = MPI.Wtime()
            transform.forward()
            transform.backward()
            samples[name].append(round(world.allreduce(MPI.Wtime() - start, MPI.MAX), 5))
    grid = [part.size for part in transforms["native"].subcomm]
    if world.rank == 0:
        document = {"samples_s": samples, "same_bits": alike, "grid": grid, "libraries": versions()}
        options.worker.write_text(json.dumps(document))


def _spectrum(world: Any, transform: Any) -> Any:
    """Return on rank 0 the whole transform of a field that is made from global indices."""
    x, y, z = np.ogrid[transform.local_slice(False)]
    transform.forward.input_array[...] = np.sin(3 * x) + np.cos(0.7 * y * z) + ((7 * x + 11 * y + 13 * z) % 17)
    transform.forward()
    parts = world.gather((transform.local_slice(True), np.array(transform.forward.output_array)))
    whole = np.full(transform.global_shape(True), np.nan, complex) if parts else np.empty(0)
    for place, part in parts or ():
        whole[place] = part
    return whole


def study(options: argparse.Namespace) -> None:
    """Run a job for each placement, keep what was measured, print it."""
    mpi, rows = detect_mpi(find_mpiexec(sys.executable)), []
    with Cluster(options.racks, options.hosts, link=options.link, uplink=options.uplink) as made:
        out = made.scratch / "out.json"
        program = [sys.executable, "-m", "bench.fft", "--worker", str(out)]
        program += ["--size", str(options.size), "--samples", str(options.samples)]
        paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        env = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        for placement in options.placement.split(","):
            busy = busy_share()
            done = made.mpiexec(program, placement=placement, timeout=300, capture=True, env=env)
            if done.returncode:
                raise ClusterError(f"{placement}: return code {done.returncode}\n{done.stdout}{done.stderr}")
            row = {"placement": placement, "busy_before": busy, **json.loads(out.read_text())}
            rows.append(row)
            native, ours = (row["samples_s"][name] for name in VARIANTS)
            ratios = sorted(a / b for a, b in zip(native, ours, strict=True))
            print(f"{placement:8} native {1e3 * statistics.median(native):8.1f} ms, topocomm "
                  f"{1e3 * statistics.median(ours):8.1f} ms; {statistics.median(ratios):.2f} times as fast "
                  f"({ratios[0]:.2f} to {ratios[-1]:.2f}); same bits: {row['same_bits']}", flush=True)  # fmt: skip
    shape = {key: getattr(options, key) for key in ("racks", "hosts", "link", "uplink", "size", "samples")}
    keep(f"fft_{mpi}", {"mpi": mpi, "shape": shape, "algorithm": ALGORITHM, "placements": rows})


def main() -> int:
    """Run the study, or one rank of it inside the cluster."""
    options, about = parse_arguments(), cluster.context()
    if options.worker and about is not None:
        worker(options, about)
        return 0
    return reported("fft", lambda: study(options))


if __name__ == "__main__":
    sys.exit(main())
