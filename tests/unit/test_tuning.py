"""Tuning files: what they say survives, what is malformed is refused by name, and the choice follows the times."""

import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from topocomm.choose.measured import (
    Entry,
    Timing,
    Tuning,
    class_of,
    dumps_tuning,
    files,
    merge,
    parse_tuning,
    read_tuning,
)
from topocomm.choose.measured.entries import winner
from topocomm.cli.tune.words import words
from topocomm.collectives import COLLECTIVES
from topocomm.errors import Error

HERE, THERE = "0123456789abcdef", "f" * 16
MPI = "MPICH 5.0.2"
SCHEMA = Draft202012Validator(json.loads(Path(files.__file__).with_name("tuning.schema.json").read_text()))


def entry(nbytes=65536, collective="allreduce", measured="2026-01-31T23:59:59Z", **times):
    """An entry; times are (median, repetitions, spread), native's by default 2 s."""
    table = {"native": Timing(2.0, 9, 0.1), **{name: Timing(*t) for name, t in times.items()}}
    return Entry(collective, nbytes, 4, HERE, class_of(collective), MPI, "python", measured, table)


def best(tuning, nbytes, signature=HERE, commutative=True, library=MPI, collective="allreduce"):
    found = tuning.best(collective, nbytes, signature, commutative, library, "python")
    return found and found[0]


# -- the choice ------------------------------------------------------------------------------------------------


def test_the_fastest_is_chosen_and_the_reason_says_by_how_much():
    tuning = Tuning((entry(ring=(1.0, 9, 0.1), rabenseifner=(1.5, 9, 0.1)),), "t.json")
    assert tuning.best("allreduce", 65536, HERE, True, MPI, "python") == (
        "ring",
        "measured at 65536 bytes (t.json): 1000.00 ms, native 2000.00 ms",
    )


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"ring": (1.8, 9, 0.0)}, "ring"),
        ({"ring": (1.95, 9, 0.0)}, "native"),  # within native's spread of 0.1
        ({"ring": (1.8, 9, 0.3)}, "native"),  # within its own
        ({"ring": (2.5, 9, 0.0)}, "native"),
        ({"ring": (1.0, 9, 0.0), "rabenseifner": (1.0, 9, 0.0)}, "rabenseifner"),  # equal: by name
        ({"ring": (1.0, 9, 2.0), "rabenseifner": (1.5, 9, 0.0)}, "rabenseifner"),
        ({}, "native"),
    ],
)
def test_native_is_kept_unless_it_is_beaten_by_more_than_the_noise(times, chosen):
    assert winner(entry(**times).algorithms) == chosen
    assert best(Tuning((entry(**times),)), 65536) == chosen


@pytest.mark.parametrize(
    ("nbytes", "chosen"),
    [(499, None), (500, "ring"), (1000, "ring"), (1414, "ring"), (1415, "direct"), (4000, "direct"), (4001, None)],
)
def test_the_nearest_size_counts_within_a_factor_of_two(nbytes, chosen):
    tuning = Tuning((entry(2000, direct=(1.0, 9, 0.0)), entry(1000, ring=(1.0, 9, 0.0))))
    assert best(tuning, nbytes) == chosen


def test_the_smaller_of_two_sizes_equally_near_counts():
    assert best(Tuning((entry(400, direct=(1.0, 9, 0.0)), entry(100, ring=(1.0, 9, 0.0)))), 200) == "ring"


def test_a_barrier_has_no_bytes_and_is_near_to_nothing_else():
    tuning = Tuning((entry(0, "barrier", dissemination=(1.0, 9, 0.0)),))
    assert best(tuning, 0, collective="barrier") == "dissemination"
    assert best(tuning, 1, collective="barrier") is None


def test_another_topology_library_class_or_collective_is_never_used():
    tuning = Tuning((entry(ring=(1.0, 9, 0.0)),))
    assert best(tuning, 65536) == "ring"
    assert best(tuning, 65536, signature=THERE) is None
    assert best(tuning, 65536, library="MPICH 5.0.1") is None
    assert best(tuning, 65536, commutative=False) is None
    assert best(tuning, 65536, collective="allgather") is None
    gather = Tuning((entry(65536, "allgather", ring=(1.0, 9, 0.0)),))
    assert best(gather, 65536, collective="allgather", commutative=False) == "ring"  # nothing is combined


def test_a_tuning_that_was_asked_can_still_be_sent():
    tuning = Tuning((entry(),))
    tuning.best("allreduce", 1, HERE, True, MPI, "python")
    assert pickle.loads(pickle.dumps(tuning)) == tuning


