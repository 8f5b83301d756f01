"""All or nothing, for one SQLite connection that several threads use."""

from __future__ import annotations

import sqlite3
import threading

__all__ = ["Transaction"]


class Transaction:
    """All or nothing, with the lock held. IMMEDIATE: a writer waits for its turn instead of failing at commit."""

    def __init__(self, lock: threading.RLock, db: sqlite3.Connection) -> None:
        self._lock, self._db = lock, db

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self._lock.release()
