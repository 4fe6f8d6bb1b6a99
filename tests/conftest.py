"""Skips that hide something fail the run: ``TESTS_REQUIRE`` names, separated by commas, words that no reason for a
skip may contain. ``.ci/run`` sets it to what must be there; without it, tests of what a machine lacks are skipped."""

from __future__ import annotations

import os
from collections import Counter

import pytest


def forbidden(reasons: list[str], words: str) -> dict[str, int]:
    """How often each reason came that contains one of the comma-separated words."""
    wanted = [word.strip().lower() for word in words.split(",") if word.strip()]
    return dict(Counter(r for r in reasons if any(word in r.lower() for word in wanted)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    words = os.environ.get("TESTS_REQUIRE", "")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not words or reporter is None:
        return
    found = forbidden([str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])], words)
    for reason, times in found.items():
        reporter.write_line(f"\nTESTS_REQUIRE={words}, but {times} were skipped: {reason}", red=True)
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
