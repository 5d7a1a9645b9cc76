"""What a checker needs to go on after a restart while the database is away: its name, its shards and the definitions, as last known.

A SQLite file beside the spool, one process's alone as the spool is. Definitions lie there as in the database: secrets sealed. It is a
copy: a file that cannot be read is begun anew.
"""

import asyncio
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from services.checker.changes import Wanted
from shared.clock import Clock
from shared.telemetry import logger

WRITE_EVERY_S = 2.0
SETTLED_MS = 250
"""What came due later than this ago may still run: it is not taken for looked at."""

SQL_TABLES = """
create table if not exists definition (id text primary key, body text not null) without rowid;
create table if not exists fact (name text primary key, value text not null) without rowid;
"""
SQL_FACT = "select value from fact where name = ?"
SQL_SET_FACT = "insert into fact (name, value) values (?, ?) on conflict (name) do update set value = excluded.value"
SQL_DEFINITIONS = "select body from definition"
SQL_IDS = "select id from definition"
SQL_WRITE = "insert into definition (id, body) values (?, ?) on conflict (id) do update set body = excluded.body"
SQL_FORGET = "delete from definition where id = ?"

log = logger(__name__)


class Remembered:
    """The file, and what is not written to it yet."""

    def __init__(self, path: Path, *, region: str, new_name: str, clock: Clock) -> None:
        """Open or make the file. `new_name` is this checker's name unless it has one; what another region left there is forgotten."""
        try:
            self._file = _opened(path)
        except sqlite3.DatabaseError as error:
            log.warning("what was remembered cannot be read and is begun anew", path=str(path), reason=str(error))
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            self._file = _opened(path)
        if self._fact("region") != region:
            self._file.executescript("delete from definition; delete from fact;")
            self._set("region", region)
        self.checker = self._fact("checker") or new_name
        self._set("checker", self.checker)
        self._clock = clock
        self._definitions: dict[str, Wanted | None] = {}
        self._shards: Mapping[int, int] | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="remembered")

    def definitions(self) -> list[Wanted]:
        """Return the definitions that were known."""
        return [Wanted(**json.loads(body)) for (body,) in self._file.execute(SQL_DEFINITIONS)]

    def shards(self) -> dict[int, int]:
        """Return the shards that were held, each with the moment (ms) up to which its slots were looked at."""
        covered = int(self._fact("covered_until") or 0)
        return {int(shard): max(done, covered) for shard, done in json.loads(self._fact("shards") or "{}").items()}

    def note(self, changed: Iterable[Wanted], gone: Iterable[str]) -> None:
        """Remember these definitions, and forget those."""
        self._definitions.update((one.id, one) for one in changed)
        self._definitions.update((service_id, None) for service_id in gone)

    def note_only(self, ids: Collection[str]) -> None:
        """Forget all definitions but these."""
        self._definitions.update((service_id, None) for (service_id,) in self._file.execute(SQL_IDS).fetchall() if service_id not in ids)

    def note_shards(self, held: Mapping[int, int]) -> None:
        """Remember which shards are held."""
        self._shards = dict(held)

    async def run(self) -> None:
        """Write what changed, and up to when slots were looked at, every few seconds for ever."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write what changed since the last time. While the disk refuses it is kept, and tried again."""
        definitions, self._definitions = self._definitions, {}
        shards, self._shards = self._shards, None
        covered_ms = int(self._clock().timestamp() * 1000) - SETTLED_MS
        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, self._write, definitions, shards, covered_ms)
        except sqlite3.Error as error:
            log.warning("what is known cannot be written down for the next start; tried again", reason=str(error))
            self._definitions = definitions | self._definitions
            self._shards = self._newest(shards)

    def _newest(self, unwritten: Mapping[int, int] | None) -> Mapping[int, int] | None:
        return unwritten if self._shards is None else self._shards

    def close(self) -> None:
        """Close the file."""
        self._disk.shutdown(wait=True)
        self._file.close()

    def __enter__(self) -> Self:
        """Use as a context that closes."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _write(self, definitions: Mapping[str, Wanted | None], shards: Mapping[int, int] | None, covered_ms: int) -> None:
        with self._file:
            self._file.execute("begin")
            self._file.executemany(SQL_WRITE, ((one.id, json.dumps(asdict(one))) for one in definitions.values() if one is not None))
            self._file.executemany(SQL_FORGET, ((service_id,) for service_id, one in definitions.items() if one is None))
            if shards is not None:
                self._set("shards", json.dumps(shards))
            self._set("covered_until", str(covered_ms))

    def _fact(self, name: str) -> str | None:
        row = self._file.execute(SQL_FACT, (name,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, name: str, value: str) -> None:
        self._file.execute(SQL_SET_FACT, (name, value))


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2.0)
    for setting in ("journal_mode = wal", "synchronous = normal"):
        file.execute(f"pragma {setting}")
    file.executescript(SQL_TABLES)
    return file
