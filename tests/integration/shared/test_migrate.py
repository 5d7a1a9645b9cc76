"""Migrations on a real database: in order, once, whoever comes, and never guessed at."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from shared.database import Connection, open_pool
from shared.health import Health
from shared.migrate import SchemaRefused, migrate, wait_for_schema
from tests.servers import Database
from tests.waiting import until

SCHEMA = "trial"
ROLE = "sla_checker"
SHARED = ("0001_messaging.sql", "0002_sending.sql")
TABLES = """
select string_agg(table_name, ' ' order by table_name)
  from information_schema.tables where table_schema = 'trial' and table_name like 't%'"""


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    """A superuser's connection to a database with an empty schema."""
    conn = await asyncpg.connect(database.admin_url)
    await conn.execute(f"create schema {SCHEMA} authorization {ROLE}")
    yield conn
    await conn.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("create table t1 (id int);", encoding="utf-8")
    (tmp_path / "0002_second.sql").write_text("alter table t1 add column name text; create table t2 ();", encoding="utf-8")
    return tmp_path


async def run(conn: Connection, folder: Path) -> list[str]:
    return await migrate(conn, schema=SCHEMA, role=ROLE, folder=folder)


async def test_files_are_applied_in_order_once_and_belong_to_the_role(admin: Connection, folder: Path) -> None:
    """Seen red without `set local role`: everything belonged to the superuser, and the service could not use it."""
    assert await run(admin, folder) == [*SHARED, "0001_first.sql", "0002_second.sql"]
    assert await run(admin, folder) == []
    owners = await admin.fetch("select distinct tableowner from pg_tables where schemaname = 'trial'")
    assert [row["tableowner"] for row in owners] == [ROLE]


async def test_an_edited_file_is_refused_and_nothing_is_applied(admin: Connection, folder: Path) -> None:
    """Seen red without the comparison of checksums."""
    await run(admin, folder)
    (folder / "0001_first.sql").write_text("create table t1 (id bigint);", encoding="utf-8")
    (folder / "0003_third.sql").write_text("create table t3 ();", encoding="utf-8")
    with pytest.raises(SchemaRefused, match=r"0001_first\.sql of schema trial was edited"):
        await run(admin, folder)
    assert await admin.fetchval(TABLES) == "t1 t2"


async def test_a_newer_schema_is_refused(admin: Connection, folder: Path) -> None:
    """Seen red without the look for unknown files: an old version went to work on tables that it does not know."""
    await run(admin, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(SchemaRefused, match=r"has 0002_second\.sql, which this version does not know"):
        await run(admin, folder)


async def test_a_name_without_a_place_in_the_order_is_refused(admin: Connection, folder: Path) -> None:
    (folder / "extra.sql").write_text("select 1", encoding="utf-8")
    with pytest.raises(SchemaRefused, match=r"extra\.sql: a migration is named NNNN_what\.sql"):
        await run(admin, folder)


async def test_a_file_that_fails_leaves_nothing_of_itself_and_keeps_what_was_before(admin: Connection, folder: Path) -> None:
    """Seen red without the transaction around each file."""
    (folder / "0003_broken.sql").write_text("create table t3 (); select nothing from nowhere;", encoding="utf-8")
    with pytest.raises(asyncpg.UndefinedTableError):
        await run(admin, folder)
    assert await admin.fetchval(TABLES) == "t1 t2"
    (folder / "0003_broken.sql").write_text("create table t3 ();", encoding="utf-8")
    assert await run(admin, folder) == ["0003_broken.sql"]


@pytest.mark.usefixtures("admin")
async def test_replicas_that_migrate_at_once_apply_each_file_once(database: Database, folder: Path) -> None:
    """Seen red without the advisory lock: all but one failed with "already exists"."""
    (folder / "0003_slow.sql").write_text("select pg_sleep(0.2); create table t3 ();", encoding="utf-8")
    connections = [await asyncpg.connect(database.admin_url) for _ in range(5)]
    try:
        done = await asyncio.gather(*(run(conn, folder) for conn in connections))
    finally:
        for conn in connections:
            await conn.close()
    assert sorted(done, key=len) == [[], [], [], [], [*SHARED, "0001_first.sql", "0002_second.sql", "0003_slow.sql"]]


async def test_a_service_waits_for_its_schema_and_says_for_which_file(database: Database, admin: Connection, folder: Path) -> None:
    """Seen red with `wait_for_schema` returning at the first look."""
    health = Health("test")
    async with open_pool(database.url("checker"), name="test", health=health) as pool:
        waiting = asyncio.create_task(wait_for_schema(pool, schema=SCHEMA, folder=folder, health=health))

        async def says() -> str | None:
            return (await health.reasons()).get("schema")

        said = await until(says, within_s=5, what="a reason")
        assert said == "waiting for 0001_messaging.sql: run `sla-monitor db migrate`"
        assert not waiting.done()
        await run(admin, folder)
        async with asyncio.timeout(5):
            await waiting
        assert await says() is None


async def test_a_service_refuses_to_start_on_a_newer_schema(database: Database, admin: Connection, folder: Path) -> None:
    await run(admin, folder)
    (folder / "0002_second.sql").unlink()
    health = Health("test")
    async with open_pool(database.url("checker"), name="test", health=health) as pool:
        with pytest.raises(SchemaRefused, match="belongs to a newer one"):
            await wait_for_schema(pool, schema=SCHEMA, folder=folder, health=health)
