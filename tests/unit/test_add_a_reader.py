"""The example of docs/add-a-site-reader.md: its reader, its line of FORMATS and its tests, run as they stand there."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from test_sites_formats import SAMPLES

from topocomm.errors import TopologyError
from topocomm.topology import sites

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-site-reader.md").read_text()
READER, LINE, TESTS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
MODULE = "topocomm.topology.sites.floorplan"


@pytest.fixture
def floorplan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the reader as the page says."""
    path = tmp_path / "floorplan.py"
    path.write_text(READER)
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, MODULE, module)
    spec.loader.exec_module(module)
    entry = eval("{" + LINE + "}", {"Format": sites.Format, "floorplan": module})
    formats = dict(sites.FORMATS)
    pattern = formats.pop("pattern")
    monkeypatch.setattr(sites, "FORMATS", {**formats, **entry, "pattern": pattern})
    return module


@pytest.fixture
def page(floorplan: Any) -> dict[str, Any]:
    """Return the names that the page's tests define."""
    names: dict[str, Any] = {"pytest": pytest, "parse_site": sites.parse_site, "TopologyError": TopologyError}
    exec(TESTS, names)
    return names


def test_the_file_on_the_page_is_the_sample_of_its_tests(page: dict[str, Any]) -> None:
    (shown,) = re.findall(r"^    (floorplan 1\n(?:    .*\n)+)", PAGE, flags=re.MULTILINE)
    assert shown.replace("\n    ", "\n") == page["SAMPLE"]


def test_places_hosts(page: dict[str, Any]) -> None:
    page["test_places_hosts"]()


def test_refuses(page: dict[str, Any]) -> None:
    test = page["test_refuses"]
    (mark,) = test.pytestmark
    assert len(mark.args[1]) == 4
    for text, reason in mark.args[1]:
        test(text, reason)


def test_no_format_takes_the_file_of_another(page: dict[str, Any], floorplan: Any) -> None:
    assert [name for name, entry in sites.FORMATS.items() if entry.looks(page["SAMPLE"]) is None] == ["floorplan"]
    assert [name for name, text in SAMPLES.items() if floorplan.looks(text) is None] == []
