"""Reading digits by their neighbours: Jacobi on the graph of 1797 written digits, cut over the ranks.

    mpiexec -n 4 python examples/graph                         # notified exchange with neighbours, checked
    mpiexec -n 4 python examples/graph --time --plot graph.png # beside Neighbor_alltoallv and Alltoallv, in turns

Each digit is linked to those most alike. One in ten has its label; the others take the weighted mean of their
neighbours', which is a sparse symmetric system. In each sweep a rank needs the values of the digits that its own are
linked to.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from mpi4py import MPI
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import spsolve
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

from topocomm import rma

CLASSES, LINKS, LABELLED = 10, 8, 10
HOLD, LEAK = 8.0, 0.4
"""Weight of a known label, and of knowing nothing: the latter makes the system well conditioned."""
TOLERANCE = 1e-12

Exchange = Callable[[np.ndarray], np.ndarray]


def problem() -> tuple[csr_matrix, np.ndarray, np.ndarray, np.ndarray]:
    """Return links, diagonal, right-hand sides and labels; digits are numbered so that neighbours are near."""
    digits = load_digits()
    links = kneighbors_graph(digits.data, LINKS).maximum(kneighbors_graph(digits.data, LINKS).T).tocsr()
    order = reverse_cuthill_mckee(links, symmetric_mode=True)
    links, labels = links[order][:, order], digits.target[order]
    known = np.arange(len(labels)) % LABELLED == 0
    weight = np.where(known, HOLD, LEAK)
    right = np.where(known[:, None], HOLD * np.eye(CLASSES)[labels], LEAK / CLASSES)
    return links, np.asarray(links.sum(axis=1)).ravel() + weight, right, labels


class Part:
    """One rank's digits: its rows of the system, with columns renumbered to own digits and to those of others."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        links, diagonal, right, self.labels = problem()
        n = len(diagonal)
        ends = [n * r // comm.size for r in range(comm.size + 1)]
        self.first, self.end = ends[comm.rank], ends[comm.rank + 1]
        mine = links[self.first : self.end].tocoo()
        ghosts = np.unique(mine.col[(mine.col < self.first) | (mine.col >= self.end)])
        place = np.full(n, -1)
        place[self.first : self.end] = np.arange(self.end - self.first)
        place[ghosts] = self.end - self.first + np.arange(len(ghosts))
        shape = (self.end - self.first, self.end - self.first + len(ghosts))
        self.links = coo_matrix((mine.data, (mine.row, place[mine.col])), shape).tocsr()
        self.diagonal, self.right = diagonal[self.first : self.end, None], right[self.first : self.end]
        wanted = [ghosts[(ghosts >= a) & (ghosts < b)] for a, b in pairwise(ends)]
        asked = comm.alltoall(wanted)
        self.chosen = np.concatenate(asked).astype(int) - self.first  # what others want of mine
        self.sends, self.receives = ([CLASSES * len(one) for one in some] for some in (asked, wanted))

    def solve(self, comm: MPI.Intracomm, exchange: Exchange) -> tuple[np.ndarray, int]:
        """Sweep until nothing changes; returns this rank's values and the number of sweeps."""
        values, sweeps = np.zeros(self.right.shape), 0
        while True:
            others = exchange(values[self.chosen].ravel()).reshape(-1, CLASSES)
            new = (self.right + self.links @ np.concatenate([values, others])) / self.diagonal
            change, values, sweeps = float(np.abs(new - values).max()), new, sweeps + 1
            if sweeps % 10 == 0 and comm.allreduce(change, MPI.MAX) < TOLERANCE:
                return values, sweeps


def ways(comm: MPI.Intracomm, context: rma.Context, part: Part) -> dict[str, Exchange]:
    """Make the exchanges: notified puts, MPI's with neighbours, MPI's with all."""
    sends, receives = part.sends, part.receives
    origins, to = ([r for r, n in enumerate(some) if n] for some in (receives, sends))
    near = comm.Create_dist_graph_adjacent(origins, to)
    few_sends, few_receives = [sends[r] for r in to], [receives[r] for r in origins]
    source, target = np.zeros(sum(sends)), np.zeros(sum(receives))
    puts = rma.alltoallv(context, source, sends, receives)

    def notified(values: np.ndarray) -> np.ndarray:
        source[:] = values
        return puts()

    def neighbours(values: np.ndarray) -> np.ndarray:
        near.Neighbor_alltoallv([values, few_sends], [target, few_receives])
        return target

    def everyone(values: np.ndarray) -> np.ndarray:
        comm.Alltoallv([values, sends], [target, receives])
        return target

    return {"notified": notified, "Neighbor_alltoallv": neighbours, "Alltoallv": everyone}


def compare(comm: MPI.Intracomm, part: Part, found: dict[str, Exchange], rounds: int) -> dict[str, np.ndarray]:
    """Time one exchange of each way in turns; µs of the slowest rank."""
    values = np.zeros(part.right.shape)[part.chosen].ravel()
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, exchange in found.items():
            comm.Barrier()
            start = MPI.Wtime()
            exchange(values)
            times[name].append(MPI.Wtime() - start)
    most = {name: np.empty(rounds) for name in times}
    for name, some in times.items():
        comm.Allreduce(np.array(some), most[name], MPI.MAX)
    return {name: 1e6 * some for name, some in most.items()}


def draw(times: dict[str, np.ndarray], path: Path) -> None:
    """Draw the times of an exchange."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    axis.boxplot(list(times.values()), showfliers=False)
    axis.set_xticks(range(1, len(times) + 1), list(times))
    axis.set(ylabel="µs an exchange, slowest rank", yscale="log")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="graph", description=__doc__.partition("\n")[0])
    parser.add_argument("--time", type=int, nargs="?", const=200, metavar="ROUNDS", help="compare the exchanges")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the comparison")
    parser.add_argument("--nics", help="interfaces for notified puts over a network, with commas")
    args, comm = parser.parse_args(), MPI.COMM_WORLD
    part = Part(comm)
    with rma.Context(comm, **({"nics": args.nics.split(",")} if args.nics else {})) as context:
        exchanges = ways(comm, context, part)
        answers = {name: part.solve(comm, exchange) for name, exchange in exchanges.items()}
        values, sweeps = answers["notified"]
        if not all(np.array_equal(values, other) for other, _ in answers.values()):
            raise SystemExit(f"rank {comm.rank}: the exchanges give different answers")
        whole = comm.gather(values)
        if whole is not None:
            links, diagonal, right, labels = problem()
            direct = spsolve((diags(diagonal) - links).tocsc(), right)
            error, read = np.abs(np.concatenate(whole) - direct).max(), direct.argmax(axis=1) == labels
            if error > 1e-9:
                raise SystemExit(f"the answer differs from a direct solve's by {error:.1e}")
            print(
                f"{sweeps} sweeps: as a direct solve within {error:.0e}; {read.mean():.1%} of the digits read correctly"
            )
        times = compare(comm, part, exchanges, args.time) if args.time else {}
    if comm.rank == 0 and times:
        base = float(np.median(times["Neighbor_alltoallv"]))
        for name, some in times.items():
            print(
                f"{name:20}{np.median(some):10.1f} µs an exchange, {np.median(some) / base:.2f} of Neighbor_alltoallv"
            )
        if args.plot:
            draw(times, args.plot)


if __name__ == "__main__":
    main()
