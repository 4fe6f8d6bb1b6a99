"""``bench`` under mpiexec: headers, columns, verification, comparison, JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import jobs
import jsonschema
import pytest
from launch import launch

import topocomm.cli
from topocomm.algorithms import TABLE
from topocomm.cli import main
from topocomm.cli.bench.data import POISON
from topocomm.cli.bench.osu import BENCHMARKS, DATATYPES
from topocomm.cli.bench.workloads import WORKLOADS, Shape
from topocomm.cli.report.document import read

COLLECTIVES = list(WORKLOADS)
SCHEMA = json.loads((Path(topocomm.cli.__file__).parent / "results.schema.json").read_text())
FEW = ["-i", "3", "-x", "1"]


def bench(ranks: int, *words: str) -> CompletedProcess[str]:
    done = launch(ranks, ["-m", "topocomm", "bench", *words, *FEW], timeout=100)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_ten_collectives_and_the_messages_are_there() -> None:
    assert set(COLLECTIVES) == set(TABLE)
    assert set(BENCHMARKS) == {*COLLECTIVES, *(f"i{name}" for name in COLLECTIVES), "latency", "bw", "bibw"}


SEVERAL = """
import sys
from mpi4py import MPI
from topocomm.cli import main
for command in sys.argv[1:]:
    if MPI.COMM_WORLD.rank == 0:
        print("COMMAND " + command, flush=True)
    if main(["bench", *command.split()]):
        sys.exit(1)
