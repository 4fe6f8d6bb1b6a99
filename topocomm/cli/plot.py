"""``python -m topocomm plot``: a picture of a result of ``bench --json``; and those of ``explain`` and ``simulate``.

matplotlib is imported only to draw.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from topocomm.cli.bench.osu import BENCHMARKS
from topocomm.cli.bench.results import read
from topocomm.cli.console import launched_rank
from topocomm.cli.modelling import amount
from topocomm.errors import Error
from topocomm.model import transfers
from topocomm.model.explain import Explanation, pair_loads
from topocomm.model.sweep import SweepPoint

__all__ = [
    "HELP",
    "KINDS",
    "add_arguments",
    "check_picture",
    "draw_explanation",
    "draw_results",
    "draw_sweep",
    "require_matplotlib",
    "run",
]

HELP = "draw a result of bench --json: every algorithm, and its ratio to native"

KINDS = ("png", "pdf", "svg")
"""Pictures that can be written, by the end of the name."""

Series = tuple[list[int], list[float]]

_COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d6a9f", "#e09f3e", "#3d405b", "#00a6a6", "#a44a3f")
_MARKERS = "osD^vP*X"
_NATIVE, _TEXTBOOK = "#555555", "#9a9a9a"
_TICKS = 7
_MAPS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the result to draw and the picture to write."""
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what bench --json wrote")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="picture: .png, .pdf or .svg")


def run(args: argparse.Namespace) -> int:
    """Draw; 0. Raises topocomm.Error for a missing matplotlib, a file that is no result, or one without rows."""
    require_matplotlib()
    document = read(args.results)
    if not any(row["results"].get(name) for row in document["rows"] for name in document["contenders"]):
        raise Error(f"{args.results}: holds no measured row")
    check_picture(args.output)
    if launched_rank() in (None, 0):
        draw_results(document, args.output)
        print(f"wrote {args.output}")
    return 0


def require_matplotlib() -> None:
    """Check that matplotlib is installed. Raises topocomm.Error."""
    if not find_spec("matplotlib"):
        raise Error("plots need matplotlib, which is not installed; pip install topocomm[plot]")


def check_picture(path: Path) -> None:
    """Check that a picture can be drawn into a file. Raises topocomm.Error."""
    require_matplotlib()
    if path.suffix[1:] not in KINDS:
        raise Error(f"{path}: the name must end in .{', .'.join(KINDS)}")
    if not path.parent.is_dir():
        raise Error(f"{path}: there is no directory {str(path.parent)!r}")


@contextlib.contextmanager
def _picture(output: Path, title: str, rows: int, columns: int, **more: Any) -> Iterator[tuple[Any, Any]]:
    """Make a figure and its axes, and write it; the end of the name of ``output`` decides the kind of picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained", **more)
        yield figure, axes
        figure.suptitle(title, fontsize=11)
        figure.savefig(output, dpi=150)
        plt.close(figure)


def _logarithmic(axis: Any, steps: Sequence[float], form: str = "{x:g}") -> None:
    """Give an x or y axis plain numbers at these steps of every decade."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter(form))


def _sizes(panel: Any, sizes: list[int], title: str) -> None:
    """Name at most `_TICKS` of the sizes on the horizontal axis."""
    from matplotlib.ticker import NullLocator

    panel.set_xscale("log", base=2)
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    panel.set_xticks(sizes[:: -(-len(sizes) // _TICKS)])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda size, _position: amount(size, 0))
    panel.set_xlabel(title)


# --- a result of bench ------------------------------------------------------------------------------------------------


def draw_results(document: dict[str, Any], output: Path) -> None:
    """Draw a results document with at least one measured row."""
    types = list(dict.fromkeys(row["datatype"] for row in document["rows"]))
    ratios = len(document["contenders"]) > 1
    shape = {"figsize": (1.5 + 5.5 * len(types), 6.2 if ratios else 4.4), "height_ratios": [2.2, 1] if ratios else [1]}
    rows = 2 if ratios else 1
    with _picture(output, _title(document), rows, len(types), sharex="col", sharey="row", **shape) as (_, axes):
        for column, datatype in enumerate(types):
            _column(document, datatype, axes[:, column], len(types) > 1)
        axes[0, 0].set_ylabel(BENCHMARKS[document["benchmark"]].metric.replace("(us)", " (µs)").replace("  ", " "))
        if ratios:
            axes[1, 0].set_ylabel(f"ratio to {_reference(document)}")
        if document["benchmark"] != "barrier":
            axes[0, 0].legend(frameon=False, fontsize=9)


def _column(document: dict[str, Any], datatype: str, axes: Any, named: bool) -> None:
    """Draw one data type: values above, ratios below."""
    rows = [row for row in document["rows"] if row["datatype"] == datatype]
    if document["benchmark"] == "barrier":
        _bars(document, rows[0], axes)
        return
    reference = _reference(document)
    for number, name in enumerate(document["contenders"]):
        style = _style(name, number)
        sizes, values = _series(rows, name)
        axes[0].plot(sizes, values, label=name, **style)
        if len(axes) > 1:
            axes[1].plot(*_ratios(rows, name, reference), **style)
    for panel, steps in zip(axes, ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)), strict=False):
        _logarithmic(panel.yaxis, steps)
        panel.grid(which="major", color="#dddddd", linewidth=0.6)
    _sizes(axes[-1], [row["size"] for row in rows], "message size")
    if named:
        axes[0].set_title(datatype, fontsize=10)


def _bars(document: dict[str, Any], row: dict[str, Any], axes: Any) -> None:
    """Draw a benchmark without sizes: one bar a contender."""
    reference = row["results"][_reference(document)]
    for number, name in enumerate(document["contenders"]):
        result = row["results"][name]
        if result:
            colour = _style(name, number)["color"]
            axes[0].bar(name, result["average"], color=colour)
            if len(axes) > 1 and reference:
                axes[1].bar(name, result["average"] / reference["average"], color=colour)
    for label in axes[-1].get_xticklabels():
        label.set(rotation=25, horizontalalignment="right")


def _style(name: str, number: int) -> dict[str, Any]:
    """Choose a style: native stands back in grey, the others differ in colour and marker."""
    if name == "native":
        return {"color": _NATIVE, "marker": "", "linestyle": "--", "linewidth": 1.6}
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.6}


