"""Skips that hide something fail the run: ``TESTS_REQUIRE`` names, separated by commas, words that no reason for a
skip may contain. ``.ci/run`` sets it to what must be there; without it, tests of what a machine lacks are skipped.

Ranks take turns quickly, see `take_short_slices`."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections import Counter

import pytest

SLICE_NS = 100_000
"""Length of a turn on a core, the shortest that Linux grants."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


def take_short_slices() -> None:
    """Let this process and all that it starts run for at most `SLICE_NS` before others have a turn.

    A job of more ranks than cores waits most of its time for the rank that has something to do while others, which poll
    or compute, use up their turns of about 3 ms. Linux lets a process shorten its own since 6.12; elsewhere nothing
    changes but the time that tests take.
    """
    call = _SCHED_SETATTR.get(platform.machine())
    if platform.system() == "Linux" and call is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0)
        ctypes.CDLL(None).syscall(call, 0, attributes, 0)


def pytest_configure() -> None:
    take_short_slices()


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