"""


def several(ranks: int, commands: list[str]) -> dict[str, str]:
    """Run many benchmarks in one job, which is quicker; stdout by command."""
    done = launch(ranks, ["-c", SEVERAL, *(" ".join([command, *FEW]) for command in commands)], timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parts = done.stdout.split("COMMAND ")[1:]
    return {part.partition("\n")[0].removesuffix(" " + " ".join(FEW)): part.partition("\n")[2] for part in parts}


def test_collectives_print_osu_lines() -> None:
    flags = {name: "-f" if name == "barrier" else "-fc -u 1 -m 8:32" for name in COLLECTIVES}
    found = several(3, [f"{name} --algorithm native {flags[name]}" for name in COLLECTIVES])
    for name, text in zip(COLLECTIVES, found.values(), strict=True):
        check_lines(name, text.splitlines())


def check_lines(collective: str, lines: list[str]) -> None:
    assert lines[0] == ""
    assert re.fullmatch(rf"# topocomm MPI {re.escape(BENCHMARKS[collective].title)} v\d+\.\d+\.\d+\S*", lines[1])
    assert re.fullmatch(r"# MPI: (MPICH|Open MPI) [\d.]+", lines[2])
    assert lines[3] == "# Ranks: 3 on 1 node"
    assert lines[4] == "# Threads: MULTIPLE"
    assert lines[5].startswith("# Waiting: ")
    lines = lines[2:]
    if collective == "barrier":
        assert lines[4].startswith("# Avg Latency(us)     Min Latency(us)")
        assert re.fullmatch(r" +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d {11}3", lines[5])
        return
    assert re.fullmatch(r"# Datatype: MPI_(CHAR|INT)\.", lines[4])
    assert lines[5].startswith("# Size         Avg Latency(us)     Min Latency(us)     Max Latency(us)  Iterations")
    assert [line.split()[0] for line in lines[6:]] == ["16", "32"] if "block" in collective else ["8", "16", "32"]
    for line in lines[6:]:
        assert re.fullmatch(r"\d+ +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +3 {16}Pass", line)
        assert len(line) == 10 + 3 * 20 + 12 + 20


def test_non_blocking_collectives_print_overlap(tmp_path: Path) -> None:
    named = {name: next(a for a, entry in TABLE[name].items() if not entry.power_of_two) for name in COLLECTIVES}
    commands = [f"i{name} --algorithm native,auto,{named[name]} -m 32:32" for name in COLLECTIVES]
    found = several(2, [*commands, f"iallreduce --algorithm ring,native -m 64 --json {tmp_path / 'kept.json'}"])
    for command, text in list(found.items())[:-1]:
        name = command.split()[0]
        assert f"# topocomm MPI Non-blocking {BENCHMARKS[name[1:]].title} v" in text
        header = next(line for line in text.splitlines() if "Overall(us)" in line)
        assert re.search(r"Overall\(us\) +Compute\(us\) +Pure Comm\.\(us\) +Overlap\(%\) +auto\(us\)", header)
        assert "# Algorithm auto: native" in text
        assert f"# Algorithm {named[name[1:]]}: {named[name[1:]]}" in text
        values = [float(word) for word in rows(text)[-1]]
        assert all(value > 0 for value in values[-9:-7]), text
        assert all(0 <= value <= 100 for value in (values[-7], values[-4], values[-1])), text
    document = json.loads((tmp_path / "kept.json").read_text())
    jsonschema.validate(document, SCHEMA)
    assert {"compute", "call", "overlap"} <= set(document["rows"][0]["results"]["ring"])


def test_in_place_and_every_type() -> None:
    names = [name for name in COLLECTIVES if "l" in BENCHMARKS[name].flags]
    found = several(3, [f"{name} --algorithm native -l -T all -T mpi_double -m 64:64 -c" for name in names])
    assert len(found) == 10
    for command, text in found.items():
        assert text.count("# Datatype: ") == 4, command
        assert [row[-1] for row in rows(text)] == ["Pass"] * 4, command


def test_roots() -> None:
    names, roots = ("bcast", "reduce", "gather", "scatter"), ("rotate", "fixed:2")
    commands = [f"{name} --algorithm native -k {root} -m 16:16 -c -u 0" for name in names for root in roots]
    found = several(3, commands)
    assert len(found) == 8
    for command, text in found.items():
        assert rows(text)[0][-1] == "Pass", command


def test_messages_between_two_ranks() -> None:
    names = ("latency", "bw", "bibw")
    found = several(2, [f"{name} -m 1:4 -z -c" for name in names])
    for name, text in zip(names, found.values(), strict=True):
        check_messages(name, text)


def check_messages(name: str, text: str) -> None:
    lines = text.splitlines()
    assert re.match(rf"# topocomm MPI {re.escape(BENCHMARKS[name].title)} v", lines[1])
    assert lines[6] == "# Datatype: MPI_CHAR."
    assert lines[7].split()[-1] == ("Lat(us)" if name == "latency" else "BW(MB/s)")
    for size, row in zip(("1", "2", "4"), rows(text), strict=True):
        assert row[0] == size
        assert row[2] == "Pass"
        assert float(row[3]) > 0


@pytest.mark.parametrize(("name", "ranks", "reason"), [("latency", 3, "exactly two"), ("allreduce", 1, "at least two")])
def test_a_wrong_number_of_ranks_is_refused(name: str, ranks: int, reason: str) -> None:
    done = launch(ranks, ["-m", "topocomm", "bench", name])
    assert done.returncode == 1
    assert f"This test requires {reason} processes" in done.stderr
    assert done.stdout == ""


def test_the_automatic_choice_stands_beside_native() -> None:
    done = bench(3, "allreduce", "-m", "8:16")
    header = next(line for line in done.stdout.splitlines() if line.startswith("# Size"))
    assert header == "# Size         Avg Latency(us)          native(us)         auto/native"
    assert "\n# Placement: 3 ranks" in done.stdout
    assert "\n# Algorithm auto: " in done.stdout
    for row in rows(done.stdout):
        assert float(row[3]) == pytest.approx(float(row[1]) / float(row[2]), abs=0.02, rel=0.01)


def test_the_engine_that_is_named_runs_our_columns() -> None:
    words = {engine: f"allreduce --engine {engine} --algorithm auto,native -m 8:8" for engine in ("native", "c")}
    words["python"] = "allreduce --engine python --algorithm ring,native -m 8:8"
    for engine, text in zip(words, several(3, list(words.values())).values(), strict=True):
        assert f"\n# Engine: {engine}\n" in text
        assert ("engine python)" in text) == (engine == "python")
        assert ("# Algorithm auto: native" in text) == (engine == "native")


def test_all_shows_what_cannot_run_as_not_available_and_says_why() -> None:
    done = bench(3, "allgather", "--algorithm", "all", "-m", "8:16")
    header = next(line for line in done.stdout.splitlines() if line.startswith("# Size"))
    titles = re.findall(r"(\S+)\(us\)", header)
    assert titles[1:] == ["native", *TABLE["allgather"]]
    column = 2 + 2 * (titles.index("textbook_recursive_doubling") - 1)
    for row in rows(done.stdout):
        assert row[column : column + 2] == ["n/a", "n/a"]
        assert row.count("n/a") == 2
    said = [line for line in done.stderr.splitlines() if "n/a" in line]
    assert len(said) == 1
    assert "power of two" in said[0]


def test_an_algorithm_that_is_named_but_cannot_run_is_an_error() -> None:
    words = ["bench", "allgather", "--algorithm", "native,textbook_recursive_doubling", *FEW]
    done = launch(3, ["-m", "topocomm", *words])
    assert done.returncode == 2
    assert "power of two" in done.stderr
    assert done.stderr.count("error:") == 1
    assert "# Size" not in done.stdout


def test_under_mpiexec_an_error_is_said_once() -> None:
    reasons = {
        "--algorithm quickest": "unknown allreduce algorithm 'quickest'",
        "--topology no_such_file.json": "no_such_file.json: cannot be read",
        "--engine native --algorithm ring,native": "leave out --algorithm ring",
        "-i 0": "'0' is not a whole number of at least 1",
    }
    found = jobs.several(3, *(f"bench allreduce {words}" for words in reasons))
    for (out, err, code), reason in zip(found, reasons.values(), strict=True):
        assert (out, code) == ([], 2)
        assert len([line for line in err if reason in line]) == 1, err
        assert not any("Traceback" in line for line in err)


def test_the_memory_limit_shortens_the_sizes() -> None:
    done = bench(2, "alltoall", "--algorithm", "native", "-m", "256K:4M", "-M", "1M")
    assert [row[0] for row in rows(done.stdout)] == ["262144", "524288"]
    assert "largest message limited to 524288 bytes" in done.stderr
    assert "is too low, 1048576 is used" in bench(2, "bcast", "--algorithm", "native", "-m", "4", "-M", "1K").stderr


def test_json_fits_its_schema(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    done = bench(3, "allgather", "--algorithm", "all", "-T", "all", "-m", "4:8", "--json", str(path))
    document = json.loads(path.read_text())
    jsonschema.validate(document, SCHEMA, format_checker=jsonschema.FormatChecker())
    table, kept = rows(done.stdout), document["rows"]
    assert [(row["size"]) for row in kept] == [int(row[0]) for row in table]
    for row, line in zip(kept, table, strict=True):  # rounded to four places and to two
        assert float(line[1]) == pytest.approx(row["results"]["auto"]["average"], abs=0.0051)
    assert kept[0]["results"]["textbook_recursive_doubling"] is None
    assert kept[0]["results"]["ring"]["algorithm"] == "ring"
    assert document["machine"]["ranks"] == 3
    assert "mpi_library" in document["versions"]


RACKS = {"format": "topocomm-placement", "version": 1, "levels": ["rack", "node"],
         "ranks": [["a", "n0"], ["b", "n1"], ["a", "n2"], ["b", "n3"]]}  # fmt: skip
LINK = {"up": 5e6, "latency": 5e-5}
LINKS = {"format": "topocomm-machine", "version": 1, "levels": [{"name": "rack", **LINK}, {"name": "node", **LINK}],
         "overhead": 5e-6}  # fmt: skip


@pytest.mark.parametrize("described", ["links", "places", "nothing"])
def test_a_result_says_its_bound_or_why_there_is_none(tmp_path: Path, described: str) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("topology", "machine", "results")}
    files["topology"].write_text(json.dumps(RACKS))
    files["machine"].write_text(json.dumps(LINKS))
    words = [word for name in ("topology", "machine")[: {"links": 2, "places": 1, "nothing": 0}[described]]
             for word in (f"--{name}", str(files[name]))]  # fmt: skip
    bench(4, "allreduce", "--algorithm", "auto,native", "-m", "65536:65536", "--json", str(files["results"]), *words)
    document = json.loads(files["results"].read_text())
    jsonschema.validate(document, SCHEMA)
    (row,) = document["rows"]
    if described == "links":  # half of the vector's sum leaves and enters every node at least, at 5 MB/s
        assert row["bound_us"] == pytest.approx(1.5 * 65536 / 5, rel=0.01)
    else:
        assert row["no_bound"].startswith({"places": "the links' speeds", "nothing": "no rank is farther"}[described])
    assert main(["report", str(files["results"]), "--check"]) == 0


def test_a_file_that_cannot_be_written_is_an_error_on_all_ranks() -> None:
    words = ["bench", "barrier", "--algorithm", "native", "--json", "/proc/topocomm.json", *FEW]
    done = launch(2, ["-m", "topocomm", *words])
    assert done.returncode == 2
    assert done.stderr.count("/proc/topocomm.json: cannot be written") == 1
    assert "Traceback" not in done.stderr


def test_help_is_printed_once() -> None:
    done = launch(2, ["-m", "topocomm", "bench", "--help"])
    assert done.returncode == 0
    assert done.stdout.count("usage:") == 1


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    bench(2, "barrier", "--algorithm", "native", "--json", str(path))
    document: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(document, SCHEMA)
    for key, value in (("version", 2), ("unit", "ms"), ("rows", [{}]), ("extra", 1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, key: value}, SCHEMA)


FAULTY = """
import sys
from mpi4py import MPI
from topocomm.cli import main
from topocomm.cli.bench import report
from topocomm.cli.bench.contenders import Contender

