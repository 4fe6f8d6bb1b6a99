"""``bench put_*``: what is not understood costs one line; sizes, headers and the file as in the other benchmarks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jobs

REFUSED = {
    "put_latency -m abc": "'abc' is not a number of bytes",
    "put_latency -m 1:1T": "'1T' is not a number of bytes",
    "put_latency -m 64:8": "-m 64:8: the smallest message is larger than the largest",
    "put_bw -W 0": "'0' is not a whole number of at least 1",
    "put_bw -W 100000": "-W 100000: at most 2048 puts are under way at once",
    "put_latency -W 4": "put_latency has no -W: it puts one at a time",
    "put_latency -i -5": "'-5' is not a whole number of at least 1",
    "put_latency --transports tcp": "'tcp' is not a list of shm, ofi, mpi",
    "put_latency --json /nowhere/x": "there is no directory '/nowhere'",
    "put_bw -m 1:900G": "-m 966367641600 -W 16: needs about ",
    "put_latency --algorithm ring": "put_latency compares no algorithms; leave out --algorithm",
    "--algorithm ring put_bw": "put_bw compares no algorithms; leave out --algorithm",
    "put_latency --json /proc/topocomm.json -m 8:8 -i 1": "/proc/topocomm.json: cannot be written",
}


def test_what_is_not_understood_is_said_once() -> None:
    found = jobs.several(2, *(f"bench {words}" for words in REFUSED))
    for (_, err, code), (words, reason) in zip(found, REFUSED.items(), strict=True):
        assert code == 2, words
        assert len(err) == 1, err
        assert reason in err[0], err


def test_transports_of_the_environment_are_checked() -> None:
    bogus = "import os; os.environ['TOPOCOMM_RMA_TRANSPORTS'] = 'bogus'\n"
    ((_, err, code),) = jobs.several(2, "bench put_bw", prepare=bogus)
    assert (len(err), code) == (1, 2)
    assert "bogus" in err[0]
    assert "choose some of shm, ofi, mpi" in err[0]


def test_sizes_header_and_file(tmp_path: Path) -> None:
    path = tmp_path / "puts.json"
    ways = [
        f"bench put_latency -m 12:100 -i 3 --json {path}",
        "bench put_bibw -m 2K:4K -i 2 -W 200",
        "bench put_bw --help",
    ]
    latency, window, usage = jobs.several(2, *ways)
    assert re.fullmatch(r"# topocomm put_latency v\d+\.\d+\.\d+\S*", latency[0][0])
    assert re.fullmatch(r"# MPI: (MPICH|Open MPI|Intel MPI) [\d.]+", latency[0][1])
    assert latency[0][2] == "# Ranks: 2 on 1 node"
    assert [line.split()[0] for line in latency[0] if line[0] != "#"] == ["12", "24", "48", "96"]
    assert [line.split()[0] for line in window[0] if line[0] != "#"] == ["2048", "4096"]
    report = json.loads(path.read_text())
    assert [row["size"] for row in report["rows"]] == [12, 24, 48, 96]
    assert f"# MPI: {report['mpi']}" == latency[0][1]
    assert "(default 16)" in " ".join(usage[0])


def test_bench_names_them_in_its_help() -> None:
    ((out, _, code),) = jobs.several(1, "bench --help")
    assert code == 0
    assert "put_latency, put_bw, put_bibw, put_rate, with options of their own" in " ".join(" ".join(out).split())
