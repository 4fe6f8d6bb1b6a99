"""``python -m topocomm plot``: a picture of what ``bench --json`` measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from topocomm.cli.bench.osu import BENCHMARKS
from topocomm.cli.bench.results import read
from topocomm.cli.console import launched_rank
from topocomm.errors import Error

__all__ = ["HELP", "KINDS", "add_arguments", "draw", "require_matplotlib", "run"]

HELP = "draw a result of bench --json: every algorithm, and its ratio to native"

KINDS = ("png", "pdf", "svg")
"""Pictures that can be written, by the end of the name."""

Series = tuple[list[int], list[float]]

_COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8d6a9f", "#e09f3e", "#3d405b", "#00a6a6", "#a44a3f")
_NATIVE_COLOUR = "#555555"
_MARKERS = "osD^vP*X"
_TICKS = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The result and the picture."""
    parser.add_argument("results", metavar="RESULTS.json", type=Path, help="what bench --json wrote")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="picture: .png, .pdf or .svg")


def run(args: argparse.Namespace) -> int:
    """Draw; 0. Raises topocomm.Error for a missing matplotlib, a file that is no result, or one without rows."""
    require_matplotlib()
    document = read(args.results)
    if not any(row["results"].get(name) for row in document["rows"] for name in document["contenders"]):
        raise Error(f"{args.results}: holds no measured row")
    if args.output.suffix[1:] not in KINDS:
        raise Error(f"{args.output}: the name must end in .{', .'.join(KINDS)}")
    if not args.output.parent.is_dir():
        raise Error(f"{args.output}: there is no directory {str(args.output.parent)!r}")
    if launched_rank() in (None, 0):
        draw(document, args.output)
        print(f"wrote {args.output}")
    return 0


def require_matplotlib() -> None:
    """Raises topocomm.Error where matplotlib is not installed."""
    if not find_spec("matplotlib"):
        raise Error("plots need matplotlib, which is not installed; pip install topocomm[plot]")


def draw(document: dict[str, Any], output: Path) -> None:
    """Draw a results document with at least one measured row; the name of `output` decides the kind of picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        types = list(dict.fromkeys(row["datatype"] for row in document["rows"]))
        ratios = len(document["contenders"]) > 1
        figure, axes = plt.subplots(
            2 if ratios else 1, len(types), squeeze=False, sharex="col", sharey="row", layout="constrained",
            figsize=(1.5 + 5.5 * len(types), 6.2 if ratios else 4.4),
            height_ratios=[2.2, 1] if ratios else [1],
        )  # fmt: skip
        for column, datatype in enumerate(types):
            _column(document, datatype, axes[:, column], len(types) > 1)
        axes[0, 0].set_ylabel(BENCHMARKS[document["benchmark"]].metric.replace("(us)", " (µs)").replace("  ", " "))
        if ratios:
            axes[1, 0].set_ylabel(f"ratio to {_reference(document)}")
        if document["benchmark"] != "barrier":
            axes[0, 0].legend(frameon=False, fontsize=9)
        figure.suptitle(_title(document), fontsize=11)
        figure.savefig(output, dpi=150)
        plt.close(figure)


def _column(document: dict[str, Any], datatype: str, axes: Any, named: bool) -> None:
    """One data type: values above, ratios below."""
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
        _logarithmic(panel, steps)
    _sizes(axes[-1], [row["size"] for row in rows])
    if named:
        axes[0].set_title(datatype, fontsize=10)


def _logarithmic(panel: Any, steps: Sequence[float]) -> None:
    """A vertical axis with plain numbers at these steps of every decade."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    panel.set_yscale("log")
    panel.minorticks_off()
    panel.yaxis.set_major_locator(LogLocator(subs=steps))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.grid(which="major", color="#dddddd", linewidth=0.6)


def _sizes(panel: Any, sizes: list[int]) -> None:
    """The horizontal axis: at most `_TICKS` of the measured sizes are named."""
    from matplotlib.ticker import NullLocator

    panel.set_xscale("log", base=2)
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    panel.set_xticks(sizes[:: -(-len(sizes) // _TICKS)])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(_bytes)
    panel.set_xlabel("message size")


def _bars(document: dict[str, Any], row: dict[str, Any], axes: Any) -> None:
    """A benchmark without sizes: one bar a contender."""
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
    """Native stands back in grey; the others differ in colour and marker."""
    if name == "native":
        return {"color": _NATIVE_COLOUR, "marker": "", "linestyle": "--", "linewidth": 1.6}
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.6}


def _reference(document: dict[str, Any]) -> str:
    names: list[str] = document["contenders"]
    return "native" if "native" in names else names[0]


def _series(rows: list[dict[str, Any]], name: str) -> Series:
    """Sizes and averages of a contender, where it ran."""
    found = [(row["size"], row["results"][name]["average"]) for row in rows if row["results"][name]]
    return [size for size, _ in found], [value for _, value in found]


def _ratios(rows: list[dict[str, Any]], name: str, reference: str) -> Series:
    both = [row for row in rows if row["results"][name] and row["results"][reference]]
    values = [row["results"][name]["average"] / row["results"][reference]["average"] for row in both]
    return [row["size"] for row in both], values


def _bytes(size: float, _position: int) -> str:
    """A tick of the size axis: 512 B, 4 KiB, 1 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:g} {unit}"
        size /= 1024
    return f"{size:g} GiB"


def _title(document: dict[str, Any]) -> str:
    machine, versions = document["machine"], document["versions"]
    nodes = f"{machine['nodes']} node{'s' if machine['nodes'] != 1 else ''}"
    return (
        f"{document['benchmark']}: {machine['ranks']} ranks on {nodes}, {machine['cpu']}\n"
        f"{versions['mpi_library']}, topocomm {versions['topocomm']}, {document.get('date', '')[:10]}"
    )
