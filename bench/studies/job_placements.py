"""Bytes between groups on all job placements of two real machines, one rank a node.

    python -m bench.studies.job_placements

For ranks in given, cyclic and random order: bytes between groups over the bound, and what the busiest directed pair of
groups carries, over the balanced load (n / G; allreduce 2 n / G) and over the least possible. Markdown tables go to
stdout, figures to ``bench/results/placements.json``, a plot to ``docs/placements.png``.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.record import ROOT, keep
from bench.studies.group_traffic import ALGORITHMS, COLLECTIVES, least_busiest, traffic
from topocomm.topology import Topology, reorder_ranks
from topocomm.topology.sites import tables

DATA = ROOT / "bench" / "placements"
PLOT = ROOT / "docs" / "placements.png"
ORDERS = ("given", "cyclic", "random:1")
LARGE = 64
"""Nodes from which the busiest pair is judged."""
TARGET = 1.15
MEASURES = ("over_bound", "busiest_over_balanced", "busiest_over_least")
AWARE = tuple(ALGORITHMS)[:2]


def _text(name: str) -> str:
    return gzip.decompress((DATA / f"{name}.tsv.gz").read_bytes()).decode()


def jobs() -> Iterator[tuple[str, Topology]]:
    """Machine and groups of every job."""
    nodes = {
        "leonardo": tables.parse_nodes(_text("leonardo_nodes"), "leonardo_nodes").nodes,
        "lumi": tables.parse_ranges(_text("lumi_groups"), "lumi_groups").nodes,
    }
    for machine, places in nodes.items():
        assert places is not None
        for job in tables.parse_jobs(_text(f"{machine}_jobs"), f"{machine}_jobs"):
            yield machine, Topology(("group",), [places[str(node)][:1] for node in job.nodes])


def measures(collective: str, algorithm: str, topology: Topology) -> tuple[float, ...]:
    """The three of MEASURES."""
    group = topology.places[:, 0]
    groups = int(group.max()) + 1
    blocks, vector = traffic(collective, algorithm, group)
    both = 2 if collective == "allreduce" else 1
    total, busiest = int(blocks.sum()), int(blocks.max()) / vector
    bound = both * (groups - 1) * vector
    exact = 1.0 if total == bound else total / bound
    return exact, busiest * groups / both, busiest / least_busiest(collective, group)


def study() -> list[dict[str, Any]]:
    """One row a machine (and both together), collective, algorithm and order, with the measures of all jobs."""
    rows: dict[tuple[str, str, str, str], list[tuple[float, ...]]] = {}
    for machine, given in jobs():
        for order in ORDERS:
            topology = reorder_ranks(given, order)
            for collective in COLLECTIVES:
                for algorithm in ALGORITHMS:
                    figures = (given.size, *measures(collective, algorithm, topology))
                    for where in (machine, "both"):
                        rows.setdefault((where, collective, algorithm, order), []).append(figures)
    return [_summary(key, np.array(values)) for key, values in rows.items()]


def _summary(key: tuple[str, str, str, str], values: np.ndarray) -> dict[str, Any]:
    large = values[values[:, 0] >= LARGE]
    out: dict[str, Any] = dict(zip(("machine", "collective", "algorithm", "order"), key, strict=True))
    out |= {"jobs": len(values), "large_jobs": len(large), "exact": int((values[:, 1] == 1).sum())}
    for i, name in enumerate(MEASURES, 1):
        chosen = values if name == "over_bound" else large
        out[name] = [round(float(q), 4) for q in np.percentile(chosen[:, i], range(0, 101, 5))]
        out[f"{name}_within"] = int((chosen[:, i] <= TARGET).sum())
    return out


def tables_of(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: a table for each collective, both machines."""
    for collective in COLLECTIVES:
        yield f"**{collective}** (median / worst)\n"
        yield f"| where | algorithm | bytes over bound | busiest pair over balanced | ≤ {TARGET} | over least |"
        yield "|---|---|--:|--:|--:|--:|"
        for row in rows:
            if row["collective"] == collective and row["machine"] != "both":
                over, balanced, least = (f"{row[m][10]:.2f} / {row[m][-1]:.2f}" for m in MEASURES)
                within = f"{row['busiest_over_balanced_within']} of {row['large_jobs']}"
                yield (
                    f"| {row['machine']}, {row['order'].partition(':')[0]} | {row['algorithm']} "
                    f"| {over} | {balanced} | {within} | {least} |"
                )
        yield ""


def plot(rows: list[dict[str, Any]]) -> None:
    """Distributions over jobs: bytes over the bound, and the busiest pair over the balanced load."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    titles = ("bytes between groups over the bound", f"busiest pair over balanced load, ≥ {LARGE} nodes")
    figure, axes = plt.subplots(len(COLLECTIVES), 2, figsize=(10, 9), layout="constrained", sharex="col")
    colours = dict(zip(ALGORITHMS, ("#0b6e4f", "#6bbf59", "#d1495b", "#edae49", "#66717e"), strict=True))
    styles = dict(zip(ORDERS, ("-", "--", ":"), strict=True))
    share = np.arange(0, 101, 5)
    for line, collective in zip(axes, COLLECTIVES, strict=True):
        for axis, measure, title in zip(line, MEASURES, titles, strict=False):
            for algorithm in ALGORITHMS:
                for order in ORDERS:
                    wanted = "both", collective, algorithm, order
                    row = next(r for r in rows if tuple(r.values())[:4] == wanted)
                    axis.plot(row[measure], share, styles[order], color=colours[algorithm], lw=1.4)
            axis.set_xscale("log")
            axis.set_title(f"{collective}: {title}", fontsize=10)
            axis.set_ylabel("% of jobs at most")
            axis.grid(alpha=0.3, which="both")
            axis.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    handles = [Line2D([], [], color=c, label=a) for a, c in colours.items()]
    handles += [Line2D([], [], color="k", ls=s, label=o.partition(":")[0]) for o, s in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=90)


def main() -> int:
    rows = study()
    print("\n".join(tables_of(rows)))
    aware = [row for row in rows if row["algorithm"] in AWARE and row["machine"] == "both"]
    exact, cases = sum(row["exact"] for row in aware), sum(row["jobs"] for row in aware)
    print(f"Topology-aware: exactly the bound in {exact} of {cases} cases.")
    for collective in COLLECTIVES:
        mine = [row for row in aware if row["collective"] == collective and row["algorithm"] == "direct"]
        large = sum(row["large_jobs"] for row in mine)
        for measure in MEASURES[1:]:
            within = sum(row[f"{measure}_within"] for row in mine)
            print(f"direct, {collective}: {measure} at most {TARGET} in {within} of {large} cases.")
    what = {"percentiles": "0 to 100 in steps of 5", "target": TARGET, "large": LARGE, "rows": rows}
    print(f"kept {keep('placements', what).relative_to(ROOT)}", file=sys.stderr)
    plot(rows)
    return 0 if exact == cases else 1


if __name__ == "__main__":
    sys.exit(main())