# -- merging ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "taken", "rule"),
    [
        ({"native": (2.0, 10, 0.1)}, True, "more repetitions"),
        ({"native": (1.0, 8, 0.1), "measured": "2027-01-01T00:00:00Z"}, False, "more repetitions"),
        ({"measured": "2027-01-01T00:00:00Z"}, True, "later"),
        ({"measured": "2025-01-01T00:00:00Z"}, False, "later"),
        ({"ring": (1.0, 9, 0.1)}, False, "equal, the first"),
    ],
)
def test_of_two_measurements_the_one_with_more_repetitions_is_taken_then_the_later(other, taken, rule):
    a, b = Tuning((entry(), entry(1024)), "a.json"), Tuning((entry(**other), entry(2048)), "b.json")
    merged, conflicts = merge(a, b)
    assert {e.nbytes: e for e in merged.entries} == {
        65536: b.entries[0] if taken else a.entries[0],
        1024: a.entries[1],
        2048: b.entries[1],
    }
    (conflict,) = conflicts
    assert conflict.endswith(f"in a.json and in b.json; taken from {'b' if taken else 'a'}.json ({rule})")
    back = merge(b, a)[0]
    if not rule.startswith("equal"):
        assert set(map(repr, back.entries)) == set(map(repr, merged.entries))


def test_equal_entries_are_no_conflict():
    a = Tuning((entry(),))
    assert merge(a, Tuning((entry(),), "again")) == (a, [])


# -- files -----------------------------------------------------------------------------------------------------


def good():
    return json.loads(dumps_tuning(Tuning((entry(ring=(1.0, 3, 0.0)), entry(64, "allgather")))))


def test_a_tuning_survives_its_file_and_fits_the_schema():
    tuning = Tuning((entry(ring=(1.0, 3, 0.0)), entry(64, "allgather"), entry(0, "barrier")))
    text = dumps_tuning(tuning)
    assert set(map(repr, parse_tuning(text).entries)) == set(map(repr, tuning.entries))
    assert dumps_tuning(parse_tuning(text)) == text
    SCHEMA.validate(json.loads(text))
    assert good()["entries"][0]["bytes_per_rank"] == 16
    assert good()["entries"][1]["bytes_per_rank"] == 65536
    assert SCHEMA.schema["$defs"]["entry"]["properties"]["collective"]["enum"] == list(COLLECTIVES)


DROP = object()


@pytest.mark.parametrize(
    ("where", "value", "says", "in_schema"),
    [
        (("format",), "topocomm-machine", "'format' must be 'topocomm-tuning', found 'topocomm-machine'", True),
        (("version",), 2, "'version' must be 1, found 2", True),
        (("version",), True, "'version' must be 1, found True", True),
        (("entries",), {}, "'entries' must be a list, found dict", True),
        (("entries",), DROP, "'entries' is missing", True),
        (("entrys",), [], "unknown keys ['entrys']", True),
        (("entries", 0), 7, "'entries'[0]: must be an object, found int", True),
        (("entries", 1, "colour"), 7, "'entries'[1]: unknown keys ['colour']", True),
        (("entries", 1, "bytes"), DROP, "'entries'[1]: 'bytes' is missing", True),
        (("entries", 1, "collective"), "alltoallw", "'collective' must be one of", True),
        (("entries", 1, "collective"), ["allreduce"], "found ['allreduce']", True),
        (("entries", 1, "bytes"), -1, "'bytes' must be a whole number of 0", True),
        (("entries", 1, "bytes"), 65536.5, "found 65536.5", True),
        (("entries", 1, "bytes"), "65536", "found '65536'", True),
        (("entries", 1, "bytes"), 2**51, "found 2251799813685248", True),
        (("entries", 1, "bytes_per_rank"), 1, "'bytes_per_rank' is 1, but allreduce of 65536 bytes on 4", False),
        (("entries", 1, "ranks"), 0, "'ranks' must be a whole number of 1", True),
        (("entries", 1, "signature"), "0123", "'signature' must be 16 hexadecimal digits", True),
        (("entries", 1, "type_class"), "plain", "'type_class' must be one of commutative, ordered", False),
        (("entries", 1, "library"), None, "'library' must be printable text, found None", True),
        (("entries", 1, "engine"), "shm", "'engine' must be one of c, python, found 'shm'", True),
        (("entries", 1, "measured"), "yesterday", "'measured' must be a time as 2026-01-31T23:59:59Z", True),
        (("entries", 1, "algorithms"), [], "'algorithms' must be an object", True),
        (("entries", 1, "algorithms", "native"), DROP, "'algorithms' has no 'native'", True),
        (("entries", 1, "algorithms", "rung"), {"median": 1, "repetitions": 1, "spread": 0}, "'rung'", False),
        (("entries", 1, "algorithms", "ring"), 1.0, "algorithm 'ring': must be an object", True),
        (("entries", 1, "algorithms", "ring", "median"), 0, "'median' must be seconds above 0", True),
        (("entries", 1, "algorithms", "ring", "median"), True, "found True", True),
        (("entries", 1, "algorithms", "ring", "spread"), -1e-9, "'spread' must be seconds of at least 0", True),
        (("entries", 1, "algorithms", "ring", "spread"), 1e7, "at most 1e+06, found 10000000.0", True),
        (("entries", 1, "algorithms", "ring", "repetitions"), 0, "'repetitions' must be a whole number of 1", True),
        (("entries", 1, "algorithms", "ring", "repetitions"), 1.5, "found 1.5", True),
        (("entries", 1, "algorithms", "ring", "mean"), 1.5, "unknown keys ['mean']", True),
        (("entries", 1, "algorithms", "ring", "median"), DROP, "'median' is missing", True),
    ],
)
def test_what_is_malformed_is_refused_by_name(where, value, says, in_schema):
    doc = good()
    place = doc
    for key in where[:-1]:
        place = place[key]
    if value is DROP:
        del place[where[-1]]
    else:
        place[where[-1]] = value
    with pytest.raises(Error) as caught:
        parse_tuning(json.dumps(doc), "file.json")
    assert str(caught.value).startswith("file.json: ")
    assert says in str(caught.value)
    assert SCHEMA.is_valid(doc) != in_schema


