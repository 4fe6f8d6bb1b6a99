"""docs/add-a-transport.md lists the interface as csrc/core/transport.h has it."""

import re

from launching import ROOT

PAGE = (ROOT / "docs" / "add-a-transport.md").read_text()
HEADER = (ROOT / "csrc" / "core" / "transport.h").read_text()


def test_every_function_of_the_interface_is_explained() -> None:
    (struct,) = re.findall(r"struct tc_transport \{(.*?)\n\};", HEADER, flags=re.DOTALL)
    functions = re.findall(r"\(\*(\w+)\)", struct)
    assert len(functions) >= 10
    section = PAGE.partition("| function | called | promises |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == functions


def test_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:csrc|tests|topocomm|docs)/[\w./]+\.\w+)`", PAGE))
    assert len(named) >= 10
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
