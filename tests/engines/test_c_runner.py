"""The C runner under sanitizers, without MPI: any order of arrival, and programs with changed bytes."""

import os
import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from test_algorithms import ENTRIES, able
from test_local import root_of, topology_of

from topocomm.algorithms import make_schedule
from topocomm.errors import ProgramError
from topocomm.plan.bind import bind
from topocomm.plan.check import check
from topocomm.plan.program import Program
from topocomm.rma._core import ffi, lib

ROOT = Path(__file__).parents[2]
COLL, CORE = ROOT / "csrc" / "coll", ROOT / "csrc" / "core"
COMPILER = shutil.which("clang") or shutil.which("gcc")
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{CORE}", f"-I{COLL}"]
SMALL = ["-DDATA=256u", "-DEAGER=64u", "-DPIECE=48u", "-DCROSSING=50"]
"""Sizes of pieces in shared memory, small so that programs with little data see it run out."""
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a compiler")


def groups(sizes):
    """The programs of all ranks, for every algorithm and some numbers of ranks."""
    for algorithm in ENTRIES:
        for p in sizes:
            if p in able(algorithm, p, p):
                schedule = make_schedule(algorithm.collective, algorithm.name, topology_of(p), root_of(algorithm, p))
                yield [bytes(bind(schedule, rank)) for rank in range(p)]


def write(path, sizes):
    with path.open("wb") as file:
        for programs in groups(sizes):
            file.write(struct.pack("<I", len(programs)))
            for program in programs:
                file.write(struct.pack("<Q", len(program)) + program)


def build(folder, sanitizer):
    program = folder / "test_runner"
    core = [path for path in sorted(CORE.rglob("*.c")) if not path.name.startswith("ofi_")]
    sources = [str(ROOT / "tests" / "c" / "test_runner.c"), *map(str, [*sorted(COLL.glob("*.c")), *core])]
    command = [str(COMPILER), *FLAGS, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", *SMALL, *sources]
    done = subprocess.run(
        [*command, "-o", str(program), "-pthread"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return build(tmp_path_factory.mktemp("runner"), "address,undefined")


def run(program, *arguments, leaks=True):
    options = f"allocator_may_return_null=1:detect_leaks={leaks:d}"  # a changed program may ask for any size
    env = {**os.environ, "ASAN_OPTIONS": options, "TSAN_OPTIONS": "halt_on_error=1"}
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return [int(x) for x in re.findall(r"\d+", done.stdout)]


@needs_compiler
@pytest.mark.parametrize("memory", ["apart", "shared"])
def test_every_order_of_arrival_gives_the_same_result(runner, tmp_path, memory):
    write(tmp_path / "programs", (1, 2, 3, 4, 5, 7, 8))
    ngroups, deliveries, *_ = run(runner, tmp_path / "programs", "orders", 6, memory)
    assert ngroups > 300
    assert deliveries > (10 if memory == "apart" else 3) * ngroups


@needs_compiler
def test_notified_puts_give_the_same_result(runner, tmp_path):
    """Between all ranks or some, over a network that cuts, reorders, delays and repeats; from much memory to little."""
    write(tmp_path / "programs", (2, 3, 5, 8))
    numbers = run(runner, tmp_path / "programs", "puts", 8, "apart")
    ngroups, (messages, parts, credits, links) = numbers[0], numbers[-4:]
    assert ngroups > 200
    assert parts > 1.05 * messages > 10 * links > 0
    assert 0 < credits < parts / 2


@needs_compiler
@pytest.mark.parametrize("memory", ["apart", "shared"])
def test_changed_programs_are_refused_or_touch_no_other_memory(runner, tmp_path, memory):
    write(tmp_path / "programs", (2, 3, 4))
    leaks = memory == "apart"  # what is under way in shared memory is left
    _, _, refused, ended, stuck, *_ = run(runner, tmp_path / "programs", "fuzz", 60, memory, leaks=leaks)
    assert min(refused, ended, stuck) > 100


@needs_compiler
def test_ranks_share_memory_without_races(tmp_path):
    program = build(tmp_path, "thread")
    write(tmp_path / "programs", (2, 3, 4, 8))
    assert run(program, tmp_path / "programs", "threads", 3, "shared")[0] > 150


def load(data):
    """The reason why C refuses a program, or nothing."""
    program, text = ffi.new("tc_program **"), ffi.new("char[]", lib.TC_TEXT_BYTES)
    status = lib.tc_program_load(data, len(data), program, text)
    if status == 0:
        lib.tc_program_free(program[0])
        return ""
    assert status == lib.TC_ERR_PROGRAM
    return ffi.string(text).decode()


def test_c_refuses_what_python_refuses():
    """Programs with a changed number: C may refuse more (what it could not run as numbered), never less."""
    rng, agreed, refused, accepted = random.Random(1), 0, 0, 0
    for programs in groups((2, 4, 5)):
        for data in programs[:2]:
            for _ in range(12):
                changed = bytearray(data)
                at = rng.randrange(128 if rng.random() < 0.9 else 0, len(data) - 3) // 4 * 4
                struct.pack_into("<i", changed, at, rng.choice([-1, 0, 1, 2, 3, 4, 5, 7, 9, 1000]))
                reason = load(bytes(changed))
                try:
                    check(Program.from_bytes(bytes(changed)))
                except ProgramError:
                    assert reason, "C takes what Python refuses"
                    refused += 1
                    continue
                agreed += not reason
                accepted += 1
    assert refused > 300
    assert agreed > 0.97 * accepted > 300
