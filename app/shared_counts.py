"""Counts that all workers of a service share, for Flask-Limiter: SQLite in its folder in memory."""

import os
import sqlite3
import time
from typing import Any

from limits.storage import Storage

SCHEME = "metaplastic-shared"
_CLEAN_EVERY = 1000  # additions

_TABLE = "CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INT, expiry REAL)"
_ADD = """
INSERT INTO counts VALUES (:key, :amount, :expiry) ON CONFLICT (key) DO UPDATE SET
    count = :amount + CASE WHEN expiry > :now THEN count ELSE 0 END,
    expiry = CASE WHEN expiry > :now THEN expiry ELSE :expiry END
RETURNING count"""


class SharedCounts(Storage):
    """Windows of fixed length: for each key a count, and the time when it ends."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012

    def __init__(self, uri: str, wrap_exceptions: bool = False, **_: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.path = uri.partition("://")[2]
        self._connection: tuple[int, sqlite3.Connection] | None = None
        self._additions = 0

    @property
    def base_exceptions(self) -> type[Exception]:
        return sqlite3.Error

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """The count of `key` with `amount` added; a new window lasts `expiry` seconds."""
        now = time.time()
        values = {"key": key, "amount": amount, "now": now, "expiry": now + expiry}
        self._additions += 1
        if self._additions % _CLEAN_EVERY == 0:
            self._ask("DELETE FROM counts WHERE expiry <= :now", values)
        return int(self._ask(_ADD, values)[0])

    def get(self, key: str) -> int:
        values = {"key": key, "now": time.time()}
        row = self._ask("SELECT count FROM counts WHERE key = :key AND expiry > :now", values)
        return int(row[0]) if row else 0

    def get_expiry(self, key: str) -> float:
        row = self._ask("SELECT expiry FROM counts WHERE key = :key", {"key": key})
        return float(row[0]) if row else time.time()

    def check(self) -> bool:
        return bool(self._ask("SELECT 1", {}))

    def reset(self) -> int | None:
        self._ask("DELETE FROM counts", {})
        return None

    def clear(self, key: str) -> None:
        self._ask("DELETE FROM counts WHERE key = :key", {"key": key})

    def _ask(self, statement: str, values: dict[str, Any]) -> Any:
        """The first row of the answer."""
        rows = self._open().execute(statement, values).fetchall()
        return rows[0] if rows else None

    def _open(self) -> sqlite3.Connection:
        """The connection of this process: one cannot be carried through a fork."""
        if self._connection is None or self._connection[0] != os.getpid():
            connection = sqlite3.connect(
                self.path, timeout=1, isolation_level=None, check_same_thread=False
            )
            # It ends with the service, so nothing of it has to survive anything.
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute(_TABLE)
            self._connection = os.getpid(), connection
        return self._connection[1]
