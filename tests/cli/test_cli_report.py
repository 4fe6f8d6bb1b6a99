"""The page of a comparison: what it says, that it needs nothing from elsewhere, that it is read back, and the check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from comparisons import part

from topocomm.cli import main
from topocomm.cli.report.document import Part, Row, Variant, read, write
from topocomm.cli.report.statistics import paired, quartiles

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")


def made(tmp_path: Path, *parts: Part) -> Path:
    """A page of these parts."""
    write(parts, tmp_path / "c.json")
    assert main(["report", str(tmp_path / "c.json"), "-o", str(tmp_path / "c.html")]) == 0
    return tmp_path / "c.html"


class Elements(HTMLParser):
    """All tags with attributes, and the text outside of data and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset", "onload", "onclick")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["script"], ["style"]):
            self.words += f"{data} "


def test_the_page_says_who_is_faster_and_how_it_was_measured(tmp_path: Path) -> None:
    words = Elements(made(tmp_path, part("cyclic"), part("block")).read_text()).words
    for said in (
        "topocomm beside MPICH 5.0.2",
        "up to 3.53× (allreduce of 1 MiB, cyclic)",
        "at worst 0.91× (alltoall of 8 B, cyclic)",
        "topocomm took 1.12 to 1.17 times the least time",
        "cyclic: ranks dealt out over the racks in turn",
        "MULTIPLE",
        "waiting ranks poll",
        "UCX_TLS=tcp,self",
        "python -m bench.compare --placement cyclic",
    ):
        assert said in words, said


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = made(tmp_path, part()).read_text()
    found = Elements(text)
    assert found.loads == []
    assert found.tags.count("script") == 1
    assert not set(found.tags) & {"link", "img", "iframe", "object", "embed"}
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    parts = [part("cyclic", settings="a </script><b> & 'quote'"), part("block", mpi="Open MPI 5.0.11")]
    page = made(tmp_path, *parts)
    assert read([page]) == parts
    assert "<b>" not in page.read_text()


def test_a_call_that_was_left_to_the_library_is_shown_as_such(tmp_path: Path) -> None:
    row = Row("bcast", 8, {"native": Variant((5.0,)), "auto": Variant((9.0,), algorithm="native")}, 1.0)
    words = Elements(made(tmp_path, part(rows=(row,))).read_text()).words
    assert "1 were left to the MPI library, and none was slower" in words
    assert "= MPI" in words


def test_what_varies_too_much_is_not_called_faster(tmp_path: Path) -> None:
    pairs = {"native": Variant((5.0, 9.0, 2.0, 5.0, 5.0)), "auto": Variant((3.0,) * 5)}
    words = Elements(made(tmp_path, part(rows=(Row("bcast", 8, pairs, 1.0),))).read_text()).words
    assert "0 were faster with topocomm, 1 varied too much to tell" in words
    assert " 1.67×? " in words


def test_several_libraries_are_shown_beside_the_best(tmp_path: Path) -> None:
    slow = Row("bcast", 8, {"native": Variant((8.0,)), "auto": Variant((2.0,))}, 1.0)
    fast = Row("bcast", 8, {"native": Variant((3.0,)), "auto": Variant((4.0,))}, 1.0)
    page = made(tmp_path, part(rows=(slow,)), part(rows=(fast,), mpi="Open MPI 5.0.11")).read_text()
    cells = re.findall(r'class="on \w\d">(.*?)<', page)
    assert cells == ["4.00×", "0.75×", "1.50×"]  # each beside its own library, then the best of either side


