"""The picture of `simulate`: time over the bound against size, one panel a placement and order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topocomm.cli.places import amount
from topocomm.errors import Error
from topocomm.model.sweep import Point

__all__ = ["draw"]

_COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d6a9f", "#e09f3e", "#00a6a6")
_MARKERS = "osD^vP"


def draw(collective: str, points: list[Point], output: Path) -> None:
    """Draw; the name of `output` decides the kind of picture. Raises topocomm.Error if there is nothing to draw."""
    points = [p for p in points if p.nbytes and p.bound > 0]
    if not points:
        raise Error("nothing to draw: no size above 0 bytes, or one rank only")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys((p.placement, p.order) for p in points))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(
            rows,
            columns,
            squeeze=False,
            sharey=True,
            layout="constrained",
            figsize=(1.5 + 4.5 * columns, 1 + 3.4 * rows),
        )
        for axis, panel in zip(axes.flat, panels, strict=False):
            _panel(axis, [p for p in points if (p.placement, p.order) == panel])
            axis.set_title(f"{Path(panel[0]).name}, {panel[1]}", fontsize=10)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        figure.suptitle(f"{collective} on {points[0].ranks} ranks, modelled", fontsize=11)
        figure.savefig(output, dpi=150)
        plt.close(figure)


def _panel(axis: Any, points: list[Point]) -> None:
    for number, name in enumerate(points[0].seconds):
        textbook = name.startswith("textbook_")
        axis.plot(
            [p.nbytes for p in points],
            [p.seconds[name] / p.bound for p in points],
            label=name,
            color=_COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            linestyle=":" if textbook else "-",
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.grid(which="major", color="#dddddd", linewidth=0.6)
    sizes = [p.nbytes for p in points]
    axis.set_xticks(sizes[:: -(-len(sizes) // 5) or 1], minor=False)
    axis.xaxis.set_major_formatter(lambda size, _position: amount(size, 0))
    axis.set_xlabel("vector")
    axis.set_ylabel("time over bound")