class Faulty(MPI.Intracomm):
    calls = 0
    def Allreduce(self, send, receive, op):
        super().Allreduce(send, receive, op)
        self.calls += 1
        if {when} and self.rank == 1:
            receive[0][3] += 1

report.contenders = lambda world, *rest: [Contender("native", Faulty(world))]
sys.exit(main(["bench", "allreduce", "--algorithm", "native", "-m", "8:64", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("when", "flags", "size"),
    [
        ("len(receive[0]) == 8", [], 32),
        ("self.calls == 7", ["-c", "-u", "0", "-i", "5", "-x", "2", "-m", "16:16"], 16),
    ],
)
def test_a_wrong_result_is_an_error_that_names_size_and_rank(when: str, flags: list[str], size: int) -> None:
    done = launch(3, ["-c", FAULTY.format(when=when), *FEW, *flags])
    assert done.returncode == 1
    line = next(line for line in done.stderr.splitlines() if line.startswith("DATA VALIDATION ERROR: "))
    found = re.search(r"allreduce at size (\d+): native: rank 1: .*element 3 is (\d+), must be (\d+)", line)
    assert found, line
    assert int(found[1]) == size
    assert int(found[2]) == int(found[3]) + 1
    assert ("Fail" in done.stdout) == ("-c" in flags)


def test_an_unexpected_exception_on_one_rank_ends_the_job() -> None:
    code = FAULTY.format(when="1").replace("receive[0][3] += 1", "raise RuntimeError('one rank only')")
    done = launch(3, ["-c", code, *FEW], timeout=40)
    assert done.returncode != 0
    assert "one rank only" in done.stderr


TURNS = """
import sys
from mpi4py import MPI
from topocomm.cli import main
from topocomm.cli.bench import timing
order = []
original = timing._loop

def watched(world, calls, workload, repeats):
    def note(name, call):
        return lambda *words: (order.append(name), call(*words))[1]
    return original(world, {name: note(name, call) for name, call in calls.items()}, workload, repeats)

timing._loop = watched
code = main(["bench", "allreduce", "--algorithm", "ring,native,rabenseifner", "-m", "8:8", "-i", "2", "-x", "1"])
if MPI.COMM_WORLD.rank == 0:
    print("ORDER", *order)
sys.exit(code)
"""


def test_contenders_take_turns() -> None:
    done = launch(2, ["-c", TURNS])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[1:] == ["ring", "native", "rabenseifner"] * 3


def test_several_communicators_misaligned_every_iteration(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    words = ["--algorithm", "ring,native", "-m", "64:64", "-i", "8", "-x", "1", "-c", "-u", "0", "--json", str(out)]
    words = ["-m", "topocomm", "bench", "allreduce", *words]
    done = launch(4, [*words, "--split", "MOD 2", "--misalign", "3", "--per-iteration"])
    assert done.returncode == 0, done.stderr
    assert "\n# Communicators: 2 of 2 ranks at once\n" in done.stdout
    assert "\n# Buffers: 3 bytes after an address that 64 divides\n" in done.stdout
    assert "P50 Tail Lat(us)" in done.stdout
    (row,) = json.loads(out.read_text())["rows"]
    for result in row["results"].values():
        assert len(result["samples"]) == 8
        assert max(result["samples"]) >= result["percentiles"]["99"]
    (part,) = read([out])
    assert len(part.rows[0].variants["native"].samples_us) == 8
    assert not part.rows[0].variants["native"].averaged
    refused = launch(4, [*words, "--split", "MOD 3"])
    assert refused.returncode == 2
    assert "4 ranks do not make groups of equal size" in refused.stderr


def test_buffers_are_misaligned_by_what_was_asked() -> None:
    for bytes_off in (0, 1, 3, 64):
        shape = Shape(0, 1, DATATYPES["mpi_double"], 5, misaligned=bytes_off)
        buffer = shape.filled(5)
        assert buffer.ctypes.data % 64 == bytes_off % 64
        assert (buffer == POISON).all()
        assert len(buffer) == 6


def test_bench_draws_what_it_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code = f"import os; os.chdir({str(tmp_path)!r}); import sys; from topocomm.cli import main; sys.exit(main())"
    words = ["bench", "allreduce", "--algorithm", "native", "-m", "8:64", "-i", "2", "-x", "0", "-G", "png,svg"]
    done = launch(2, ["-c", code, *words])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["topocomm_allreduce.png", "topocomm_allreduce.svg"]
