"""The picture of `explain`: time of every candidate, and what the pairs of outermost places carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topocomm.model import transfers
from topocomm.model.explain import Explanation, pair_loads

__all__ = ["draw"]

_AWARE, _TEXTBOOK, _BOUND = "#1b6ca8", "#9a9a9a", "#d1495b"
_MAPS = 2


def draw(found: Explanation, choice: dict[str, Any], output: Path, root: int = 0) -> None:
    """Draw; the name of `output` decides the kind of picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = _shown(found, choice) if found.topology.levels and found.nbytes else []
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(
            1, 1 + len(shown), squeeze=False, layout="constrained",
            figsize=(6.4 + 4.2 * len(shown), 1.6 + 0.42 * max(6, len(found.candidates))),
        )  # fmt: skip
        _times(found, choice, axes[0, 0])
        if shown:
            _maps(found, shown, axes[0, 1:], figure, root)
        size, ranks = found.nbytes, found.topology.size
        figure.suptitle(f"{found.collective}, {size:,} bytes on {ranks} ranks ({found.machine.kind})", fontsize=11)
        figure.savefig(output, dpi=150)
        plt.close(figure)


def _shown(found: Explanation, choice: dict[str, Any]) -> list[str]:
    """What would run (or the fastest), and the slowest with the heaviest pair beside it."""
    names = [c.algorithm for c in found.candidates]
    first = choice["algorithm"] if choice["algorithm"] in names else names[0]
    return list(dict.fromkeys([first, names[-1]]))[:_MAPS]


def _times(found: Explanation, choice: dict[str, Any], axis: Any) -> None:
    rows = list(reversed(found.candidates))
    names = [f"{c.algorithm} ◂" if c.algorithm == choice["algorithm"] else c.algorithm for c in rows]
    colours = [_TEXTBOOK if c.algorithm.startswith("textbook_") else _AWARE for c in rows]
    axis.barh(names, [c.seconds * 1e6 for c in rows], color=colours, height=0.65)
    if found.bound.seconds:
        axis.axvline(found.bound.seconds * 1e6, color=_BOUND, linewidth=1.4)
        axis.text(
            found.bound.seconds * 1e6, 1.01, "bound", color=_BOUND, transform=axis.get_xaxis_transform(), ha="center"
        )
        _logarithmic(axis)
    axis.set_xlabel("modelled time (µs)")


def _logarithmic(axis: Any) -> None:
    """A horizontal axis with plain numbers at a few steps of every decade."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _maps(found: Explanation, shown: list[str], axes: Any, figure: Any, root: int) -> None:
    from matplotlib.colors import LogNorm

    level = found.topology.levels[0]
    loads = [
        pair_loads(transfers(found.collective, name, found.topology, root), found.topology, found.nbytes) / 1e6
        for name in shown
    ]
    top = max(float(matrix.max()) for matrix in loads)
    if not top:
        return
    scale = LogNorm(min(float(m[m > 0].min()) for m in loads if m.any()) * 0.999, top)
    for axis, name, matrix in zip(axes, shown, loads, strict=True):
        image = axis.imshow(matrix, cmap="viridis", norm=scale, interpolation="nearest")
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(f"to {level}")
        axis.set_ylabel(f"from {level}")
    figure.colorbar(image, ax=list(axes), label="MB", shrink=0.8)
