"""The report as text, character by character."""

from __future__ import annotations

import pytest

from topocomm.cli.bench.columns import Line, Result, Table
from topocomm.cli.bench.osu import BENCHMARKS, datatype_of, sizes


def result(average: float, least: float = 1.5, most: float = 12.25) -> Result:
    return Result(average, least, most, {50: 2.0, 90: 3.0, 99: 4.0})


def table(name: str = "allreduce", *contenders: str, **columns: object) -> Table:
    return Table(BENCHMARKS[name], contenders or ("native",), **columns)  # type: ignore[arg-type]


def test_plain_columns_are_10_left_and_20_right() -> None:
    row = Line(1024, 1000, True, {"native": result(123.456)})
    assert table().header() == "# Size         Avg Latency(us)"
    assert table().line(row) == "1024                    123.46"


def test_full_validation_and_tail_stand_in_osu_order() -> None:
    report = table(full=True, validation=True, percentiles=(50, 90, 99))
    row = Line(8, 1000, True, {"native": result(7.0)})
    assert report.header() == (
        "# Size         Avg Latency(us)     Min Latency(us)     Max Latency(us)  Iterations          Validation"
        "    P50 Tail Lat(us)    P90 Tail Lat(us)    P99 Tail Lat(us)"
    )
    assert report.line(row) == (
        "8                         7.00                1.50               12.25        1000                Pass"
        "                2.00                3.00                4.00"
    )


def test_a_failed_row_says_fail_and_has_no_numbers() -> None:
    line = table(validation=True, full=True).line(Line(8, 10, False, {"native": None}))
    assert line == (
        "8                          n/a                 n/a                 n/a          10                Fail"
    )


def test_barrier_has_no_size() -> None:
    report = table("barrier")
    assert report.header() == "# Avg Latency(us)"
    assert report.line(Line(0, 10, True, {"native": result(3.14159)})) == "             3.14"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("latency", "# Size         Avg Latency(us)"),
        ("bw", "# Size        Bandwidth (MB/s)"),
        ("bibw", "# Size        Bandwidth (MB/s)"),
    ],
)
def test_messages(name: str, title: str) -> None:
    assert table(name).header() == title


def test_tail_of_bandwidth() -> None:
    assert table("bw", percentiles=(5, 99)).header().endswith("    P5 Tail BW(MB/s)   P99 Tail BW(MB/s)")


def test_compared_algorithms_stand_to_the_right_with_their_ratio_to_native() -> None:
    report = table("allreduce", "ring", "native", "textbook_recursive_doubling", "bruck")
    results = {
        "ring": result(30.0),
        "native": result(20.0),
        "textbook_recursive_doubling": result(10.0),
        "bruck": None,
    }
    assert report.header() == (
        "# Size         Avg Latency(us)          native(us)         ring/native"
        "  textbook_recursive_doubling(us)  textbook_recursive_doubling/native           bruck(us)        bruck/native"
    )
    assert report.line(Line(4, 10, True, results)) == (
        "4                        30.00               20.00                1.50"
        "                            10.00                                0.50                 n/a                 n/a"
    )


def test_without_native_ratios_are_to_the_first_column() -> None:
    report = table("allreduce", "ring", "bruck")
    assert report.header().split()[-2:] == ["bruck(us)", "bruck/ring"]
    assert report.line(Line(4, 1, True, {"ring": result(10.0), "bruck": result(5.0)})).split()[-1] == "0.50"


def test_sizes_double_and_skip_what_holds_no_element() -> None:
    assert list(sizes(1, 16, 1)) == [1, 2, 4, 8, 16]
    assert list(sizes(1, 16, 4)) == [4, 8, 16]
    assert list(sizes(3, 20, 1)) == [3, 6, 12]


def test_default_types_are_those_of_osu() -> None:
    assert datatype_of(None, BENCHMARKS["bcast"]).name == "MPI_CHAR"
    assert datatype_of(None, BENCHMARKS["allreduce"]).name == "MPI_INT"
    assert datatype_of("mpi_char", BENCHMARKS["reduce"]).name == "MPI_SIGNED_CHAR"


def test_iterations_drop_above_8192_bytes() -> None:
    assert BENCHMARKS["allreduce"].loops.at(8192) == (1000, 100)
    assert BENCHMARKS["allreduce"].loops.at(8193) == (100, 10)
    assert BENCHMARKS["latency"].loops.at(1) == (10000, 100)
    assert BENCHMARKS["bw"].loops.at(16384) == (20, 2)