def _reference(document: dict[str, Any]) -> str:
    names: list[str] = document["contenders"]
    return "native" if "native" in names else names[0]


def _series(rows: list[dict[str, Any]], name: str) -> Series:
    """List sizes and averages of a contender, where it ran."""
    found = [(row["size"], row["results"][name]["average"]) for row in rows if row["results"][name]]
    return [size for size, _ in found], [value for _, value in found]


def _ratios(rows: list[dict[str, Any]], name: str, reference: str) -> Series:
    both = [row for row in rows if row["results"][name] and row["results"][reference]]
    values = [row["results"][name]["average"] / row["results"][reference]["average"] for row in both]
    return [row["size"] for row in both], values


def _title(document: dict[str, Any]) -> str:
    machine, versions = document["machine"], document["versions"]
    nodes = f"{machine['nodes']} node{'s' if machine['nodes'] != 1 else ''}"
    return (
        f"{document['benchmark']}: {machine['ranks']} ranks on {nodes}, {machine['cpu']}\n"
        f"{versions['mpi_library']}, topocomm {versions['topocomm']}, {document.get('date', '')[:10]}"
    )


# --- explain ----------------------------------------------------------------------------------------------------------


def draw_explanation(found: Explanation, choice: dict[str, Any], output: Path, root: int = 0) -> None:
    """Draw the time of every candidate, and what the pairs of outermost places carry."""
    shown = _shown(found, choice) if found.topology.levels and found.nbytes else []
    size = (6.4 + 4.2 * len(shown), 1.6 + 0.42 * max(6, len(found.candidates)))
    ranks, kind = found.topology.size, found.machine.kind
    title = f"{found.collective}, {found.nbytes:,} bytes on {ranks} ranks ({kind})"
    with _picture(output, title, 1, 1 + len(shown), figsize=size) as (figure, axes):
        _times(found, choice, axes[0, 0])
        if shown:
            _maps(found, shown, axes[0, 1:], figure, root)


def _shown(found: Explanation, choice: dict[str, Any]) -> list[str]:
    """Choose what would run (or the fastest), and the slowest beside it."""
    names = [c.algorithm for c in found.candidates]
    first = choice["algorithm"] if choice["algorithm"] in names else names[0]
    return list(dict.fromkeys([first, names[-1]]))[:_MAPS]


def _times(found: Explanation, choice: dict[str, Any], axis: Any) -> None:
    rows = list(reversed(found.candidates))
    names = [f"{c.algorithm} ◂" if c.algorithm == choice["algorithm"] else c.algorithm for c in rows]
    colours = [_TEXTBOOK if c.algorithm.startswith("textbook_") else _COLOURS[0] for c in rows]
    axis.barh(names, [c.seconds * 1e6 for c in rows], color=colours, height=0.65)
    if found.bound.seconds:
        at, colour = found.bound.seconds * 1e6, _COLOURS[1]
        axis.axvline(at, color=colour, linewidth=1.4)
        axis.text(at, 1.01, "bound", color=colour, transform=axis.get_xaxis_transform(), ha="center")
        _logarithmic(axis.xaxis, (1, 3), "{x:,g}")
    axis.set_xlabel("modelled time (µs)")


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


# --- simulate ---------------------------------------------------------------------------------------------------------


def draw_sweep(collective: str, points: list[SweepPoint], output: Path) -> None:
    """Draw time over bound against size, a panel a placement and order. Raises topocomm.Error for nothing to draw."""
    points = [p for p in points if p.nbytes and p.bound > 0]
    if not points:
        raise Error("nothing to draw: no size above 0 bytes, or one rank only")
    panels = list(dict.fromkeys((p.placement, p.order) for p in points))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    title, size = f"{collective} on {points[0].ranks} ranks, modelled", (1.5 + 4.5 * columns, 1 + 3.4 * rows)
    with _picture(output, title, rows, columns, sharey=True, figsize=size) as (figure, axes):
        for axis, panel in zip(axes.flat, panels, strict=False):
            _panel(axis, [p for p in points if (p.placement, p.order) == panel])
            axis.set_title(f"{Path(panel[0]).name}, {panel[1]}", fontsize=10)
        for axis in list(axes.flat)[len(panels) :]:
            axis.set_visible(False)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def _panel(axis: Any, points: list[SweepPoint]) -> None:
    sizes = [p.nbytes for p in points]
    for number, name in enumerate(points[0].seconds):
        line = ":" if name.startswith("textbook_") else "-"
        over = [p.seconds[name] / p.bound for p in points]
        axis.plot(sizes, over, label=name, **(_style(name, number) | {"markersize": 4, "linestyle": line}))
    axis.set_yscale("log")
    axis.grid(which="major", color="#dddddd", linewidth=0.6)
    _sizes(axis, sizes, "vector")
    axis.set_ylabel("time over bound")
