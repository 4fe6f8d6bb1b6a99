"""Figures, table and plot of bench/studies/simgrid.py."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from bench.record import ROOT, keep

__all__ = ["Case", "cases", "plot", "report", "summary", "table"]

LEAST_BOUND = 1 << 20
"""The bound counts for vectors of at least this many bytes: below, latency decides, for which it is loose."""
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Case:
    """One machine, order, collective and size: simulated seconds of the choice, and of others by name."""

    machine: str
    order: str
    collective: str
    nbytes: int
    chosen: str
    seconds: float
    model: float
    bound: float
    peers: dict[str, float]
    rivals: dict[str, float]
    near: dict[str, float]
    failed: dict[str, str]

    @property
    def best(self) -> str:
        """The fastest of peers and rivals."""
        others = {**self.peers, **self.rivals}
        return min(others, key=others.__getitem__)

    @property
    def speedup(self) -> float:
        """How many times longer the fastest of the others takes."""
        return min([*self.peers.values(), *self.rivals.values()]) / self.seconds

    @property
    def over_bound(self) -> float:
        return self.seconds / self.bound

    @property
    def regret(self) -> float:
        """How much longer the choice takes than the best of our candidates that was simulated."""
        return self.seconds / min([self.seconds, *self.near.values()]) - 1

    def row(self) -> dict[str, Any]:
        """For JSON: times in microseconds."""

        def us(times: dict[str, float]) -> dict[str, float]:
            return {name: round(t * 1e6, 3) for name, t in times.items()}

        return {
            "machine": self.machine,
            "order": self.order,
            "collective": self.collective,
            "bytes": self.nbytes,
            "chosen": self.chosen,
            "us": round(self.seconds * 1e6, 3),
            "model_us": round(self.model * 1e6, 3),
            "bound_us": round(self.bound * 1e6, 3),
            "speedup": round(self.speedup, 4),
            "over": self.best,
            "simgrid_us": us(self.peers),
            "rivals_us": us(self.rivals),
            "other_candidates_us": us(self.near),
            "failed": self.failed,
        }


def cases(rows: Iterable[dict[str, Any]], rival: Callable[[str], bool]) -> list[Case]:
    """Rows of the cache as cases; those without our choice or without anybody to compare with are left out."""
    grouped: dict[tuple[str, str, str, int], dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        grouped[row["machine"], row["order"], row["collective"], row["bytes"]][row["who"]] = row
    out = []
    for key, found in grouped.items():
        model = found.pop("model", None)
        if model is None or found.get(model["chosen"], {}).get("seconds") is None:
            continue
        times = {who: row["seconds"] for who, row in found.items() if row["seconds"] is not None}
        failed = {who: row["why"] for who, row in found.items() if row["seconds"] is None}
        peers = {who.partition(":")[2]: t for who, t in times.items() if who.startswith("simgrid:")}
        rivals = {who: t for who, t in times.items() if rival(who)}
        near = {who: t for who, t in times.items() if not who.startswith("simgrid:") and not rival(who)}
        chosen = model["chosen"]
        if peers:
            out.append(Case(*key, chosen, near[chosen], model["seconds"], model["bound"], peers, rivals, near, failed))
    return out


def summary(found: Sequence[Case]) -> dict[str, Any]:
    """Figures over some cases."""
    large = [c for c in found if c.nbytes >= LEAST_BOUND]
    compared = [c for c in found if len(c.near) > 1]
    worst = min(found, key=lambda c: c.speedup)
    out: dict[str, Any] = {
        "cases": len(found),
        "geometric_mean_speedup": round(geometric_mean(c.speedup for c in found), 3),
        "geometric_mean_over_simgrid": round(geometric_mean(min(c.peers.values()) / c.seconds for c in found), 3),
        "worst": round(worst.speedup, 3),
        "worst_case": f"{worst.machine}, {worst.order}, {worst.collective}, {worst.nbytes} bytes: {worst.best}",
        "below_0.98": sum(c.speedup < 0.98 for c in found),
        "largest_error_of_model": round(max(abs(c.model / c.seconds - 1) for c in found), 4),
    }
    if large:
        out["mean_over_bound_from_1MiB"] = round(geometric_mean(c.over_bound for c in large), 3)
        out["within_1.25_from_1MiB"] = f"{sum(c.over_bound <= 1.25 for c in large)} of {len(large)}"
    if compared:
        out["mean_regret"] = round(fmean(c.regret for c in compared), 5)
        out["largest_regret"] = round(max(c.regret for c in compared), 4)
        out["cases_of_regret"] = len(compared)
    return out


def size_name(nbytes: int) -> str:
    return f"{nbytes >> 20} MiB" if nbytes >= 1 << 20 else f"{nbytes >> 10} KiB"


def table(found: Sequence[Case]) -> str:
    """Markdown: speed-up and time over bound of every case."""
    sizes = sorted({c.nbytes for c in found})
    by_key = {(c.machine, c.collective, c.order, c.nbytes): c for c in found}
    lines = ["| machine | collective | order | " + " | ".join(map(size_name, sizes)) + " |"]
    lines.append("| --- " * (3 + len(sizes)) + "|")
    for machine, collective, order in dict.fromkeys((c.machine, c.collective, c.order) for c in found):
        cells = []
        for size in sizes:
            case = by_key.get((machine, collective, order, size))
            text = f"{case.speedup:.2f} ({case.over_bound:.2f})" if case else ""
            cells.append(f"**{text}**" if case and case.speedup < 0.98 else text)
        lines.append(f"| {machine} | {collective} | {order} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found: Sequence[Case], path: Path) -> None:
    """Speed-up over size, one panel a machine and collective, one line an order."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    machines = list(dict.fromkeys(c.machine for c in found))
    collectives = list(dict.fromkeys(c.collective for c in found))
    figure, axes = plt.subplots(
        len(machines), len(collectives), figsize=(2.6 * len(collectives), 2.3 * len(machines)), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for axis, (machine, collective) in zip(axes.flat, [(m, c) for m in machines for c in collectives], strict=True):
        here = [c for c in found if (c.machine, c.collective) == (machine, collective)]
        for order in dict.fromkeys(c.order for c in here):
            line = sorted((c.nbytes, c.speedup) for c in here if c.order == order)
            axis.plot(*zip(*line, strict=True), marker="o", markersize=3, linewidth=1, label=order)
        axis.axhline(1, color="grey", linewidth=0.7)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_title(f"{collective}\n{machine.split(',')[0]}", fontsize=7)
        axis.tick_params(labelsize=6)
    axes[0][0].legend(fontsize=6)
    figure.supxlabel("bytes of the vector", fontsize=8)
    figure.supylabel("time of the fastest rival over ours", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def report(rows: list[dict[str, Any]], rival: Callable[[str], bool], name: str) -> None:
    """Keep the figures as bench/results/``name``.json and plot them, and print summary and table."""
    found = cases(rows, rival)
    machines = dict.fromkeys(c.machine for c in found)
    collectives = dict.fromkeys(c.collective for c in found)
    version = subprocess.run(["smpirun", "-version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    figures = {
        "command": "python -m bench.studies.simgrid ours --cache FILE; … peers --cache FILE; … keep --cache FILE",
        "simgrid": version,
        "summary": summary(found),
        "by_machine": {m: summary([c for c in found if c.machine == m]) for m in machines},
        "by_collective": {x: summary([c for c in found if c.collective == x]) for x in collectives},
        "by_order": {o: summary([c for c in found if c.order == o]) for o in dict.fromkeys(c.order for c in found)},
        "cases": [c.row() for c in found],
    }
    print(f"kept {keep(name, figures).name}")
    plot(found, DOCS / f"{name.removesuffix('_choice')}.png")
    print(
        figures["summary"], figures["by_order"], figures["by_machine"], figures["by_collective"], table(found), sep="\n"
    )
