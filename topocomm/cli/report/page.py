"""The page: one HTML file that shows itself, without scripts, fonts or anything from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from topocomm.cli.report import figures
from topocomm.cli.report.document import DATA_END, DATA_START, NATIVE, Part, Row, dumps
from topocomm.cli.report.statistics import median, paired, quartiles
from topocomm.cli.report.style import STYLE
from topocomm.cli.report.words import Case, cases, libraries, size_words, time_words, times_words

__all__ = ["page"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_PLACEMENTS = {
    "block": "neighbouring ranks share a rack",
    "cyclic": "ranks dealt out over the racks in turn, as many batch systems do",
    "random": "ranks shuffled, as in a job that got whatever nodes were free",
}


def page(parts: Sequence[Part]) -> str:
    """Write the page of a comparison with at least one row."""
    title = f"topocomm beside {' and '.join(libraries(parts))}"
    data = dumps(parts).replace("<", "\\u003c")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"{''.join(_sections(parts))}</main>{DATA_START}{data}{DATA_END}</body></html>\n"
    )


def _sections(parts: Sequence[Part]) -> Iterator[str]:
    yield f'<p class="lead">{escape(_verdict(list(cases(parts))))}</p>'
    yield _introduction(parts)
    yield _section("Is it faster?", _FASTER, _scale() + _grid(figures.heat_maps(parts)))
    if len(libraries(parts)) > 1:
        yield _section("And beside the best library of all?", _BEST, _scale() + _grid(figures.best_maps(parts)))
    near = figures.nearness(parts)
    if near:
        yield _section("How near is it to what the links can do?", _NEAR, _legend(parts) + _grid(near))
    lines = figures.curves(parts)
    if lines:
        yield _section("Time over size", _CURVES, _legend(parts, bound=True) + _grid(lines))
    crossed = figures.uplinks(parts)
    if crossed:
        yield _section("Why: bytes over the links between racks", _CROSSED, _legend(parts, bound=True) + _grid(crossed))
    yield _section("All figures", _TABLES, "".join(map(_table, parts)))
    yield _section("How it was measured", "", "".join(map(_provenance, _distinct(parts))))


_FASTER = (
    "Each cell says how many times as fast topocomm's call is as the MPI library's own, the median of ratios taken in "
    "turns in one run: 2× is half the time, below 1 topocomm is slower. “= MPI” means that topocomm left the call to "
    "the MPI library, because no schedule of its own promised to be faster; “?” that the samples vary too much to tell."
)
_BEST = (
    "The fastest library's own call over topocomm's time under the library where topocomm is fastest. The libraries "
    "ran one after the other, so these ratios are less certain than those above."
)
_NEAR = (
    "Some bytes must cross some link, whatever the algorithm. That least number of bytes at the link's full rate is "
    "the bound, 100 %; packet headers and start-up are not counted, so nobody reaches it quite."
)
_CURVES = (
    "Both axes are logarithmic; lower is better. Lines are medians of the slowest rank, bands run from the first to "
    "the third quartile. In the shaded area no algorithm can be."
)
_CROSSED = (
    "Counted by the switches of the emulated cluster in one call, so they do not depend on how busy the machine was. "
    "The line marks the least that must cross."
)
_TABLES = (
    "Medians of the slowest rank, quartiles in brackets. The ratio is the MPI library's time over topocomm's; behind "
    "it an interval that holds the true median with the probability given."
)


def _section(title: str, words: str, content: str) -> str:
    said = f"<p>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{said}{content}</section>"


def _grid(content: str) -> str:
    return f'<div class="grid">{content}</div>'


# --- words ------------------------------------------------------------------------------------------------------------


def _verdict(found: Sequence[Case]) -> str:
    """Say in a sentence or three who won, by how much, where it was lost, and how near to the bound."""
    if not found:
        return "Nothing was measured on both sides, so there is nothing to compare."
    count = Counter(case.verdict for case in found)
    ours = [case for case in found if not case.left_native]
    said = f"Of {len(found)} calls, {count['faster']} were faster with topocomm"
    if count["faster"]:
        best = max((case for case in ours if case.verdict == "faster"), key=lambda case: case.speed.median)
        said += f", up to {times_words(best.speed.median)} ({best.name})"
    others = {
        "alike": "took as long within 5 %",
        "native": "were left to the MPI library",
        "unclear": "varied too much to tell",
    }
    said += "".join(f", {count[kind]} {words}" for kind, words in others.items() if count[kind])
    said += f", and {count['slower'] or 'none'} {'was' if count['slower'] < 2 else 'were'} slower"
    if count["slower"]:
        worst = min((case for case in ours if case.verdict == "slower"), key=lambda case: case.speed.median)
        said += f", at worst {times_words(worst.speed.median)} ({worst.name})"
    return f"{said}.{_near_words(found)}"


def _near_words(found: Sequence[Case]) -> str:
    most = max(case.row.size for case in found)
    largest = [case for case in found if case.row.size == most and case.row.bound_us]
    if not largest:
        return ""
    mine = sorted(case.over_bound(case.ours) or 0 for case in largest)
    theirs = sorted(case.over_bound(case.native) or 0 for case in largest)
    return (
        f" At {size_words(most)}, topocomm took {mine[0]:.2f} to {mine[-1]:.2f} times the least time that the links "
        f"allow, the MPI library's own calls {theirs[0]:.2f} to {theirs[-1]:.2f} times."
    )


def _introduction(parts: Sequence[Part]) -> str:
    titles = dict.fromkeys(part.place.title for part in parts)
    kinds = dict.fromkeys(part.place.placement for part in parts)
    known = [f"{kind}: {_PLACEMENTS[word]}" for kind in kinds if (word := kind.partition(":")[0]) in _PLACEMENTS]
    said = [
        f"Measured on {'; '.join(titles)}.",
        "A collective is one call that all ranks (processes) make together, such as summing a vector over all of them "
        "(allreduce). topocomm computes who sends what to whom from where the ranks sit; the MPI library does not.",
        f"Placements: {'; '.join(known)}." if known else "",
    ]
    return f"<p>{escape(' '.join(filter(None, said)))}</p>"


def _legend(parts: Sequence[Part], bound: bool = False) -> str:
    row = next(row for part in parts for row in part.rows)
    names = dict.fromkeys(name for part in parts for one in part.rows for name in one.variants)
    keys = [f'<span class="key {figures.style_of(n, row) if n in row.variants else "v4"}"></span>{escape(_label(n))}'
            for n in names]  # fmt: skip
    keys += ['<span class="key limit"></span>the bound'] if bound else []
    return f'<p class="legend">{" ".join(f"<span>{key}</span>" for key in keys)}</p>'


def _label(name: str) -> str:
    if name == NATIVE:
        return "MPI library's own call"
    kind, _, engine = name.partition("@")
    said = "topocomm" if kind == "auto" else f"topocomm, {kind}"
    return f"{said}, engine {engine}" if engine else said


_SCALE = {
    "s3": "below 0.5×", "s2": "below 0.7×", "s1": "below 0.95×: slower", "f0": "within 5 %",
    "f1": "from 1.05×: faster", "f2": "1.4×", "f3": "2×", "f4": "3× and more",
}  # fmt: skip


def _scale() -> str:
    keys = "".join(f'<span><span class="key cell {kind}"></span>{words}</span>' for kind, words in _SCALE.items())
    return f'<p class="legend">{keys}</p>'


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(part: Part) -> str:
    """Write one part as a table that opens on a click."""
    names = list(dict.fromkeys(name for row in part.rows for name in row.variants))
    heads = ["collective", "size", *map(_label, names), "ratio", "algorithm", "bound", "over bound", "samples × calls"]
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(row, names))}</tr>" for row in part.rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _details(part, f'<div class="wide">{table}</div>', "open")


def _details(part: Part, content: str, state: str = "") -> str:
    title = escape(f"{part.mpi}, {part.place.placement}")
    return f"<details {state}><summary>{title}</summary>{content}</details>"


def _cells(row: Row, names: Sequence[str]) -> Iterator[str]:
    yield from (row.collective, size_words(row.size))
    for name in names:
        one = row.variants.get(name)
        yield "n/a" if one is None else time_words(median(one.samples_us)) + _spread(one.samples_us)
    ours = row.variants[row.ours] if row.ours else None
    native = row.variants.get(NATIVE)
    yield _ratio(row) if ours and native else "n/a"
    yield ours.algorithm if ours else ""
    yield time_words(row.bound_us) if row.bound_us else row.no_bound or "not given"
    yield f"{median(ours.samples_us) / row.bound_us:.2f}" if ours and row.bound_us else ""
    yield ", ".join(dict.fromkeys(f"{len(one.samples_us)} × {one.calls_per_sample}" for one in row.variants.values()))


def _spread(samples: Sequence[float]) -> str:
    if len(samples) == 1:
        return ""
    first, third = quartiles(samples)
    return f" [{time_words(first)}, {time_words(third)}]"


def _ratio(row: Row) -> str:
    found = paired(row.variants[NATIVE].samples_us, row.variants[row.ours or NATIVE].samples_us)
    if found.low is None:
        return times_words(found.median)
    return f"{times_words(found.median)} ({found.low:.2f}–{found.high:.2f}, {found.coverage:.0%})"


def _distinct(parts: Sequence[Part]) -> list[Part]:
    return list({(part.mpi, part.place.title, part.place.placement): part for part in parts}.values())


def _provenance(part: Part) -> str:
    facts = {
        "MPI library": part.mpi,
        "Settings": part.settings or "as installed",
        "Thread level": part.thread_level or "not recorded",
        "Waiting": part.waiting or "not recorded",
        "Machine": ", ".join(f"{key} {value}" for key, value in part.machine.items()),
        "Ranks": f"{part.place.title}; {part.place.detail or part.place.placement}",
        "Versions": ", ".join(f"{key} {value}" for key, value in part.versions.items()),
        "Date": part.date,
        "Command": part.command,
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items() if value)
    return _details(part, f'<table class="facts">{rows}</table>')
