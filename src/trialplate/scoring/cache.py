"""Answers on disk: one SQLite file that several processes may use at once. It maps a key to bytes and knows nothing of models.

Keys come from `answer_key` and cover the answering model and the whole request, so two models never share an entry. Every entry carries a checksum:
a damaged file is an error, never a wrong answer."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SCHEMA = 1
_APPLICATION_ID = 0x74726C70  # "trlp": tells our files from other SQLite files
_AT_ONCE = 500
_WAIT_SECONDS = 60.0


class CacheError(RuntimeError):
    """The cache file is damaged, belongs to something else, or cannot be used."""


def answer_key(responder: str, kind: str, request: bytes) -> bytes:
    """Key of one answer. Every part is hashed by itself first, so that no two triples run together."""
    digest = hashlib.sha256()
    for part in (responder.encode(), kind.encode(), request):
        digest.update(hashlib.sha256(part).digest())
    return digest.digest()


class ResponseCache:
    """The cache in the file at `path`, made with its folder if absent. Raises CacheError for a file that is damaged or not ours.

    Use it in one thread. A forked child opens its own connection."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        # Connections of the parent, kept and never closed by a forked child: closing would tidy up files that the parent uses.
        self._inherited: list[sqlite3.Connection] = []
        self._connect()

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored answers among those asked for."""
        found: dict[bytes, bytes] = {}
        with self._speaking() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value, checksum FROM answer WHERE key IN ({marks})"
                for key, value, checksum in connection.execute(query, part):
                    if _checksum(key, value) != checksum:
                        raise CacheError(self._text("holds an entry that was changed after it was written"))
                    found[key] = value
        return found

    def store(self, answers: Mapping[bytes, bytes]) -> None:
        """Add answers, all or none; a key that is there already keeps its answer."""
        if not answers:
            return
        rows = [(key, value, _checksum(key, value)) for key, value in answers.items()]
        with self._speaking() as connection, connection:
            connection.executemany("INSERT OR IGNORE INTO answer VALUES (?, ?, ?)", rows)

    def __len__(self) -> int:
        with self._speaking() as connection:
            return int(connection.execute("SELECT count(*) FROM answer").fetchone()[0])

    def close(self) -> None:
        """Let go of the file; it is opened again when needed."""
        self._leave_to_parent()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _leave_to_parent(self) -> None:
        if self._connection is not None and self._pid != os.getpid():
            self._inherited.append(self._connection)
            self._connection = None

    @contextmanager
    def _speaking(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._connect()
        except sqlite3.Error as error:
            raise CacheError(self._text(f"cannot be used ({error})")) from error

    def _connect(self) -> sqlite3.Connection:
        self._leave_to_parent()
        if self._connection is not None:
            return self._connection
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS)
            self._prepare(connection)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(self._text(f"cannot be opened as a cache ({error})")) from error
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.execute("BEGIN IMMEDIATE")  # of two processes that find an empty file, one makes the table
            found = (_pragma(connection, "application_id"), _pragma(connection, "user_version"))
            is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if is_empty and found == (0, 0):
                connection.execute(
                    "CREATE TABLE answer (key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
                )
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            elif found[0] != _APPLICATION_ID:
                raise CacheError(self._text("is an SQLite file of another program"))
            elif found[1] != SCHEMA:
                raise CacheError(self._text(f"has schema {found[1]}, this release reads and writes schema {SCHEMA}"))
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    def _text(self, problem: str) -> str:
        return f"response cache {self.path} {problem}; wanted a file that a ResponseCache wrote. Delete it, or name another file: answers will be computed again."


def _checksum(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and a writer at once. Switching needs the file for itself, and SQLite does not wait for that on its own."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
