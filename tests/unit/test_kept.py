"""Choices kept across runs: taken out as they were put in, never from a file that could not have been written here."""

import json
import os

import pytest

from topocomm.choose import kept
from topocomm.choose.kept import Kept
from topocomm.choose.modelled import Chooser
from topocomm.topology import Topology

PLACES = Topology(("group", "node"), [(i // 4, i // 2) for i in range(8)])
QUESTION = ("allreduce", 1 << 16, False, False)


class Silent(Chooser):
    """A chooser that must not be asked."""

    def choose(self, *question):
        raise AssertionError(f"asked for {question}")


@pytest.fixture
def folder(tmp_path):
    """A folder with one choice kept in it."""
    first = Kept(str(tmp_path))
    first.choose(Chooser(PLACES), QUESTION)
    first.write()
    return tmp_path


def file_in(folder):
    (path,) = folder.glob("choices-*.json")
    return path


def test_a_choice_is_taken_out_as_it_was_put_in(folder):
    asked = Chooser(PLACES).choose(*QUESTION)
    assert Kept(str(folder)).choose(Silent(PLACES), QUESTION) == asked
    assert [path.name for path in folder.iterdir()] == [file_in(folder).name], "nothing else is left there"


def test_other_questions_topologies_and_engines_are_not_answered(folder):
    for chooser, question in (
        (Silent(PLACES), ("allreduce", 1 << 17, False, False)),
        (Silent(PLACES), ("allreduce", 1 << 16, True, False)),
        (Silent(Topology(("group", "node"), [(i % 2, i // 2) for i in range(8)])), QUESTION),
        (Silent(PLACES, engine="python"), QUESTION),
        (Silent(PLACES, library="MPICH 4.2.0"), QUESTION),
    ):
        with pytest.raises(AssertionError, match="asked for"):
            Kept(str(folder)).choose(chooser, question)


def test_another_version_is_not_answered(folder, monkeypatch):
    monkeypatch.setattr(kept, "_installed", lambda: "99")
    with pytest.raises(AssertionError, match="asked for"):
        Kept(str(folder)).choose(Silent(PLACES), QUESTION)


def row(**changed):
    names = ("collective", "nbytes", "ordered", "whole", "algorithm", "seconds", "library", "library_seconds")
    made = dict(zip(names, (*QUESTION, "ring", 1e-5, "textbook_ring", 2e-5), strict=True))
    return [*(made | changed).values()]


def document(*rows, **changed):
    return json.dumps({"format": kept.FORMAT, "version": kept.VERSION, "choices": list(rows)} | changed)


def test_a_file_decides(folder):
    file_in(folder).write_text(document(row()))
    assert Kept(str(folder)).choose(Silent(PLACES), QUESTION).algorithm == "ring"


DAMAGED = {
    "empty": "",
    "torn": document(row())[:-9],
    "no document": "[]",
    "another format": document(row(), format="x"),
    "another version": document(row(), version=2),
    "no list": document(row(), choices={}),
    "deep": "[" * 100_000,
    "short row": document(row()[:-1]),
    "unknown collective": document(row(collective="x")),
    "unknown algorithm": document(row(algorithm="x")),
    "unknown option": document(row(algorithm="ring:colour=red")),
    "too many segments": document(row(algorithm="leveled:levels=ddd,segments=1000000000")),
    "wrong levels": document(row(algorithm="leveled:levels=dddddddd")),
    "textbook": document(row(algorithm="textbook_ring")),
    "unknown library": document(row(library="ring")),
    "cuts whole vectors": document(row(whole=True)),
    "no order of ranks": document(row(ordered=True)),
    "not a number": document(row(seconds=float("nan"))),
    "negative": document(row(seconds=-1.0)),
    "a truth": document(row(nbytes=True)),
    "not rounded": document(row(nbytes=12345)),
    "huge number": document(row(nbytes=1 << 70)),
    "huge": document(*[row()] * 20_000),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_gives_a_word_and_the_usual_choice(folder, what, capsys):
    file_in(folder).write_text(DAMAGED[what])
    mine = Kept(str(folder))
    assert mine.choose(Chooser(PLACES), QUESTION) == Chooser(PLACES).choose(*QUESTION)
    said = capsys.readouterr().err
    assert said.count("is left aside") == 1
    assert len(said) < 600, said
    mine.write()
    assert Kept(str(folder)).choose(Silent(PLACES), QUESTION), "it is written anew"


def test_bytes_that_are_no_text_and_pipes_are_left_aside(folder, capsys):
    path = file_in(folder)
    path.write_bytes(b"\xff\xfe\x00")
    Kept(str(folder)).choose(Chooser(PLACES), QUESTION)
    path.unlink()
    os.mkfifo(path)
    Kept(str(folder)).choose(Chooser(PLACES), QUESTION)
    assert capsys.readouterr().err.count("is left aside") == 2


def test_two_that_end_one_after_the_other_keep_both(tmp_path):
    one, other = Kept(str(tmp_path)), Kept(str(tmp_path))
    one.choose(Chooser(PLACES), QUESTION)
    other.choose(Chooser(PLACES), ("bcast", 1 << 16, False, False))
    one.write()
    other.write()
    third = Kept(str(tmp_path))
    assert third.choose(Silent(PLACES), QUESTION)
    assert third.choose(Silent(PLACES), ("bcast", 1 << 16, False, False))


def test_a_folder_that_cannot_be_written_gives_a_word(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    mine = Kept(str(tmp_path / "file"))
    mine.choose(Chooser(PLACES), QUESTION)
    mine.write()
    assert "cannot keep choices in TOPOCOMM_CACHE" in capsys.readouterr().err
