"""The figures of a page: who is faster, how near to the links' limit, time over size, bytes over uplinks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from math import ceil, floor, log10

from topocomm.cli.report.document import NATIVE, Part, Row, Variant
from topocomm.cli.report.statistics import median, quartiles
from topocomm.cli.report.svg import Drawing, Scale
from topocomm.cli.report.words import Case, cases, libraries, size_words, time_words, times_words

__all__ = ["best_maps", "curves", "heat_maps", "nearness", "style_of", "uplinks"]

_CELL, _ROW, _NAMES = 62, 30, 150
_STEPS = ((3, "f4"), (2, "f3"), (1.4, "f2"), (1.05, "f1"), (0.95, "f0"), (0.7, "s1"), (0.5, "s2"), (0, "s3"))


def _panel(title: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>"


def style_of(name: str, row: Row) -> str:
    """Choose the class of a variant's colour: grey for the MPI library, the others in turn."""
    ours = [other for other in row.variants if other != NATIVE]
    return "v0" if name == NATIVE else f"v{1 + ours.index(name) % 4}"


# --- who is faster ----------------------------------------------------------------------------------------------------


def heat_maps(parts: Sequence[Part]) -> str:
    """Draw collectives × sizes for every placement and library: how many times as fast topocomm is, in each cell."""
    return "".join(_panel(title, _heat(found)) for title, found in _groups(parts))


def best_maps(parts: Sequence[Part]) -> str:
    """Draw the same for every placement, with the best library's own call over topocomm under its best library."""
    return "".join(_panel(title, _heat(_best(found))) for title, found in _groups(parts, apart=False))


def _groups(parts: Sequence[Part], apart: bool = True) -> Iterator[tuple[str, list[Case]]]:
    """Yield the cases that a panel shows, with its title: those of a machine, placement and (`apart`) MPI library."""
    machines, kinds = len({p.place.title for p in parts}) > 1, len(libraries(parts)) > 1 and apart
    groups: dict[str, list[Case]] = {}
    for case in cases(parts):
        place = case.part.place
        title = f"{place.title}: {place.placement}" if machines else place.placement
        groups.setdefault(f"{title}, {case.part.mpi}" if kinds else title, []).append(case)
    yield from groups.items()


def _best(found: Sequence[Case]) -> list[Case]:
    """Join the cases of several libraries: one for each collective and size, with the fastest of either side."""
    calls: dict[tuple[str, int], list[Case]] = {}
    for case in found:
        calls.setdefault((case.row.collective, case.row.size), []).append(case)
    joined = []
    for alike in calls.values():
        native = min(alike, key=lambda case: median(case.native.samples_us))
        ours = min(alike, key=lambda case: median(case.ours.samples_us))
        part = replace(native.part, mpi=f"{native.part.mpi} against topocomm under {ours.part.mpi}")
        one, other = (Variant((median(v.samples_us),), algorithm=v.algorithm) for v in (native.native, ours.ours))
        joined.append(Case(part, native.row, one, other))
    return joined


def _heat(found: Sequence[Case]) -> str:
    names = list(dict.fromkeys(case.row.collective for case in found))
    sizes = sorted({case.row.size for case in found})
    width, height = _NAMES + _CELL * len(sizes), _ROW * (len(names) + 1)
    drawing = Drawing(width, height, "times as fast as the MPI library, by collective and size")
    for column, size in enumerate(sizes):
        drawing.text(_NAMES + _CELL * (column + 0.5), 18, size_words(size), "small", "middle")
    for line, name in enumerate(names):
        drawing.text(_NAMES - 8, _ROW * (line + 1) + 19, name, "", "end")
    for case in found:
        x, y = _NAMES + _CELL * sizes.index(case.row.size), _ROW * (names.index(case.row.collective) + 1)
        speed, verdict = case.speed.median, case.verdict
        plain = verdict in ("native", "unclear")
        kind = "f0" if plain else next(name for least, name in _STEPS if speed >= least)
        drawing.rect(x + 1, y + 1, _CELL - 2, _ROW - 2, f"cell {kind}", _heat_hint(case))
        words = "= MPI" if verdict == "native" else f"{times_words(speed)}?" if plain else times_words(speed)
        drawing.text(x + _CELL / 2, y + 19, words, f"on {kind}", "middle")
    return drawing.done()


def _heat_hint(case: Case) -> str:
    times = f"{time_words(median(case.native.samples_us))} by {case.part.mpi}"
    return f"{case.name}: {times}, {time_words(median(case.ours.samples_us))} by topocomm ({case.ours.algorithm})"


# --- how near to the limit --------------------------------------------------------------------------------------------


def nearness(parts: Sequence[Part]) -> str:
    """Draw, for the largest size of every collective, the share of the links' speed that each side reaches."""
    found = []
    for title, all_here in _groups(parts):
        here = [case for case in all_here if case.row.bound_us]
        if here:
            found.append(_panel(f"{title}, {_largest_words(here)}", _bars(_largest(here))))
    return "".join(found)


def _largest(found: Sequence[Case]) -> list[Case]:
    most = {case.row.collective: case.row.size for case in sorted(found, key=lambda case: case.row.size)}
    return [case for case in found if case.row.size == most[case.row.collective]]


def _largest_words(found: Sequence[Case]) -> str:
    return ", ".join(dict.fromkeys(size_words(case.row.size) for case in _largest(found)))


