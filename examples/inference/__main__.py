"""Parallel inference: a small transformer, heads and widths cut over `--tensor` ranks, layers over the stages.

    mpiexec -n 4 python examples/inference --tensor 2 --tokens 16 --plot latency.png

Each layer has two allreduces among the ranks of a stage (tensor parallelism), and stages hand on one message (pipeline
parallelism). Weights are fixed numbers, so the tokens must equal those of one process. The MPI library's collectives
and topocomm's take turns, token by token.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

import topocomm

WIDTH, HEADS, LAYERS, WORDS, PROMPT = 128, 8, 4, 64, 12


def weights(layer: int, name: str, *shape: int) -> np.ndarray:
    """Fixed numbers, alike on every rank."""
    seed = [layer, *name.encode()]
    return np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[0])


def normal(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)


class Layer:
    """One layer's share of a rank: some heads, and some of the columns between its two matrices."""

    def __init__(self, number: int, rank: int, parts: int) -> None:
        heads, inner = HEADS // parts, 4 * WIDTH // parts
        self.heads, mine = heads, slice(rank * WIDTH // parts, (rank + 1) * WIDTH // parts)
        self.qkv = [weights(number, name, WIDTH, WIDTH)[:, mine] for name in "qkv"]
        self.out = weights(number, "out", WIDTH, WIDTH)[mine]
        wide = slice(rank * inner, (rank + 1) * inner)
        self.up = weights(number, "up", WIDTH, 4 * WIDTH)[:, wide]
        self.down = weights(number, "down", 4 * WIDTH, WIDTH)[wide]
        self.keys, self.values = (np.zeros((0, heads, WIDTH // HEADS)) for _ in range(2))

    def attention(self, x: np.ndarray) -> np.ndarray:
        """Return this rank's addend; keys and values of earlier tokens are kept."""
        q, k, v = ((normal(x) @ w).reshape(len(x), self.heads, -1) for w in self.qkv)
        self.keys, self.values = np.concatenate([self.keys, k]), np.concatenate([self.values, v])
        scores = np.einsum("ihd,jhd->hij", q, self.keys) / np.sqrt(q.shape[2])
        past = np.arange(len(self.keys)) <= np.arange(len(self.keys) - len(x), len(self.keys))[:, None]
        scores = np.exp(np.where(past, scores, -np.inf) - scores.max(axis=2, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", scores / scores.sum(axis=2, keepdims=True), self.values)
        return mixed.reshape(len(x), -1) @ self.out

    def perceptron(self, x: np.ndarray) -> np.ndarray:
        """Return this rank's addend."""
        return np.maximum(normal(x) @ self.up, 0) @ self.down


class Model:
    """A rank's share: the layers of its stage, cut over the ranks of the stage, which `comm` adds up."""

    def __init__(self, world: MPI.Intracomm, tensor: int, wrap: Any) -> None:
        if world.size % tensor or LAYERS % (world.size // tensor) or HEADS % tensor:
            raise SystemExit(
                f"{world.size} ranks: tensor {tensor} must divide them and {HEADS} heads, stages {LAYERS} layers"
            )
        self.world, self.stage, self.stages = world, world.rank // tensor, world.size // tensor
        self.tensor, each = tensor, LAYERS // self.stages
        self.comm = wrap(world.Split(self.stage, world.rank))
        self.layers = [Layer(n, self.comm.rank, tensor) for n in range(self.stage * each, (self.stage + 1) * each)]
        self.words, self.last = 8 * weights(99, "words", WORDS, WIDTH), weights(99, "last", WIDTH, WORDS)

    def _add(self, x: np.ndarray, addend: np.ndarray) -> np.ndarray:
        total = np.empty_like(addend)
        self.comm.Allreduce(np.ascontiguousarray(addend), total)
        return x + total

    def next(self, tokens: list[int], at: int) -> int:
        """Return the token after these, on every rank; `at` is the place of the first of them."""
        x = self.words[tokens] + np.sin((at + np.arange(len(tokens)))[:, None] / 1.7 ** np.arange(WIDTH)[None])
        if self.stage:
            self.world.Recv(x, self.world.rank - self.tensor)
        for layer in self.layers:
            x = self._add(x, layer.attention(x))
            x = self._add(x, layer.perceptron(x))
        if self.stage < self.stages - 1:
            self.world.Send(x, self.world.rank + self.tensor)
        scores = normal(x[-1]) @ self.last
        return int(self.world.bcast(int(scores.argmax()), self.world.size - 1))


def generate(models: dict[str, Model], count: int) -> tuple[dict[str, list[int]], dict[str, list[float]]]:
    """Let all models write in turns, token by token; returns tokens and seconds of each, by name."""
    prompt = [(7 * n + 3) % WORDS for n in range(PROMPT)]
    said: dict[str, list[int]] = {name: [] for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for n in range(count):
        for name, model in models.items():
            given, at = (prompt, 0) if n == 0 else (said[name][-1:], PROMPT + n - 1)
            model.world.Barrier()
            start = MPI.Wtime()
            said[name].append(model.next(given, at))
            seconds[name].append(model.world.allreduce(MPI.Wtime() - start, MPI.MAX))
    return said, seconds


def draw(seconds: dict[str, list[float]], path: Path) -> None:
    """Draw latency by token."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    for name, some in seconds.items():
        axis.plot(range(len(some)), [1e3 * one for one in some], marker="o", markersize=3, label=name)
    axis.set(xlabel="token (the first reads the prompt)", ylabel="ms", yscale="log")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="inference", description=__doc__.partition("\n")[0])
    parser.add_argument("--tensor", type=int, default=2, help="ranks that share a layer (default 2)")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    args, world = parser.parse_args(), MPI.COMM_WORLD
    wraps: dict[str, Any] = {"MPI library": lambda comm: comm, "topocomm": topocomm.Comm}
    said, seconds = generate({name: Model(world, args.tensor, wrap) for name, wrap in wraps.items()}, args.tokens)
    alone, _ = generate({"alone": Model(MPI.COMM_SELF, 1, wraps["MPI library"])}, args.tokens)
    for name, tokens in said.items():
        if tokens != alone["alone"]:
            raise SystemExit(f"rank {world.rank}: {name} wrote {tokens}, one process {alone['alone']}")
    if world.rank == 0:
        print(f"{args.tokens} tokens as one process writes them: {' '.join(map(str, alone['alone']))}")
        for name, some in seconds.items():
            later = 1e3 * float(np.median(some[1:] or some))
            print(f"{name:12} prompt {1e3 * some[0]:8.2f} ms, then {later:8.2f} ms a token")
        if args.plot:
            draw(seconds, args.plot)


if __name__ == "__main__":
    main()
