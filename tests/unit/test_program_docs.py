"""The example of docs/program.md prints what it shows."""

import doctest
from pathlib import Path


def test_the_example_runs():
    page = Path(__file__).parents[2] / "docs" / "program.md"
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (failed, tried) == (0, 4)