def test_a_result_of_bench_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ROOT / "bench" / "results" / "demo_allreduce_cyclic.json"
    assert main(["report", str(kept), "-o", str(tmp_path / "b.html"), "--check"]) == 0
    words = Elements((tmp_path / "b.html").read_text()).words
    assert "up to 3.02× (allreduce of 512 KiB" in words
    document = json.loads(kept.read_text())
    for row in document["rows"]:
        del row["bound_us"]  # as results of version 0.1.0 are
    (tmp_path / "old.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert main(["report", str(tmp_path / "old.json"), "-o", str(tmp_path / "b.html"), "--check"]) == 1
    assert capsys.readouterr().err.count("no bound, and no reason") == len(document["rows"])


BARE = Row("bcast", 8, {"auto": Variant((1.0,))}, 1.0)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, None),
        ({"command": ""}, "no command"),
        ({"rows": (BARE,)}, "no peer"),
        ({"rows": (Row("bcast", 8, {"native": Variant((1.0,))}, 1.0),)}, "nothing of topocomm's"),
        ({"rows": (Row("bcast", 8, {**BARE.variants, "native": Variant((1.0,))}),)}, "no bound, and no reason"),
        ({"rows": (Row("bcast", 8, {**BARE.variants, "native": Variant((1.0,))}, no_bound="one node"),)}, None),
    ],
)
def test_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], missing: str | None
) -> None:
    write([part(**changes)], tmp_path / "c.json")
    assert main(["report", str(tmp_path / "c.json"), "--check"]) == (missing is not None)
    shown = capsys.readouterr()
    assert (missing or "") in shown.err
    assert shown.out.endswith("0 problems\n") == (missing is None)


@pytest.mark.parametrize(
    ("content", "words", "reason"),
    [
        ("{", ["-o", "x.html"], "is not JSON"),
        ('{"format": "other"}', ["-o", "x.html"], "has format 'other'"),
        ('{"format": "topocomm-comparison", "version": 7}', ["-o", "x.html"], "has version 7"),
        ('{"format": "topocomm-comparison", "version": 1, "parts": [{}]}', ["-o", "x.html"], "is no whole"),
        ('{"format": "topocomm-comparison", "version": 1, "parts": []}', ["-o", "x.html"], "no measured row"),
        ("{}", ["-o", "x.pdf"], "must end in .html"),
        ("{}", [], "nothing to do"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: list[str], reason: str
) -> None:
    (tmp_path / "c.json").write_text(content)
    assert main(["report", str(tmp_path / "c.json"), *words]) == 2
    assert reason in capsys.readouterr().err


def test_ratios_are_taken_turn_by_turn_and_intervals_cover_the_median() -> None:
    found = paired([2.0, 4.0, 60.0, 2.2, 2.4, 2.6, 2.8], [1.0, 2.0, 30.0, 1.0, 1.0, 1.0, 1.0])
    assert found.median == 2.2  # the disturbed third turn divides out
    assert (found.low, found.high) == (2.0, 2.8)
    assert found.coverage == pytest.approx(1 - 2 / 2**7)
    many = paired(list(range(1, 21)), [1.0] * 20)
    assert (many.low, many.high) == (6, 15)  # the classical sign-test interval of 20
    assert many.coverage == pytest.approx(0.9586, abs=1e-4)
    assert paired([4.0], [2.0]).low is None
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(("scheme", "paper"), [("light", 0xFF), ("dark", 0x14)])
def test_a_browser_draws_the_page(tmp_path: Path, scheme: str, paper: int) -> None:
    page, picture = made(tmp_path, part("cyclic"), part("block")), tmp_path / "page.png"
    words = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    words += f" --disable-component-update --disable-sync --enable-logging=stderr --user-data-dir={tmp_path / 'home'}"
    words += f" --blink-settings=preferredColorScheme={int(scheme == 'light')} --window-size=1200,2000"
    command = [str(CHROMIUM), *words.split(), f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Refused to" not in done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = (pytest.importorskip("matplotlib.image").imread(picture)[:, :, :3] * 255).round().astype(int)
    assert pixels.shape == (2000, 1200, 3)
    assert pixels[0, 0, 0] == paper
    fastest = {"light": (0x0D, 0x4F, 0x86), "dark": (0x6D, 0xB8, 0xF2)}[scheme]
    assert (pixels == fastest).all(axis=2).sum() > 3000  # the cells of 3× and more: style and figures were applied
