"""The tables of the job store."""

from __future__ import annotations

__all__ = ["SCHEMA", "SCHEMA_VERSION"]

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    number REAL NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    create_time INTEGER NOT NULL,
    start_time INTEGER,
    end_time INTEGER,
    done_seq INTEGER,
    workflow_id TEXT,
    prompt TEXT NOT NULL,
    extra_data TEXT NOT NULL,
    targets TEXT NOT NULL,
    result TEXT,
    summary TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number, seq);
CREATE INDEX IF NOT EXISTS jobs_by_done ON jobs (done_seq);
"""
