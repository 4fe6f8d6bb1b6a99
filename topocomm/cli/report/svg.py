"""Drawings as text: a small set of SVG elements with coordinates in pixels; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

__all__ = ["Drawing", "Scale"]

Point = tuple[float, float]


class Scale:
    """A logarithmic axis: values from `low` to `high` onto pixels from `start` to `stop`."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._start = log10(low), start
        self._step = (stop - start) / max(log10(high) - self._low, 1e-9)

    def __call__(self, value: float) -> float:
        return self._start + (log10(value) - self._low) * self._step


class Drawing:
    """One figure in the making; `label` says in words what it shows, for readers who do not see it."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self._size = (width, height)
        self._parts = [f"<title>{escape(label)}</title>"]

    def rect(self, x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> None:
        """Add a rectangle; `hint` shows when the pointer rests on it."""
        shape = f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" rx="2"'
        self._parts.append(f"{shape}><title>{escape(hint)}</title></rect>" if hint else f"{shape}/>")

    def line(self, points: Sequence[Point], kind: str) -> None:
        """Add a line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def area(self, points: Sequence[Point], kind: str) -> None:
        """Add a filled area with these corners."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polygon class="{kind}" points="{path}"/>')

    def dot(self, x: float, y: float, kind: str, hint: str) -> None:
        """Add a dot with a hint."""
        self._parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(hint)}</title></circle>'
        )

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Add words at a point; `anchor` is start, middle or end."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'
        )

    def done(self) -> str:
        """Return the element."""
        width, height = self._size
        head = f'<svg role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
        return f"{head}{''.join(self._parts)}</svg>"
