"""The journal: durable, held by one process, and suspicious of what it finds."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.sweep.contract import Record, SavedFile
from host.sweep.running import Journal, JournalError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal.sqlite3"


def made(path, *records, definition='{"a": [1]}'):
    journal = Journal.create(path, definition)
    for record in records:
        assert journal.record(record)
    return journal


RECORDS = st.builds(
    Record,
    index=st.integers(0, 2**40),
    status=st.sampled_from(["success", "error"]),
    files=st.lists(
        st.builds(
            SavedFile,
            name=st.from_regex(r"[0-9]{3}_[a-zA-Z=., äß-]{1,20}\.png", fullmatch=True),
            size=st.integers(0, 2**40),
            digest=st.just("ab" * 32),
        ),
        max_size=3,
    ).map(tuple),
    digest=st.sampled_from(["", "0f" * 32]),
    seconds=st.floats(0, 1e9),
    worker=st.text(st.characters(codec="utf-8"), max_size=50),
    error=st.none() | st.text(st.characters(codec="utf-8"), max_size=50),
)


@settings(max_examples=30, deadline=None)
@given(records=st.lists(RECORDS, max_size=8, unique_by=lambda record: record.index))
def test_what_is_recorded_is_read(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite3"
    made(path, *records).close()
    for open_ in (Journal.read, Journal.resume):
        opened = open_(path)
        assert list(opened.results()) == sorted(records, key=lambda record: record.index)
        assert opened.definition == {"a": [1]}
        opened.close()


def test_results_can_be_asked_for_by_index_and_are_many(path):
    journal = made(path, *(Record(index, "success") for index in range(0, 2600, 2)))
    assert [record.index for record in journal.results()] == list(range(0, 2600, 2))
    assert [record.index for record in journal.results(3, 9)] == [4, 6, 8]
    assert journal.result(4) == Record(4, "success") and journal.result(5) is None
    journal.close()


def test_the_first_result_counts_and_can_be_forgotten(path):
    journal = made(path, Record(1, "success", worker="first"))
    assert not journal.record(Record(1, "error", worker="second"))
    assert journal.result(1).worker == "first"
    assert [journal.add_attempt(1), journal.add_attempt(1)] == [1, 2]
    journal.forget(1)
    assert journal.result(1) is None and journal.add_attempt(1) == 1
    assert journal.record(Record(1, "error", worker="second"))
    journal.close()


def test_a_long_error_is_cut_and_what_is_no_unicode_is_replaced(path):
    journal = made(path, Record(1, "error", error="\udcff" * 100_000))
    assert 1000 < len(journal.result(1).error) <= 4000 and set(journal.result(1).error) == {"?", "."}
    journal.close()


WRITER = """
import sys; from pathlib import Path
from host.sweep.contract import Record
from host.sweep.running import Journal
journal = Journal.create(Path(sys.argv[1]), "{}")
for index in range(10**9):
    journal.record(Record(index, "success"))
    print(index, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_believed(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in writer.stdout:
        if int(line) == 200:
            break
    with pytest.raises(JournalError, match="another process works on the sweep in"):
        Journal.resume(path)
    with pytest.raises(JournalError, match="another process works on the sweep in"):
        Journal.read(path)
    writer.kill()
    rest, _ = writer.communicate()
    believed = int(([200, *rest.split()])[-1]) if not rest or rest.endswith("\n") else 200
    for open_ in (Journal.read, Journal.resume):
        journal = open_(path)
        found = [record.index for record in journal.results()]
        assert found == list(range(len(found))) and len(found) > believed
        journal.close()


def test_a_second_holder_in_this_process_is_refused(path):
    journal = made(path)
    with pytest.raises(JournalError, match="another process works on the sweep"):
        Journal.resume(path)
    journal.close()
    Journal.resume(path).close()


def test_a_new_sweep_does_not_take_an_existing_journal(path):
    made(path).close()
    with pytest.raises(JournalError, match="exists already"):
        Journal.create(path, "{}")
    with pytest.raises(JournalError, match="cannot be used"):
        Journal.create(path.parent / "no" / "such" / "folder", "{}")


# -- what others may have put there


def test_there_may_be_no_journal(path, tmp_path):
    for refused in (path, tmp_path):
        with pytest.raises(JournalError, match="there is no journal of a sweep at"):
            Journal.resume(refused)
    made(path).close()
    link = tmp_path / "link.sqlite3"
    link.symlink_to(path)
    with pytest.raises(JournalError, match="there is no journal of a sweep at"):
        Journal.resume(link)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(4096)])
@pytest.mark.parametrize("open_", [Journal.read, Journal.resume])
def test_another_file_is_refused_and_stays_as_it_is(path, content, open_):
    path.write_bytes(content)
    with pytest.raises(JournalError, match="cannot be used"):
        open_(path)
    if content:
        assert path.read_bytes() == content


def change(path, statement, values=()):
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (a)",
        "DROP TABLE attempts",
        "ALTER TABLE results ADD COLUMN more",
        "PRAGMA user_version=7",
        "PRAGMA application_id=7",
    ],
)
@pytest.mark.parametrize("open_", [Journal.read, Journal.resume])
def test_a_database_with_anything_else_in_it_is_refused(path, statement, open_):
    made(path).close()
    change(path, statement)
    with pytest.raises(JournalError, match="cannot be used as the journal of a sweep"):
        open_(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "running"),
        ("status", b"success"),
        ("files", "{"),
        ("files", "[1]"),
        ("files", '[["../x.png", 1, ""]]'),
        ("files", '[["/etc/passwd", 1, ""]]'),
        ("files", '[["x.png", -1, ""]]'),
        ("files", '[["x.png", true, ""]]'),
        ("files", '[["x.png", 1, "zz"]]'),
        ("files", '[["x.png", 1]]'),
        ("files", '[[{"a": 1}, 1, ""]]'),
        ("files", "[" * 100_000),
        ("digest", "x"),
        ("digest", "0" * 65),
        ("seconds", "soon"),
        ("worker", b"\xff"),
        ("worker", "x" * 100_000),
        ("error", "x" * 100_000),
        ("error", b"x"),
        ("job", -5),
    ],
)
def test_a_malformed_result_is_refused(path, column, value):
    made(path, Record(3, "success")).close()
    change(path, f"UPDATE results SET {column}=?", (value,))
    journal = Journal.resume(path)
    with pytest.raises(JournalError, match="cannot be used as the journal of a sweep: the (result|files) of job"):
        for record in journal.results(-100):
            assert record is None
    journal.close()


@pytest.mark.parametrize("text", ["{", "[" * 5000, b"\xff", None])
def test_a_malformed_definition_is_refused(path, text):
    made(path).close()
    change(
        path,
        "DELETE FROM definition" if text is None else "UPDATE definition SET text=?",
        () if text is None else (text,),
    )
    journal = Journal.read(path)
    with pytest.raises(JournalError, match="definition"):
        assert journal.definition is None
    journal.close()


def test_a_disk_without_room_is_told(path):
    journal = made(path)
    journal._db.execute("PRAGMA max_page_count=12")
    with pytest.raises(JournalError, match="full"):
        for index in range(1000):
            journal.record(Record(index, "error", error="x" * 1000))
    count = len(list(journal.results()))
    assert count == index
    journal.close()
