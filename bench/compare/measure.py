"""One unit of the comparison, inside its MPI job: one collective, all sizes; variants take turns, buffers are altered.

    python -m bench.cluster run --racks 4 --hosts 4 --placement cyclic -- \
        python -m bench.compare.measure --collective allreduce --size 32768,1048576 --out unit.json

``native`` is MPI.COMM_WORLD; every other variant is topocomm.Comm: an algorithm (``auto``: the one it selects), with an
engine behind an @. A size is that of the largest buffer of a rank: the whole vector. A sample is the time of the
slowest rank for one call, or for several in a row where they are short; the bytes that cross rack uplinks in one call
are counted by the switches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mpi4py
import numpy as np

from bench import cluster
from bench.compare.bounds import bound_us, uplink_bytes
from bench.compare.collectives import COLLECTIVES, Collective

SAMPLE_SECONDS = 0.02
"""Short calls are repeated until one sample takes about this long."""
MIN_SAMPLES = 3


def parse_arguments() -> argparse.Namespace:
    """Read the arguments; the thread level must be known before MPI starts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--collective", required=True, choices=COLLECTIVES)
    parser.add_argument("--size", default="1024,32768,1048576", help="bytes, with commas between")
    parser.add_argument("--variants", default="auto", help="beside native: auto or names, @ENGINE behind, with commas")
    parser.add_argument("--samples", type=int, default=7, help="samples per variant")
    parser.add_argument("--max-seconds", type=float, default=60, help="fewer samples, at least 3, if they take longer")
    parser.add_argument("--level", default="multiple", help="thread level of MPI: single … multiple")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    options.variants = [name for name in options.variants.split(",") if name]
    options.size = [int(size) for size in options.size.split(",")]
    return options


OPTIONS = parse_arguments() if __name__ == "__main__" else None
if OPTIONS:
    mpi4py.rc.thread_level = OPTIONS.level

from mpi4py import MPI  # noqa: E402

import topocomm  # noqa: E402
from bench.record import command  # noqa: E402
from topocomm.cli import provenance  # noqa: E402
from topocomm.cli.report.document import NATIVE, Part, Place, Row, Variant, write  # noqa: E402


