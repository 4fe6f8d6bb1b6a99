"""The one progress bar: a bar on a terminal, lines elsewhere, nothing on other ranks."""

import pytest

from topocomm.cli.progress import Progress


def test_lines_elsewhere_than_on_a_terminal(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("topocomm.cli.progress.time.monotonic", lambda: now[0])
    progress, every = Progress("work"), Progress(seconds=0)
    for share in (0.1, 0.2, 0.9):
        progress(share)
        now[0] += 3
    progress.done()
    every(0.5, "1/2 one")
    every(1.0, "2/2 two")
    every.say("stopped")
    lines = ["work: 10%", "work: 90%", "1/2 one", "2/2 two", "stopped"]
    assert capsys.readouterr().err == "".join(f"topocomm: {line}\n" for line in lines)


def on_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    on_terminal(monkeypatch)
    progress = Progress("work")
    progress(0.5)
    progress(0.5)
    progress.done()
    half, full = "#" * 15 + "-" * 15, "#" * 30
    assert capsys.readouterr().err == f"\r\033[Kwork [{half}] 50%\r\033[Kwork [{full}] 100%\n"


def test_words_beside_the_bar_fit_into_the_line(capsys, monkeypatch):
    on_terminal(monkeypatch)
    progress = Progress()
    progress(0.5, "1/2 " + "word " * 20)
    progress.say("stopped")
    progress.end()
    bar = "#" * 15 + "-" * 15
    assert capsys.readouterr().err == f"\r\033[K[{bar}] 1/2 word word word word wo\ntopocomm: stopped\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_other_ranks_are_silent(capsys, monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    progress = Progress("work", shows=False, seconds=0)
    progress(0.5)
    progress.say("stopped")
    progress.done()
    assert capsys.readouterr().err == ""
