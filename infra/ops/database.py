"""The database as a whole: one database, a schema and a login role per service, and nothing allowed that was not granted.

Each service's tables are its own business: its migrations run as its own role. Here is only what no service may do for itself.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import asyncpg

from infra.ops.errors import OpsError
from shared import migrate as migrations
from shared.database import TRANSIENT, Connection, backoff

SERVICES = ("checker", "aggregator", "incidents", "gateway")
"""Each has a schema of its name and a role `sla_<name>`."""
READONLY = "readonly"
"""Role `sla_readonly`: reads every schema, for reports; sees no password and no token."""
ROLES = (*SERVICES, READONLY)

_HIDDEN = ("password_hash", "token", "token_hash", "session_hash", "key_hash", "secret")
_LOCK_KEY = 7_352_001

SQL_LOCK = "select pg_advisory_lock($1)"  # let go of when the connection closes
SQL_ROLE_EXISTS = "select exists (select from pg_roles where rolname = $1)"
SQL_DATABASE_EXISTS = "select exists (select from pg_database where datname = $1)"
SQL_FORMAT = "select format($1, variadic $2::text[])"  # the server quotes names and literals where a statement takes no parameters
SQL_IS_SUPERUSER = "select rolsuper from pg_roles where rolname = current_user"
SQL_APPLIED = 'select source, name, checksum from "{schema}".schema_migration'
SQL_HIDING = """
select table_schema, table_name,
       string_agg(quote_ident(column_name), ', ' order by ordinal_position) filter (where not column_name = any($2::text[])) as visible
  from information_schema.columns
 where table_schema = any($1::text[])
 group by table_schema, table_name
having bool_or(column_name = any($2::text[]))"""


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How far one service's schema is; `missing` names what is still to be applied."""

    service: str
    applied: int
    missing: tuple[str, ...]


def role(service: str) -> str:
    """Return the login role of a service."""
    return f"sla_{service}"


def migrations_folder(service: str) -> Path:
    """Return where a service keeps its SQL."""
    return Path(__file__).parents[2] / "services" / service / "migrations"


def with_credentials(url: str, *, user: str, password: str, database: str | None = None) -> str:
    """Return the URL of the same server for another role, and for another database if one is named."""
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port or 5432}"
    path = parts.path if database is None else f"/{quote(database, safe='')}"
    return urlunsplit((parts.scheme, f"{quote(user, safe='')}:{quote(password, safe='')}@{host}", path, parts.query, ""))


def database_name(url: str) -> str:
    """Return the database that a URL names; raises OpsError if it names none."""
    name = unquote(urlsplit(url).path.lstrip("/"))
    if not name:
        message = "the admin database URL names no database: add one, as in postgresql://user:password@host:5432/sla_monitor"
        raise OpsError(message)
    return name


async def migrate(admin_url: str, passwords: Mapping[str, str]) -> dict[str, list[str]]:
    """Bring database, roles, rights and every service's tables up to date; returns the files applied per service.

    May run any number of times and several at once: they take turns. Passwords of existing roles become the given ones.
    Raises OpsError when the server cannot be reached within a minute, CannotStart for a schema that does not fit this code.
    """
    name = database_name(admin_url)
    async with _connected(_maintenance(admin_url)) as keeper:
        await keeper.execute(SQL_LOCK, _LOCK_KEY)
        for service in ROLES:
            await _ensure_role(keeper, service, passwords[service])
        if not await keeper.fetchval(SQL_DATABASE_EXISTS, name):
            await _execute(keeper, "create database %I encoding 'UTF8' template template0", name)
        await guard(keeper, name)
        async with _connected(admin_url) as conn:
            await _ensure_schemas(conn)
            applied = {
                service: await migrations.migrate(conn, schema=service, role=role(service), folder=migrations_folder(service))
                for service in SERVICES
            }
            await _allow_reading(conn)
    return applied


async def guard(conn: Connection, name: str) -> None:
    """Let nobody but our roles into a database. Needed for each copy: a copy of a database does not inherit its rights."""
    await _execute(conn, "revoke all on database %I from public", name)
    for service in SERVICES:
        await _execute(conn, "grant connect, temporary on database %I to %I", name, role(service))
    await _execute(conn, "grant connect on database %I to %I", name, role(READONLY))


