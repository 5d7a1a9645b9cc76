"""Messages that the broker has not confirmed yet, mostly batches of results, in a SQLite file.

They outlive the broker's absence and the process's end.

Synchronous: one thread at a time, called by the shipper off the loop. A commit survives a kill of the process; it is handed to the disk
at SQLite's checkpoints (synchronous=NORMAL), because a flush ten times a second would cost more than a power cut within that second does.
"""

import sqlite3
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from prometheus_client import Counter, Gauge

from shared import topology
from shared.contracts.checks import CheckBatchV1

HELD = Gauge("sla_checker_spool_bytes", "Results that wait in the spool, in bytes")
GIVEN_UP = Counter("sla_checker_spool_given_up_total", "Results given up because the spool was full: the oldest go first")

SQL_TABLE = """
create table if not exists batch (
    position integer primary key autoincrement,   -- order of appending
    batch_id text    not null unique,
    results  integer not null,
    body     blob    not null
)"""
# Added later, so that a file of an older version keeps what it holds: nothing but batches of results was spooled then.
COLUMNS = {
    "exchange": f"text not null default '{topology.CHECKS}'",
    "routing_key": f"text not null default '{CheckBatchV1.TYPE}'",
}
SQL_COLUMNS = "select name from pragma_table_info('batch')"
SQL_APPEND = "insert into batch (batch_id, results, body, exchange, routing_key) values (?, ?, ?, ?, ?) on conflict do nothing"
SQL_BATCH = "select batch_id, results, body, exchange, routing_key from batch where position = ?"
SQL_FROM_OLDEST = "select position, batch_id from batch order by position"
SQL_FROM_NEWEST = "select position, batch_id from batch order by position desc"
SQL_DELETE = "delete from batch where batch_id = ?"
SQL_SIZE = "select coalesce(sum(length(body)), 0) from batch"
SQL_ENDS = "select position, results, length(body) from batch order by position"


class SpoolUnusable(Exception):  # noqa: N818  # says what is wrong
    """The spool's file cannot be opened; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One message to be: its id, how many results it holds, its bytes, and where it goes."""

    batch_id: str
    results: int
    body: bytes
    exchange: str = topology.CHECKS
    routing_key: str = CheckBatchV1.TYPE


class Spool:
    """The file, open for one process alone."""

    def __init__(self, path: Path, *, max_bytes: int, patience_s: float = 2.0) -> None:
        """Open or make the file, waiting a moment for a process that is just ending. Raises `SpoolUnusable`."""
        self._max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=patience_s)
            # Exclusive: two processes on one spool would publish and delete each other's batches.
            # auto_vacuum before the first page is written, or the file would keep the size of its longest outage.
            for setting in ("auto_vacuum = full", "locking_mode = exclusive", "journal_mode = wal", "synchronous = normal"):
                self._file.execute(f"pragma {setting}")
            self._file.execute(SQL_TABLE)
            self._add_columns()
            self._bytes = int(self._file.execute(SQL_SIZE).fetchone()[0])
        except (OSError, sqlite3.Error) as error:
            msg = f"spool {path}: {error}. One process has one spool; if the file is damaged, move it away and start again."
            raise SpoolUnusable(msg) from error
        HELD.set(self._bytes)

    def append(self, batch: Batch) -> int:
        """Add a batch, durably; give up the oldest where it would not fit, and return how many results went with them.

        Raises `sqlite3.Error` when the disk refuses.
        """
        self._file.execute("begin immediate")
        try:
            freed, lost = self._make_room(len(batch.body))
            added = self._file.execute(SQL_APPEND, (batch.batch_id, batch.results, batch.body, batch.exchange, batch.routing_key)).rowcount
            self._file.execute("commit")
        except sqlite3.Error:
            if self._file.in_transaction:
                self._file.execute("rollback")
            raise
        self._bytes += len(batch.body) * added - freed
        HELD.set(self._bytes)
        GIVEN_UP.inc(lost)
        return lost

    def oldest(self, limit: int, *, without: AbstractSet[str] = frozenset()) -> list[Batch]:
        """Return the oldest batches but those with the given ids, in order of appending."""
        return self._read(SQL_FROM_OLDEST, limit, without)

    def newest(self, limit: int, *, without: AbstractSet[str] = frozenset()) -> list[Batch]:
        """Return the newest batches but those with the given ids, the last appended first."""
        return self._read(SQL_FROM_NEWEST, limit, without)

    def delete(self, batches: list[Batch]) -> None:
        """Forget batches that the broker confirmed; those that are gone already are none the worse."""
        self._file.execute("begin immediate")
        try:
            gone = sum(len(one.body) for one in batches if self._file.execute(SQL_DELETE, (one.batch_id,)).rowcount)
            self._file.execute("commit")
        except sqlite3.Error:
            if self._file.in_transaction:
                self._file.execute("rollback")
            raise
        self._bytes -= gone
        HELD.set(self._bytes)

    @property
    def size_bytes(self) -> int:
        """How many bytes wait."""
        return self._bytes

    @property
    def has_room(self) -> bool:
        """Whether a tenth of it is free again."""
        return self._bytes < self._max_bytes * 0.9

    def close(self) -> None:
        """Close the file; what it holds is sent by the next process."""
        self._file.close()

    def __enter__(self) -> Self:
        """Use as a context that closes."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _read(self, positions: str, limit: int, without: AbstractSet[str]) -> list[Batch]:
        # Bodies are read of those only that are wanted: what is under way already may be many megabytes.
        wanted = list(islice((position for position, batch_id in self._file.execute(positions) if batch_id not in without), limit))
        return [Batch(*self._file.execute(SQL_BATCH, (position,)).fetchone()) for position in wanted]

    def _add_columns(self) -> None:
        there = {name for (name,) in self._file.execute(SQL_COLUMNS)}
        for name, definition in COLUMNS.items():
            if name not in there:
                self._file.execute(f"alter table batch add column {name} {definition}")

    def _make_room(self, needed: int) -> tuple[int, int]:
        """Delete the oldest until `needed` bytes fit; return bytes freed and results lost."""
        freed = lost = last = 0
        excess = self._bytes + needed - self._max_bytes
        if excess <= 0:
            return 0, 0
        for position, results, size in self._file.execute(SQL_ENDS):
            freed, lost, last = freed + size, lost + results, position
            if freed >= excess:
                break
        self._file.execute("delete from batch where position <= ?", (last,))
        return freed, lost
