"""An installation of an earlier version is upgraded with its data, and what was known then is history afterwards."""

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from services.aggregator import days, replays
from services.aggregator.upkeep import Upkeep, close_days, roll_up
from shared.contracts.commands import UptimeQuery
from shared.database import Connection, Pool, open_pool
from shared.health import Health
from shared.migrate import migrate
from tests.servers import Database

MIGRATIONS = Path(__file__).parents[3] / "services" / "aggregator" / "migrations"
BEFORE_HISTORY = ("0001_aggregator.sql", "0002_degraded_confirmations_regions_calls.sql")
BEFORE_PAUSES = (*BEFORE_HISTORY, "0003_history.sql", "0004_recheck.sql", "0005_whole.sql")
READ_TODAY = ("0011_what_silence_keeps.sql",)  # by the code that stands here in the place of the earlier version's
ZONE = ZoneInfo("UTC")
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
CREATED = TODAY - 9 * DAY
SQL_SERVICE = "insert into service (id, version, is_active, created_at, check_interval) values ($1, 3, $2, $3, 3600000)"
SQL_INTERVAL = """
insert into status_interval (service_id, version, status, started_at, detected_at, ended_at, evidence)
values ($1, $2, $3, $4, $4, $5, '{}')"""
SQL_CHECKS = """
insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time)
select gen_random_uuid(), $1, 'eu', at, at, 'healthy', true, 20 from generate_series($2, $3, interval '1 hour') at"""
SQL_REGION = """
insert into region_state (service_id, region, slots, healthy, base_condition, base_since, base_streak, base_streak_since, base_slot,
                          newest_at)
values ($1, 'eu', '{}', '{}', 'unknown', 0, 0, 0, 0, $2)"""
SQL_DAYS = """
insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls)
select service_id, scheduled_at::date, count(*), count(*), 0 from api_response_times group by 1, 2"""
SQL_RECORDS = """
insert into uptime_records (service_id, date, status, uptime_percentage, total_checks, successful_checks, failed_checks)
select service_id, date, 'o', 100, total_calls, successful_calls, 0 from api_call_logs"""

SQL_STATES = "select state from timeline where service_id = $1 and known_until is null and $2 between started_at and ended_at"


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Connection]:
    """A superuser's connection to a database in which the aggregator has nothing yet."""
    conn = await asyncpg.connect(database.admin_url)
    await conn.execute("drop schema aggregator cascade; create schema aggregator authorization sla_aggregator")
    yield conn
    await conn.close()


async def upgrade(admin: Connection, folder: Path, names: tuple[str, ...]) -> list[str]:
    """Bring the schema to some migrations; return those that were applied."""
    for name in names:
        shutil.copy(MIGRATIONS / name, folder)
    return await migrate(admin, schema="aggregator", role="sla_aggregator", folder=folder)


async def live(pool: Pool) -> None:
    """Have nine days in which one service was paused from the third to the sixth, one since the third, and one was silent meanwhile."""
    for name, is_active in (("paused", True), ("off", False), ("silent", True)):
        await pool.execute(SQL_SERVICE, name, is_active, CREATED)
        await pool.execute(SQL_REGION, name, TODAY)
        begins = CREATED + 1.5 * DAY
        await pool.execute(SQL_CHECKS, name, CREATED, begins)
        again = CREATED + 5.5 * DAY
        if is_active:
            await pool.execute(SQL_CHECKS, name, again, TODAY - timedelta(hours=1))
        between = "nd" if name == "silent" else "e"
        await pool.execute(SQL_INTERVAL, name, 1, "o", CREATED, begins)
        await pool.execute(SQL_INTERVAL, name, 2, between, begins, again if is_active else None)
        if is_active:
            await pool.execute(SQL_INTERVAL, name, 3, "o", again, None)
    await pool.execute(SQL_DAYS)
    await pool.execute(SQL_RECORDS)


async def work(pool: Pool) -> None:
    """Do what the jobs do."""
    now = TODAY + timedelta(hours=3)
    while await replays.work(pool, clock=lambda: now):
        pass
    for _ in range(2):
        await roll_up(Upkeep(pool, lambda: now, ZONE))
        await close_days(Upkeep(pool, lambda: now, ZONE))


@pytest.mark.parametrize("stopover", [False, True], ids=["at once", "by way of the version that calls them nd"])
async def test_pauses_of_an_earlier_version_are_empty_days(
    database: Database, admin: Connection, tmp_path: Path, *, stopover: bool
) -> None:
    """Seen red without 0006_pauses.sql: days without checks of a service that was switched off then were `nd`, and its time unknown.

    By way of the other version also where closed days are not opened again, and where the timeline is not marked.
    """
    await upgrade(admin, tmp_path, BEFORE_HISTORY)
    async with open_pool(database.url("aggregator"), name="test", health=Health("test")) as pool:
        await live(pool)
        if stopover:
            await upgrade(admin, tmp_path, (*BEFORE_PAUSES, *READ_TODAY))
            await work(pool)
        await upgrade(admin, tmp_path, tuple(path.name for path in MIGRATIONS.glob("*.sql")))
        await work(pool)

        found, states = {}, {}
        for name in ("paused", "off", "silent"):
            async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
                uptime = await days.read_uptime(conn, UptimeQuery(service_id=name, days=10), now=TODAY + timedelta(hours=3), zone=ZONE)
            found[name] = " ".join(one.status.value for one in uptime.days[:9])
            states[name] = " ".join(row["state"] for row in await pool.fetch(SQL_STATES, name, CREATED + 3 * DAY))
        recorded = await pool.fetch("select status from uptime_records where service_id = 'paused' order by date")
    assert found == {"paused": "o o e e e o o o o", "off": "o o e e e e e e e", "silent": "o o nd nd nd o o o o"}
    assert [row["status"] for row in recorded] == found["paused"].split()
    assert states == {"paused": "", "off": "", "silent": "unknown"}, "no row: inactive"
