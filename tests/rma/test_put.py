"""The benchmarks of puts: headers, columns, and figures that are numbers above zero."""

import json
import sys

import pytest
from launching import MPIEXEC, run

PUT = [str(MPIEXEC), "-n", "2", sys.executable, "-m", "topocomm", "bench"]
WITH_NOTIFY = [*PUT[:-2], "bench.rma.put_notify"]


@pytest.mark.parametrize("name", ["put_latency", "put_bw", "put_bibw", "put_rate"])
def test_every_benchmark_reports_every_way(name, tmp_path):
    path = tmp_path / "report.json"
    code, output = run([*WITH_NOTIFY, name, "-m", "8:16", "-i", "5", "--compare", "--json", str(path)])
    assert code == 0, output
    report = json.loads(path.read_text())
    assert [row["size"] for row in report["rows"]] == [8, 16]
    others = {"send", "flag", "pscw", "fence"} | ({"put_notify"} - set(report["absent"]))
    assert "MPIX_Put_notify" in report["absent"].get("put_notify", "") or "Intel" in report["mpi"]
    for row in report["rows"]:
        ratios = row.pop("time_per_notified")
        assert set(row) == {"size", "notified"} | others
        assert set(ratios) == others
        assert all(value > 0 for value in (*row.values(), *ratios.values()))


def test_table_has_osu_columns():
    code, output = run([*PUT, "put_latency", "-m", "8:8", "-i", "5"])
    assert code == 0, output
    lines = [line for line in output.splitlines() if line]
    assert "# Size         Avg Latency(us)" in lines
    assert lines[-1].startswith("8  ")
    assert len(lines[-1]) == 30


def test_column_that_cannot_be_measured_is_named_absent():
    code, output = run([*WITH_NOTIFY, "put_latency", "-m", "8:8", "-i", "5", "--compare"])
    assert code == 0, output
    assert ("# put_notify: absent, " in output) != ("          put_notify" in output)


def test_the_command_compares_with_the_means_of_every_mpi_library(tmp_path):
    path = tmp_path / "report.json"
    code, output = run([*PUT, "put_latency", "-m", "8:8", "-i", "5", "--compare", "--json", str(path)])
    assert code == 0, output
    report = json.loads(path.read_text())
    assert set(report["rows"][0]["time_per_notified"]) == {"send", "flag", "pscw", "fence"}
    assert report["absent"] == {}


def test_other_rank_counts_are_refused():
    code, output = run([str(MPIEXEC), "-n", "1", sys.executable, "-m", "topocomm", "bench", "put_bw"])
    assert code == 2
    assert "needs exactly 2 ranks, got 1" in output