async def status(admin_url: str) -> list[SchemaStatus]:
    """Return how far each schema is; raises OpsError when the database cannot be reached."""
    found = []
    async with _connected(admin_url) as conn:
        for service in SERVICES:
            known = migrations.files(service, migrations_folder(service))
            try:
                rows = await conn.fetch(SQL_APPLIED.format(schema=service))
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                rows = []
            applied = {(row["source"], row["name"]): row["checksum"] for row in rows}
            missing = migrations.pending(service, known, applied)
            found.append(SchemaStatus(service, len(applied), tuple(one.name for one in missing)))
    return found


async def _ensure_role(conn: Connection, service: str, password: str) -> None:
    name = role(service)
    verb = "alter" if await conn.fetchval(SQL_ROLE_EXISTS, name) else "create"
    await _execute(conn, f"{verb} role %I login nosuperuser nocreatedb nocreaterole password %L", name, password)
    if service == READONLY:
        await _execute(conn, f"alter role %I set search_path to {', '.join(SERVICES)}", name)
        await _execute(conn, "alter role %I set default_transaction_read_only to on", name)
        return
    await _execute(conn, "alter role %I set search_path to %I", name, service)
    if not await conn.fetchval(SQL_IS_SUPERUSER):
        await _execute(conn, "grant %I to current_user", name)  # to make things in its name


async def _ensure_schemas(conn: Connection) -> None:
    await conn.execute("revoke all on schema public from public")
    for service in SERVICES:
        own = role(service)
        await _execute(conn, "create schema if not exists %I authorization %I", service, own)
        await _execute(conn, "revoke all on schema %I from public", service)
        await _execute(conn, "alter default privileges for role %I revoke execute on functions from public", own)


async def _allow_reading(conn: Connection) -> None:
    """Let the reports' role read, after each migration and in one step: there is no moment in which it could read a password.

    No default privileges for it, for the same reason. Partitions made later are read through their table, which is granted.
    """
    reader = role(READONLY)
    async with conn.transaction():
        for service in SERVICES:
            await _execute(conn, "grant usage on schema %I to %I", service, reader)
            await _execute(conn, "grant select on all tables in schema %I to %I", service, reader)
        await _hide_secrets(conn)


async def _hide_secrets(conn: Connection) -> None:
    """Take passwords and tokens out of what the reports' role may read; the other columns of those tables stay."""
    for row in await conn.fetch(SQL_HIDING, list(SERVICES), list(_HIDDEN)):
        schema, table, reader = row["table_schema"], row["table_name"], role(READONLY)
        await _execute(conn, "revoke select on %I.%I from %I", schema, table, reader)
        if row["visible"]:
            await _execute(conn, f"grant select ({row['visible']}) on %I.%I to %I", schema, table, reader)


async def _execute(conn: Connection, template: str, *names: str) -> None:
    """Run a statement whose names (%I) and literals (%L) are filled in by the server."""
    await conn.execute(await conn.fetchval(SQL_FORMAT, template, list(names)))


def _maintenance(url: str) -> str:
    """Return the URL of the database that every server has: roles are made and locks are held there, whatever the product's is called."""
    return urlunsplit(urlsplit(url)._replace(path="/postgres"))


@asynccontextmanager
async def _connected(url: str, *, patience_s: float = 60) -> AsyncIterator[Connection]:
    """Connect, waiting for a server that is still starting; raises OpsError."""
    try:
        conn = await _connect(url, patience_s)
    except (TimeoutError, OSError) as error:
        parts = urlsplit(url)
        message = f"PostgreSQL at {parts.hostname}:{parts.port or 5432} does not answer ({error or 'no answer in time'})"
        raise OpsError(message) from error
    except asyncpg.PostgresError as error:
        message = f"PostgreSQL refuses: {error}"
        raise OpsError(message) from error
    try:
        yield conn
    finally:
        await conn.close()


async def _connect(url: str, patience_s: float) -> Connection:
    last: Exception | None = None
    try:
        async with asyncio.timeout(patience_s):
            for wait in backoff(most_s=1.0):
                try:
                    return await asyncpg.connect(url, timeout=5)
                except TRANSIENT as error:
                    last = error
                    await asyncio.sleep(wait)
    except TimeoutError:
        raise last or TimeoutError from None
    raise AssertionError  # the waits have no end
