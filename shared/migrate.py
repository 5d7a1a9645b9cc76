"""Ordered SQL files, applied once each, forward only.

Every schema gets shared/migrations first, then its service's own. A file that was applied is never edited: its checksum is kept.
A schema that holds a file unknown to this code belongs to a newer version, and is refused rather than guessed at.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shared.database import TRANSIENT, Connection, Pool, backoff
from shared.health import Health
from shared.runtime import CannotStart

SHARED = Path(__file__).parent / "migrations"
_NAME = re.compile(r"^\d{4}_[a-z0-9_]+\.sql$")

SQL_TABLE = """
create table if not exists schema_migration (
    source     text        not null,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default now(),
    primary key (source, name)
)"""
SQL_APPLIED = "select source, name, checksum from schema_migration"
SQL_RECORD = "insert into schema_migration (source, name, checksum) values ($1, $2, $3)"
SQL_LOCK = "select pg_advisory_lock(hashtext('sla-monitor migrate'), hashtext($1))"
SQL_UNLOCK = "select pg_advisory_unlock(hashtext('sla-monitor migrate'), hashtext($1))"

NOT_MIGRATED: tuple[type[Exception], ...] = (
    *TRANSIENT,
    asyncpg.UndefinedTableError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InsufficientPrivilegeError,
)


class SchemaRefused(CannotStart):
    """The schema and this code do not fit each other; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `source` is `shared` or the schema's name."""

    source: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, so that an edit is seen."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def files(schema: str, folder: Path) -> list[Migration]:
    """Return the migrations of a schema, in order. Raises `SchemaRefused` for a file whose name has no place in the order."""
    found = []
    for source, place in (("shared", SHARED), (schema, folder)):
        for path in sorted(place.glob("*.sql")):
            if not _NAME.match(path.name):
                msg = f"{path.name}: a migration is named NNNN_what.sql"
                raise SchemaRefused(msg)
            found.append(Migration(source, path.name, path.read_text(encoding="utf-8")))
    return found


def pending(schema: str, known: list[Migration], applied: dict[tuple[str, str], str]) -> list[Migration]:
    """Return what is still to be applied. Raises `SchemaRefused` where an applied file was edited or is unknown."""
    ours = {(one.source, one.name): one for one in known}
    for key, checksum in applied.items():
        if key not in ours:
            msg = (
                f"schema {schema} has {key[1]}, which this version does not know: it belongs to a newer one. "
                "Start that version, or restore a backup."
            )
            raise SchemaRefused(msg)
        if ours[key].checksum != checksum:
            msg = f"{key[1]} of schema {schema} was edited after it had been applied. Restore the file and add a new one instead."
            raise SchemaRefused(msg)
    return [one for one in known if (one.source, one.name) not in applied]


async def migrate(conn: Connection, *, schema: str, role: str, folder: Path) -> list[str]:
    """Apply what is pending as `role`, each file in a transaction; return the names. Replicas that do so at once take turns."""
    known = files(schema, folder)
    await conn.execute(SQL_LOCK, schema)
    try:
        async with conn.transaction():
            await _become(conn, schema, role)
            await conn.execute(SQL_TABLE)
        done = []
        for migration in pending(schema, known, await _applied(conn, schema)):
            async with conn.transaction():
                await _become(conn, schema, role)
                await conn.execute(migration.sql)
                await conn.execute(SQL_RECORD, migration.source, migration.name, migration.checksum)
            done.append(migration.name)
        return done
    finally:
        await conn.execute(SQL_UNLOCK, schema)


async def _become(conn: Connection, schema: str, role: str) -> None:
    await conn.execute(f'set local role "{role}"')
    await conn.execute(f'set local search_path to "{schema}"')


async def _applied(conn: Connection, schema: str) -> dict[tuple[str, str], str]:
    rows = await conn.fetch(SQL_APPLIED.replace("schema_migration", f'"{schema}".schema_migration'))
    return {(row["source"], row["name"]): row["checksum"] for row in rows}


async def wait_for_schema(pool: Pool, *, schema: str, folder: Path, health: Health) -> None:
    """Return once the schema is what this code needs. Raises `SchemaRefused` if it never can be."""
    known = files(schema, folder)
    for wait in backoff(first_s=0.2, most_s=1.0):
        try:
            async with pool.acquire() as conn:
                missing = pending(schema, known, await _applied(conn, schema))
        except NOT_MIGRATED:
            missing = known
        if not missing:
            break
        health.set("schema", ok=False, reason=f"waiting for {missing[0].name}: run `sla-monitor db migrate`")
        await asyncio.sleep(wait)
    health.set("schema", ok=True)