def test_what_cannot_run_is_refused():
    doc = good()
    time = {"median": 1.0, "repetitions": 9, "spread": 0.0}
    doc["entries"][0]["algorithms"]["textbook_recursive_doubling"] = time
    parse_tuning(json.dumps(doc))
    doc["entries"][0] |= {"ranks": 6, "bytes_per_rank": 11}
    with pytest.raises(Error, match=r"'textbook_recursive_doubling': .* needs a power of two of ranks.*; remove it"):
        parse_tuning(json.dumps(doc))
    doc = good()
    doc["entries"][1]["type_class"] = "ordered"
    with pytest.raises(Error, match="algorithm 'ring': does not combine in the order of ranks"):
        parse_tuning(json.dumps(doc))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1 column 1: not JSON"),
        ("[" * 100000, "nested too deeply"),
        ('{"format": 1, "format": 2}', "key 'format' appears twice"),
        (dumps_tuning(Tuning((entry(),))).replace("2.0", "NaN"), "NaN is not JSON"),
        (dumps_tuning(Tuning((entry(),))).replace("2.0", "Infinity"), "Infinity is not JSON"),
        (dumps_tuning(Tuning((entry(),))).replace("2.0", "1e999"), "'median' must be seconds above 0"),
        (dumps_tuning(Tuning((entry(),))).replace("65536", "9" * 5000), "a number of 5000 digits is too large"),
        (dumps_tuning(Tuning((entry(), entry()))), "'entries'[0] and [1] are both of allreduce of 65536 bytes"),
    ],
)
def test_what_json_lets_pass_is_refused(text, says):
    with pytest.raises(Error, match=r"^file: ") as caught:
        parse_tuning(text, "file")
    assert says in str(caught.value)


TEXT = dumps_tuning(Tuning((entry(ring=(1.0, 3, 0.0)), entry(64, "allgather", measured="2026-02-01T00:00:00Z"))))
PIECES = ["\n", " ", ",", "[", "]", "{", "}", '"', "-", "0", "9" * 30, "1e999", "NaN", "null", "true", "\\", "\0", "é",
          ":", '"bytes"', "\ud800", "\\ud800"]  # fmt: skip


@st.composite
def damaged(draw):
    """A good file with pieces cut out, doubled and put in."""
    text = TEXT
    for _ in range(draw(st.integers(1, 4))):
        a, b = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        piece = draw(st.sampled_from(PIECES))
        text = draw(st.sampled_from([text[:a] + text[b:], text[:b] + text[a:], text[:a] + piece + text[a:]]))
    return text


def check(text):
    """A tuning that says what its text says, or an Error that names the file."""
    refused = ""
    try:
        tuning = parse_tuning(text, "file")
    except Error as e:
        refused = str(e)
    if refused:
        assert refused.startswith("file: ")
        return
    assert SCHEMA.is_valid(json.loads(text))
    assert parse_tuning(dumps_tuning(tuning)) == Tuning(tuple(sorted(tuning.entries, key=lambda e: (e.key, e.nbytes))))


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_damaged_files(text):
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_text(text):
    check(text)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.data(), ANYTHING)
def test_any_value_in_any_place(data, value):
    doc = copy.deepcopy(json.loads(TEXT))
    place = doc
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    place[key] = value
    check(json.dumps(doc))


# -- reading and writing ---------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(Error, match=r"nothing\.json: cannot be read"):
        read_tuning(tmp_path / "nothing.json")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(Error, match="latin: not UTF-8"):
        read_tuning(tmp_path / "latin")
    with pytest.raises(Error, match="cannot be read"):
        read_tuning(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    files.write_text(path, "first")
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Error, match=r"t\.json: cannot be written: No space left on device"):
        files.write_text(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]
    with pytest.raises(Error, match="cannot be written: No such file"):
        files.write_text(tmp_path / "no" / "t.json", "x")


# -- what a session says ---------------------------------------------------------------------------------------


def test_a_point_in_words():
    assert words(entry(ring=(1.0, 9, 0.0))) == ("allreduce 65536 bytes: ring 1000000.00 us, native 2000000.00 us")
    assert words(entry(64, "barrier")) == "barrier 64 bytes: native 2000000.00 us"


def test_files_of_the_first_version_name_the_python_engine_otherwise():
    text = dumps_tuning(Tuning((entry(1024),)))
    assert '"engine": "python"' in text
    assert parse_tuning(text.replace('"engine": "python"', '"engine": "p2p"'), "old").entries[0].engine == "python"