class Buffers:
    """Send data that differs by rank, position and turn: small whole numbers, so every order of summing is exact."""

    def __init__(self, collective: Collective, size: int, rank: int, ranks: int) -> None:
        kind = np.dtype(np.uint8 if collective.as_bytes else np.float64)
        count = size // kind.itemsize
        self.base = ((np.arange(count // ranks if collective.shared_send else count) * 7 + rank * 13) % 127).astype(
            kind
        )
        self.send = self.base.copy()
        self.receive = np.zeros(count // ranks if collective.shared_receive else count, kind)

    def alter(self, turn: int) -> None:
        """Write other data than in the turn before, so that no cache holds what was sent."""
        np.add(self.base, self.base.dtype.type(turn % 101), out=self.send)


def make_variants(world: MPI.Intracomm, names: Sequence[str], **described: str) -> dict[str, Any]:
    """Make a communicator for every variant, native first. Collective."""
    variants: dict[str, Any] = {NATIVE: world}
    for name in names:
        algorithm, _, engine = name.partition("@")
        options: dict[str, Any] = {} if algorithm == "auto" else {"algorithm": algorithm}
        variants[name] = topocomm.Comm(world, **described, **options, **({"engine": engine} if engine else {}))
    return variants


def verify(world: MPI.Intracomm, name: str, variants: Mapping[str, Any], buffers: Buffers) -> None:
    """Check that every variant gives what the native call gives. Ends the program if one does not."""
    COLLECTIVES[name].call(world, buffers.send, buffers.receive)
    expected = buffers.receive.copy()
    if not world.allreduce(bool(expected.any()), MPI.LOR):
        raise SystemExit(f"{name} of {expected.nbytes} bytes: native gave zeros on all ranks")
    for variant, comm in variants.items():
        buffers.receive[:] = 0
        COLLECTIVES[name].call(comm, buffers.send, buffers.receive)
        if not world.allreduce(bool(np.array_equal(buffers.receive, expected)), MPI.LAND):
            raise SystemExit(f"{name} of {expected.nbytes} bytes: {variant} differs from native on some rank")
        buffers.receive[:] = expected


class Sampler:
    """Times calls of one collective: altered buffers, and seconds per call on the slowest rank."""

    def __init__(self, world: MPI.Intracomm, collective: Collective, buffers: Buffers) -> None:
        self.world, self.collective, self.buffers = world, collective, buffers
        self.turn = 0

    def __call__(self, call: Callable[[], None], repeat: int) -> float:
        """Return a sample of `repeat` calls.

        Ranks of a rooted collective do not wait for each other, so calls in a row would overlap: barriers part them.
        """
        spent = 0.0
        for turn in range(repeat):
            self.turn += 1
            self.buffers.alter(self.turn)
            if turn == 0 or self.collective.rooted:
                self.world.Barrier()
            start = MPI.Wtime()
            call()
            spent += MPI.Wtime() - start
        return float(self.world.allreduce(spent / repeat, MPI.MAX))


def crossed(world: MPI.Intracomm, call: Callable[[], None]) -> int:
    """Count the bytes that left any rack in one call, less those of the barriers around it."""

    def passed() -> int:
        world.Barrier()
        found = 0
        if world.rank == 0:
            found = sum(traffic.up_bytes for link, traffic in cluster.counters_here().items() if "/" not in link)
        world.Barrier()
        return found

    start, idle = passed(), passed()
    call()
    return max(0, passed() - idle - (idle - start))


def measure(
    world: MPI.Intracomm, variants: Mapping[str, Any], size: int, options: argparse.Namespace, about: Any
) -> Row:
    """Take samples of all variants at one size, in turns. Collective; bytes over uplinks are rank 0's."""
    name, collective = options.collective, COLLECTIVES[options.collective]
    buffers = Buffers(collective, size, world.rank, world.size)
    verify(world, name, variants, buffers)
    calls = {v: partial(collective.call, comm, buffers.send, buffers.receive) for v, comm in variants.items()}
    over = {v: crossed(world, call) if about else None for v, call in calls.items()}
    sample = Sampler(world, collective, buffers)
    repeat = min(50, 1 + int(SAMPLE_SECONDS / sample(calls[NATIVE], 1)))
    samples: dict[str, list[float]] = {variant: [] for variant in calls}
    for _ in range(options.samples):
        for variant, call in calls.items():
            samples[variant].append(1e6 * sample(call, repeat))
        spent = 1e-6 * repeat * sum(map(sum, samples.values()))  # the same on every rank
        if len(samples[NATIVE]) >= MIN_SAMPLES and spent > options.max_seconds:
            break
    found = {v: _variant(variants[v], name, size, s, repeat, over[v]) for v, s in samples.items()}
    if not about:
        return Row(name, size, found, no_bound="one node: no links between the ranks")
    return Row(name, size, found, round(bound_us(name, size, about), 2), "", uplink_bytes(name, size, about))


def _variant(comm: Any, name: str, size: int, samples: Sequence[float], repeat: int, over: int | None) -> Variant:
    taken = tuple(round(sample, 2) for sample in samples)
    if not isinstance(comm, topocomm.Comm):
        return Variant(taken, repeat, uplink_bytes=over)
    choice = comm.explain(name, size)
    return Variant(taken, repeat, choice.algorithm, choice.engine, over)


def main(options: argparse.Namespace) -> None:
    """Measure one collective at all sizes that fit, and write the part."""
    world, about = MPI.COMM_WORLD, cluster.context()
    described = {key: about[key] for key in ("topology", "machine")} if about else {}
    variants = make_variants(world, options.variants, **described)
    fitting = [size for size in options.size if COLLECTIVES[options.collective].fits(size, world.size)]
    rows = tuple(measure(world, variants, size, options, about) for size in fitting)
    if world.rank == 0:
        part = Part(
            mpi=provenance.mpi_library(),
            place=Place(f"{world.size} ranks", str(about["placement"]) if about else "one node", world.size),
            rows=rows,
            command=command(),
            thread_level=provenance.thread_level(),
            date=provenance.today(),
            machine={"cpu": provenance.cpu_model(), "cores": provenance.usable_cores()},
            versions=provenance.versions(),
        )
        write([part], options.out)


if OPTIONS:
    main(OPTIONS)
