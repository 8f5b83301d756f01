"""The journal of a sweep: what was asked for, and the result of every job that ended, in one SQLite file.

It does for a sweep what the server's job store (`host.server.jobs.store`) does for the queue, and follows its rules: a
result is one transaction, durable before anyone believes it, written as strict JSON, and a job that is lost again and
again is not tried for ever. It is a file of its own, because

- the store keeps the newest 10,000 results, a sweep all of them;
- a server that opens the store runs what is pending in it;
- a sweep's folder moves and is deleted as a whole: pictures, journal and table together.

A job without a row has not ended. There is no row for "running": a driver that dies leaves nothing to repair.

One process holds a journal at a time, by SQLite's own lock, which ends with the process however it ends. Do not open
the file by other means in the process that holds it: closing any descriptor of it would drop the lock.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from host.error_format import shorten, show
from host.folders import plain_file_name
from host.strict_json import dumps, parse_untrusted
from host.sweep.contract import Record, SavedFile

__all__ = ["JOURNAL_NAME", "Journal", "JournalError"]

JOURNAL_NAME = "journal.sqlite3"
_APPLICATION_ID = 0x44444951  # says that a SQLite file is a journal of a sweep
_VERSION = 1
_TABLES = {
    "definition": "CREATE TABLE definition (id INTEGER PRIMARY KEY CHECK (id = 0), text TEXT NOT NULL)",
    "results": (
        "CREATE TABLE results (job INTEGER PRIMARY KEY, status TEXT NOT NULL, files TEXT NOT NULL,"
        " digest TEXT NOT NULL, seconds REAL NOT NULL, worker TEXT NOT NULL, error TEXT)"
    ),
    "attempts": "CREATE TABLE attempts (job INTEGER PRIMARY KEY, count INTEGER NOT NULL)",
}
_COLUMNS = "job, status, files, digest, seconds, worker, error"
_STATUSES = ("success", "error")
_DIGEST = re.compile(r"[0-9a-f]{64}|")
_MAX_FILES = 10_000  # of one job
_MAX_TEXT = 4000  # characters of an error or a worker's name
_MAX_DEFINITION = 64 << 20  # characters
_LOCK_SECONDS = 1.0  # until another process counts as the holder


class JournalError(Exception):
    """A journal cannot be used. The message is shown to the user."""


class Journal:
    """The results of one sweep by index. Safe to use from any thread.

    Use `create`, `resume` or `read`.
    """

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._db = database
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, definition: str) -> Journal:
        """Start the journal of a new sweep, and hold it.

        Args:
            path: The file, which does not exist; its folder does.
            definition: What the plan needs to make the same jobs again, as JSON text.

        Raises:
            JournalError: The file exists or cannot be written.
        """
        if path.exists():
            raise JournalError(f"{path} exists already: continue that sweep, or choose another folder")
        journal = cls(path, _connect(path, f"{path.absolute().as_uri()}?mode=rwc"))
        with journal._told(), journal._transaction():
            journal._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            journal._db.execute(f"PRAGMA user_version={_VERSION}")
            for statement in _TABLES.values():
                journal._db.execute(statement)
            journal._db.execute("INSERT INTO definition VALUES (0, ?)", (definition,))
        return journal

    @classmethod
    def resume(cls, path: Path) -> Journal:
        """Open the journal of a sweep that ended early, and hold it.

        Raises:
            JournalError: There is none, another process holds it, or it is not what this host writes.
        """
        return cls._open(path, "rw")

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Open a journal to read it, without changing its folder where that is possible.

        Raises:
            JournalError: As for `resume`.
        """
        return cls._open(path, "ro")

    @classmethod
    def _open(cls, path: Path, mode: str) -> Journal:
        if path.is_symlink() or not path.is_file():
            raise JournalError(f"there is no journal of a sweep at {path}")
        journal = cls(path, _connect(path, f"{path.absolute().as_uri()}?mode={mode}"))
        try:
            with journal._told():
                journal._require_own_schema()
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Write everything to the file and close it. May be called more than once."""
        with self._lock:
            self._db.close()

    @property
    def definition(self) -> Any:
        """The definition, parsed. Raises JournalError if it is missing, too large, or not JSON."""
        with self._told():
            row = self._db.execute("SELECT text FROM definition WHERE length(text) <= ?", (_MAX_DEFINITION,)).fetchone()
        if row is None or not isinstance(row[0], str):
            raise self._damaged("it has no definition, or one that is too large")
        try:
            return parse_untrusted(row[0].encode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise self._damaged(f"its definition is {error}") from error

    # -- results

    def record(self, record: Record) -> bool:
        """Store a result durably, unless the job has one.

        Returns:
            Whether it was stored. The first result counts.

        Raises:
            JournalError: It cannot be written, for example because the disk is full.
        """
        files = dumps([[file.name, file.size, file.digest] for file in record.files])
        error = None if record.error is None else _storable(record.error)
        row = (record.index, record.status, files, record.digest, record.seconds, _storable(record.worker), error)
        with self._told(), self._transaction():
            stored = self._db.execute(
                f"INSERT INTO results ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row
            )
            return stored.rowcount == 1

    def result(self, index: int) -> Record | None:
        """Return the result of one job, or None. Raises JournalError for one that is malformed."""
        return next(self.results(index, index + 1), None)

    def results(self, start: int = 0, stop: int = 1 << 62) -> Iterator[Record]:
        """Yield the results of the jobs from `start` to before `stop`, by index; not all are in memory at once.

        Raises:
            JournalError: One of them is malformed.
        """
        while start < stop:
            with self._told():
                rows = self._db.execute(
                    f"SELECT {_COLUMNS} FROM results WHERE job >= ? AND job < ? ORDER BY job LIMIT 500", (start, stop)
                ).fetchall()
            if not rows:
                return
            for row in rows:
                yield self._checked(row)
            start = rows[-1][0] + 1

    def forget(self, index: int) -> None:
        """Remove the result of a job and what is known of its attempts, so that it is run again."""
        with self._told(), self._transaction():
            self._db.execute("DELETE FROM results WHERE job=?", (index,))
            self._db.execute("DELETE FROM attempts WHERE job=?", (index,))

    def add_attempt(self, index: int) -> int:
        """Count an attempt that ended without a result, durably. Returns how many there were."""
        with self._told(), self._transaction():
            self._db.execute(
                "INSERT INTO attempts VALUES (?, 1) ON CONFLICT (job) DO UPDATE SET count = count + 1", (index,)
            )
            return int(self._db.execute("SELECT count FROM attempts WHERE job=?", (index,)).fetchone()[0])

    # -- checks

    def _require_own_schema(self) -> None:
        """Refuse a file with anything but this journal's tables: a trigger or a view would act on what is written."""
        identity = [self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if identity != [_APPLICATION_ID, _VERSION]:
            raise self._damaged("it was written by another program, or by another version of this host")
        found = dict(self._db.execute("SELECT name, sql FROM sqlite_master LIMIT 10").fetchall())
        if found != _TABLES:
            raise self._damaged("its tables are not those that this host writes")

    def _checked(self, row: Sequence[Any]) -> Record:
        index, status, files, digest, seconds, worker, error = row
        texts = (files, digest, worker, "" if error is None else error)
        if not (
            status in _STATUSES
            and all(isinstance(text, str) for text in texts)
            and isinstance(seconds, float)
            and max(len(worker), len(texts[3])) <= _MAX_TEXT
            and index >= 0
            and _DIGEST.fullmatch(digest)
        ):
            raise self._damaged(f"the result of job {show(index)} is malformed")
        return Record(index, status, self._checked_files(index, files), digest, seconds, worker, error)

    def _checked_files(self, index: int, text: str) -> tuple[SavedFile, ...]:
        try:
            listed = parse_untrusted(text.encode("utf-8", "surrogatepass"))
            if not isinstance(listed, list) or len(listed) > _MAX_FILES:
                raise ValueError
            return tuple(_read_file(entry) for entry in listed)
        except (ValueError, TypeError) as error:
            raise self._damaged(f"the files of job {index} are malformed") from error

    def _damaged(self, reason: str) -> JournalError:
        return JournalError(f"{self.path} cannot be used as the journal of a sweep: {reason}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Hold the lock, and turn SQLite's errors into sentences."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _storable(text: str) -> str:
    """Return a text as the file can hold it: not too long, and without halves of surrogate pairs."""
    return shorten(text, _MAX_TEXT - 3).encode("utf-8", "replace").decode()


def _read_file(entry: Any) -> SavedFile:
    """Check one [name, size, digest]. Raises ValueError or TypeError."""
    name, size, digest = entry
    if type(size) is not int or size < 0 or not _DIGEST.fullmatch(digest):
        raise ValueError
    return SavedFile(plain_file_name(name), size, digest)


def _connect(path: Path, address: str) -> sqlite3.Connection:
    """Open the file, and take its lock for as long as it is open."""
    try:
        database = sqlite3.connect(
            address, uri=True, timeout=_LOCK_SECONDS, check_same_thread=False, isolation_level=None
        )
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    try:
        if address.endswith("=ro"):
            database.execute("PRAGMA trusted_schema=OFF")
            database.execute("SELECT count(*) FROM sqlite_master")
            return database
        # An exclusive holder needs no shared memory file, which network file systems do not have.
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("PRAGMA trusted_schema=OFF")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")  # a result costs one flush, a fraction of a millisecond on an SSD
        database.execute("PRAGMA journal_size_limit=16777216")
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.Error):
            raise _explained(path, error) from error
        raise
    return database


def _explained(path: Path, error: sqlite3.Error) -> JournalError:
    if "locked" in str(error):
        return JournalError(f"another process works on the sweep in {path.parent}; wait for it, or stop it first")
    return JournalError(f"the journal {path} cannot be used: {error}")
