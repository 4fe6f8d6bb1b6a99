"""The facts about collectives stand in one table, and nowhere else."""

import ast
from pathlib import Path

import pytest

import topocomm
from topocomm import AlgorithmError
from topocomm.collectives import COLLECTIVES, PREFIXES, REDUCING, ROOTED, find_collective

ROOT = Path(topocomm.__path__[0])
FACTS = {
    frozenset(ROOTED),
    frozenset(REDUCING),
    frozenset(name for name, record in COLLECTIVES.items() if record.blocks),
    frozenset(name for name, record in COLLECTIVES.items() if record.counts_block),
    frozenset(name for name, record in COLLECTIVES.items() if record.blocks and not record.reduces),
}


def retyped(text: str) -> list[int]:
    """Lines with a tuple, list or set of names that says again what the table says."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            names = [e.value for e in node.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
            if len(names) == len(node.elts) and frozenset(names) in FACTS:
                found.append(node.lineno)
    return found


def test_no_file_says_again_what_the_table_says():
    files = {str(p.relative_to(ROOT)): retyped(p.read_text(encoding="utf-8")) for p in ROOT.rglob("*.py")}
    assert {name: lines for name, lines in files.items() if lines} == {}
    assert retyped('x = 1\nROOTED = ["gather", "bcast", "reduce", "scatter"]') == [2]


def test_records_are_those_of_mpi():
    assert {record.name for record in COLLECTIVES.values()} == set(COLLECTIVES)
    assert all(record.method.lower() == name for name, record in COLLECTIVES.items())
    assert ROOTED == ("bcast", "reduce", "gather", "scatter")
    assert REDUCING == ("allreduce", "reduce_scatter", "reduce_scatter_block", "reduce", "scan", "exscan")
    assert PREFIXES == ("scan", "exscan")


def test_an_unknown_collective_is_refused_with_those_known():
    assert find_collective("reduce").rooted
    with pytest.raises(AlgorithmError, match="unknown collective 'allgatherv'; known are allgather, allreduce"):
        find_collective("allgatherv")
