"""Each service's role is refused on everything that is not its own: tried, one statement after the other, on the migrated database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from infra.ops.database import SERVICES, role
from shared.database import Connection
from tests.servers import Database

SQL_TABLES = """
select schemaname as schema, tablename as name
  from pg_tables where schemaname = any($1::text[]) order by 1, 2"""
SQL_SEQUENCES = "select schemaname as schema, sequencename as name from pg_sequences where schemaname = any($1::text[])"
SQL_FUNCTIONS = """
select n.nspname as schema, p.proname as name, p.oid::regprocedure::text as signature
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any($1::text[])"""
SQL_COLUMNS = """
select table_schema as schema, table_name as table, column_name as name
  from information_schema.columns where table_schema = any($1::text[]) and column_name = any($2::text[])"""
SECRETS = ("password_hash", "token", "token_hash", "session_hash", "key_hash", "secret")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Connect with the role of a URL."""
    conn = await asyncpg.connect(url)
    try:
        yield conn
    finally:
        await conn.close()


async def attempts(admin: Connection, schema: str) -> list[str]:
    """Return every kind of touch on everything in a schema."""
    tables = [f'"{schema}"."{row["name"]}"' for row in await admin.fetch(SQL_TABLES, [schema])]
    assert len(tables) > 3, f"{schema} has hardly a table: nothing would be shown"
    found = [f"create table {schema}.planted (id int)", f"create function {schema}.planted() returns int language sql as 'select 1'"]
    for table in tables:
        found += [
            f"select * from {table} limit 1",
            f"select count(*) from {table}",
            f"insert into {table} default values",
            f"delete from {table}",
            f"truncate {table}",
            f"drop table {table} cascade",
            f"alter table {table} add column planted int",
            f"grant select on {table} to public",
            f"lock table {table} in access exclusive mode",
        ]
    found += [f"select nextval('{row['schema']}.{row['name']}')" for row in await admin.fetch(SQL_SEQUENCES, [schema])]
    functions = await admin.fetch(SQL_FUNCTIONS, [schema])
    found += [f"drop function {row['signature']} cascade" for row in functions]
    return found


async def breaches(conn: Connection, statements: list[str]) -> list[str]:
    """Return the statements that were not refused for want of rights; nothing of them stays."""
    done = []
    for statement in statements:
        attempt = conn.transaction()
        await attempt.start()
        try:
            await conn.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            continue
        except asyncpg.PostgresError as error:
            done.append(f"{statement}: got as far as {type(error).__name__}")
        else:
            done.append(statement)
        finally:
            await attempt.rollback()
    return done


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_is_refused_on_every_other_schema(service: str, database: Database) -> None:
    """Seen red with `grant usage on schema … to public` and `grant select` in infra/ops/database.py; see also the planted grants below."""
    async with connected(database.admin_url) as admin, connected(database.url(service)) as conn:
        for other in SERVICES:
            if other != service:
                assert await breaches(conn, await attempts(admin, other)) == []
                assert await breaches(conn, [f"set role {role(other)}", f"create schema {other}_too"]) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_use_what_is_its_own(service: str, database: Database) -> None:
    """So that the refusals above are about whose it is, and not about everything."""
    async with connected(database.admin_url) as admin, connected(database.url(service)) as conn:
        tables = [row["name"] for row in await admin.fetch(SQL_TABLES, [service])]
        for table in tables:
            await conn.execute(f'select count(*) from "{table}"')
        assert {"outbox", "inbox"} <= set(tables)


@pytest.mark.parametrize("service", SERVICES)
async def test_nobody_makes_anything_in_public_or_in_other_databases(service: str, database: Database) -> None:
    async with connected(database.url(service)) as conn:
        statements = ["create table public.planted (id int)", "create schema planted", "create database planted", "create role planted"]
        outside = [statement for statement in await breaches(conn, statements) if "ActiveSQLTransaction" not in statement]
        assert outside == []


@pytest.mark.parametrize(
    ("grant", "caught"),
    [
        (
            "grant usage on schema incidents to sla_checker; grant select on incidents.outbox to sla_checker",
            'select * from "incidents"."outbox" limit 1',
        ),
        (
            "grant create on schema incidents to sla_checker; grant usage on schema incidents to sla_checker",
            "create table incidents.planted (id int)",
        ),
    ],
)
async def test_a_planted_grant_is_caught(grant: str, caught: str, database: Database) -> None:
    async with connected(database.admin_url) as admin, connected(database.url("checker")) as conn:
        await admin.execute(grant)
        assert caught in await breaches(conn, await attempts(admin, "incidents"))


async def test_the_reports_role_reads_every_schema_and_writes_nowhere(database: Database) -> None:
    async with connected(database.admin_url) as admin, connected(database.url("readonly")) as conn:
        await conn.execute("set default_transaction_read_only to off")  # a courtesy to itself that protects nothing
        for row in await admin.fetch(SQL_TABLES, list(SERVICES)):
            table = f'"{row["schema"]}"."{row["name"]}"'
            assert await breaches(conn, [f"insert into {table} default values", f"delete from {table}", f"truncate {table}"]) == []
        for table in ("services", "uptime_records", "incident", "system_status"):
            await conn.execute(f"select count(*) from {table}")


async def test_the_reports_role_sees_no_password_and_no_token(database: Database) -> None:
    """Seen red without `_hide_secrets`: gateway.users.password_hash could be read."""
    async with connected(database.admin_url) as admin, connected(database.url("readonly")) as conn:
        hidden = await admin.fetch(SQL_COLUMNS, list(SERVICES), list(SECRETS))
        assert hidden, "there is nothing to hide: nothing is shown"
        statements = [f'select "{row["name"]}" from "{row["schema"]}"."{row["table"]}"' for row in hidden]
        assert await breaches(conn, statements) == []