def _bars(found: Sequence[Case]) -> str:
    thin, full, top = 13, 260.0, 20
    height = top + sum(thin * len(case.row.variants) + 12 for case in found)
    drawing = Drawing(_NAMES + full + 50, height, "share of the links' speed that is reached, in percent")
    drawing.text(_NAMES + full, 12, "limit of the links", "small limit", "end")
    y = float(top)
    for case in found:
        drawing.text(_NAMES - 8, y + thin * len(case.row.variants) / 2 + 4, case.row.collective, "", "end")
        for name, variant in case.row.variants.items():
            over = case.over_bound(variant) or 1.0
            hint = f"{case.part.mpi if name == NATIVE else name}: {over:.2f} times the bound"
            drawing.rect(_NAMES, y, full, thin - 2, "track")
            drawing.rect(_NAMES, y, min(full / over, full), thin - 2, style_of(name, case.row), hint)
            drawing.text(_NAMES + full + 6, y + 10, f"{100 / over:.0f} %", "small")
            y += thin
        y += 12
    drawing.line([(_NAMES + full, 16), (_NAMES + full, height)], "bound")
    return drawing.done()


# --- time over size ---------------------------------------------------------------------------------------------------

_WIDE, _HIGH, _LEFT, _BOTTOM = 300, 200, 58, 34


def curves(parts: Sequence[Part]) -> str:
    """Draw time over size for every collective and placement; the band is from quartile to quartile."""
    found = []
    for part in parts:
        for name in dict.fromkeys(row.collective for row in part.rows):
            rows = sorted((row for row in part.rows if row.collective == name), key=lambda row: row.size)
            if len(rows) > 1:
                found.append(_panel(f"{name}, {part.place.placement}, {part.mpi}", _curve(rows)))
    return "".join(found)


def _curve(rows: Sequence[Row]) -> str:
    values = [
        v for row in rows for one in row.variants.values() for v in (median(one.samples_us), *quartiles(one.samples_us))
    ]
    low, high = min([*values, *(row.bound_us for row in rows if row.bound_us)]), max(values)
    low = max(low, min(values) / 30)
    across = Scale(rows[0].size, rows[-1].size, _LEFT, _WIDE - 10)
    down = Scale(low / 1.3, high * 1.2, _HIGH - _BOTTOM, 8)
    drawing = Drawing(_WIDE, _HIGH, "time over message size, both logarithmic")
    for power in range(ceil(log10(low / 1.3)), floor(log10(high * 1.2)) + 1):
        drawing.line([(_LEFT, down(10**power)), (_WIDE - 10, down(10**power))], "grid")
        drawing.text(_LEFT - 6, down(10**power) + 4, time_words(10.0**power), "small", "end")
    for row in rows[:: -(-len(rows) // 4)]:
        drawing.text(across(row.size), _HIGH - _BOTTOM + 18, size_words(row.size), "small", "middle")
    bounds = [(across(row.size), down(max(row.bound_us, low / 1.3))) for row in rows if row.bound_us]
    if len(bounds) > 1:
        floor_y = _HIGH - _BOTTOM
        drawing.area([*bounds, (bounds[-1][0], floor_y), (bounds[0][0], floor_y)], "never")
        drawing.line(bounds, "bound")
    for name in dict.fromkeys(name for row in rows for name in row.variants):
        _series(drawing, name, [row for row in rows if name in row.variants], across, down)
    return drawing.done()


def _series(drawing: Drawing, name: str, rows: Sequence[Row], across: Scale, down: Scale) -> None:
    kind = style_of(name, rows[0])
    found: list[tuple[Row, Variant]] = [(row, row.variants[name]) for row in rows]
    upper = [(across(row.size), down(quartiles(one.samples_us)[1])) for row, one in found]
    lower = [(across(row.size), down(quartiles(one.samples_us)[0])) for row, one in found]
    drawing.area([*upper, *reversed(lower)], f"band {kind}")
    drawing.line([(across(row.size), down(median(one.samples_us))) for row, one in found], f"curve {kind}")
    for row, one in found:
        hint = f"{name}, {size_words(row.size)}: {time_words(median(one.samples_us))}"
        drawing.dot(across(row.size), down(median(one.samples_us)), kind, hint)


# --- what crosses -----------------------------------------------------------------------------------------------------


def uplinks(parts: Sequence[Part]) -> str:
    """Draw the bytes that left all racks in one call of the largest size; empty where nothing was counted."""
    found = []
    for title, all_here in _groups(parts):
        here = [case for case in all_here if case.ours.uplink_bytes is not None]
        if here:
            found.append(_panel(f"{title}, {_largest_words(here)}", _crossings(_largest(here))))
    return "".join(found)


def _crossings(found: Sequence[Case]) -> str:
    thin, full = 13, 220.0
    most = max(seen for case in found for seen in _seen(case))
    drawing = Drawing(_NAMES + full + 100, sum(thin * len(case.row.variants) + 12 for case in found),
                      "bytes over all uplinks in one call")  # fmt: skip
    y = 0.0
    for case in found:
        drawing.text(_NAMES - 8, y + thin * len(case.row.variants) / 2 + 4, case.row.collective, "", "end")
        start = y
        for name, variant in case.row.variants.items():
            crossed = variant.uplink_bytes or 0
            drawing.rect(
                _NAMES, y, full * crossed / most, thin - 2, style_of(name, case.row), f"{name}: {crossed} bytes"
            )
            drawing.text(_NAMES + full * crossed / most + 5, y + 10, f"{crossed / 1e6:.3g} MB", "small")
            y += thin
        if case.row.uplink_bound:
            x = _NAMES + full * case.row.uplink_bound / most
            drawing.line([(x, start - 2), (x, y)], "bound")
        y += 12
    return drawing.done()


def _seen(case: Case) -> Iterator[float]:
    yield from (variant.uplink_bytes or 1 for variant in case.row.variants.values())
    yield case.row.uplink_bound or 1
