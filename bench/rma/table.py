"""Prints the table of docs/notified-rma.md from the figures kept in bench/results/: nothing in it is typed by hand.

python -m bench.rma.table
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bench.record import RESULTS

LIBRARIES = {"mpich": "MPICH", "openmpi": "Open MPI", "impi": "Intel MPI"}
LINK = "10gbit"
UP_TO_64K = 1 << 16


def kept(name: str) -> dict[str, Any]:
    """The figures of one study."""
    figures: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return figures


def short(size: int) -> str:
    """Bytes as people write them."""
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


def in_c(name: str) -> Callable[[str], str]:
    """A ratio of bench/rma/core.py."""

    def cell(mpi: str) -> str:
        found = kept(f"rma_core_{mpi}")["median_of_runs"].get(name)
        return "absent" if found is None else f"{found:.2f}"

    return cell


def copy(mpi: str) -> str:
    """A plain copy of 1 MiB over the put of it."""
    return f"{kept(f'rma_core_{mpi}')['median_of_runs']['copy_per_put']['1048576']:.2f}"


def smallest(way: str, part: str) -> Callable[[str], str]:
    """The smallest ratio of a way from Python over the sizes of a part, and where it was."""

    def cell(mpi: str) -> str:
        found = kept(f"rma_put_latency_{mpi}")["smallest_ratio"].get(way)
        return f"{found[part][0]:.2f} ({short(found[part][1])})" if found else "absent"

    return cell


def one_way(mpi: str) -> str:
    """Microseconds of a put and of the library's message, 8 bytes, from Python."""
    us = kept(f"rma_put_latency_{mpi}")["rows"][0]["us"]
    return f"{us['notified']:.2f} · {us['send']:.2f}"


def in_turns(mpi: str) -> str:
    """The fastest library's message over the put under this one, all in turns, 8 bytes, from Python."""
    return f"{kept('rma_in_turns')['fastest_message_per_put'][mpi]:.2f}"


def over_tcp(small: bool) -> Callable[[str], str]:
    """The library's message over the put, smallest over the sizes below or from 64 KiB, and where."""

    def cell(mpi: str) -> str:
        some = [r for r in kept(f"rma_tcp_{mpi}_{LINK}")["rows"] if (r["size"] < UP_TO_64K) == small]
        low = min(some, key=lambda r: r["send_per_put"])
        return f"{low['send_per_put']:.2f} ({short(low['size'])})"

    return cell


def crossings(mpi: str) -> str:
    """Of a put, of the library's message; the largest over the sizes."""
    counts = kept(f"rma_tcp_{mpi}_{LINK}")["counts"]
    most = {way: max(c["crossings"] for c in counts if c["way"] == way) for way in ("notified", "send")}
    return f"{most['notified']:g} · {most['send']:g}"


def segments(mpi: str) -> str:
    """With data, for each transfer of 8 bytes."""
    counts = kept(f"rma_tcp_{mpi}_{LINK}")["counts"]
    found = {c["way"]: c["segments"] for c in counts if c["size"] == 8}
    return f"{found['notified']:g} · {found['send']:g}"


def rows() -> list[tuple[str, str, Callable[[str], str]]]:
    """Rows of the table: title, target, and how to find the figure."""
    table: list[tuple[str, str, Callable[[str], str]]] = [
        ("C, 8 bytes one way: put over a bare shared flag", "≤ 2.5", in_c("put_per_flag")),
        ("C, 8 bytes one way: MPI_Send/MPI_Recv over put", "> 1", in_c("send_per_put")),
        ("C, 8 bytes one way: MPIX_Put_notify over put", "", in_c("put_notify_per_put")),
        ("C, 1 MiB: plain copy over put", "≥ 0.9", copy),
        ("Python, 8 bytes one way, µs: put · Send/Recv", "", one_way),
        ("Python, 8 bytes, in turns: Send/Recv of the fastest of the three over put", "≥ 1", in_turns),
    ]
    names = {"send": "Send/Recv", "flag": "Put, flush, flag", "pscw": "PSCW", "fence": "fence",
             "put_notify": "MPIX_Put_notify"}  # fmt: skip
    for way, name in names.items():
        table.append((f"Python, {name} over put, smallest of 8 B … 64 KiB", "> 1", smallest(way, "to_64KiB")))
        table.append((f"Python, {name} over put, smallest of 128 KiB … 4 MiB", "≥ 1", smallest(way, "above")))
    for small, sizes in ((True, "8 B … 16 KiB"), (False, "64 KiB … 1 MiB")):
        table.append((f"TCP, {LINK}: Send/Recv over put, smallest of {sizes}", "≥ 1", over_tcp(small)))
    table.append(("TCP: crossings of the network per transfer: put · Send/Recv, most", "1", crossings))
    table.append(("TCP: segments with data per 8-byte transfer: put · Send/Recv", "1", segments))
    return table


def main() -> None:
    """Print the table, then the figures that have nothing to do with an MPI library."""
    print(f"| what | target | {' | '.join(LIBRARIES.values())} |\n| --- | --- |{' --- |' * len(LIBRARIES)}")
    for what, target, cell in rows():
        print(f"| {what} | {target} | {' | '.join(cell(mpi) for mpi in LIBRARIES)} |")
    print("\n| what | target | found |\n| --- | --- | --- |")
    for row in kept("rma_halo")["rows"]:
        found = row["segments_sent_per_neighbour_and_round"]
        target = "1" if row["mode"] == "unchecked" else "2"
        print(
            f"| steady halo exchange over TCP, {row['mode']}: segments per neighbour and round | {target} | {found:g} |"
        )
    for name, column, what, target in (
        ("rma_rails_40_40", "both_per_first", "two 40 Mbit/s interfaces over one", "≥ 1.9"),
        ("rma_rails_40_20", "both_per_second", "40 and 20 Mbit/s over the 20 alone", "≥ 2.8"),
    ):
        found = ", ".join(f"{r[column]:.2f} at {short(r['size'])}" for r in kept(name)["rows"])
        print(f"| {what} | {target} | {found} |")


if __name__ == "__main__":
    main()
