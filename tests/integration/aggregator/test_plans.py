"""Reads of history use the indexes and partitions that are meant for them: with the plan for one question, and with the one for any.

PostgreSQL plans a statement for what is asked five times, then perhaps once for whatever is asked (plan_cache_mode); both are looked at.
Each guard is seen red here by itself: without its index, in a transaction that is rolled back, the plan has to be another.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from infra.ops import scale
from services.aggregator import (
    alarms,
    chronicle,
    corrections,
    days,
    facts,
    grounds,
    partitions,
    promises,
    records,
    replays,
    rollups,
    slas,
    standings,
    timelines,
)
from services.aggregator import store as aggregator
from services.incidents import store as incidents
from services.incidents import windows
from shared.database import Pool
from tests import servers
from tests.servers import Database, Run

SERVICES = 300
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime.now(UTC)
ONE, TEN = "scale-8", [f"scale-{number}" for number in range(10)]
SPAN = (NOW - 30 * DAY, NOW)
CHECKS = "api_response_times_by_service"
CHECKS_PLAN = r"api_response_times_\d{4}_\d{2}_service_id_scheduled_at_idx"


@dataclass(frozen=True, slots=True)
class Read:
    """A statement, what it may be asked with, the index it is to use, and how that reads in a plan where it is not the index's name.

    `small`: its table has some hundred rows, which are read faster without any index: PostgreSQL is told not to.
    """

    sql: str
    values: Sequence[object]
    index: str
    shown: str = ""
    owner: str = "aggregator"
    small: bool = False

    @property
    def pattern(self) -> str:
        """What the plan has to show."""
        return self.shown or rf"\b{self.index}\b"


def _part(table: str) -> Read:
    return Read(
        rollups.SQL_PARTS.format(source=table), (ONE, NOW - DAY, NOW, None), f"{table}_pkey", rf"{table}_\d{{4}}_\d{{2}}(_\d{{2}})?_pkey"
    )


def _incidents(sql: str, index: str, *more: object, small: bool = False) -> Read:
    return Read(sql, (50, NOW - DAY, *more), index, owner="incidents", small=small)


READS = {
    "service": Read(aggregator.SQL_SERVICE, (ONE,), "service_pkey"),
    "days": Read(records.SQL_READ_DAYS, (ONE, SPAN[0].date(), NOW.date()), "uptime_records_service_id_date_key"),
    "days, response times": Read(records.SQL_READ_DAYS, (ONE, SPAN[0].date(), NOW.date()), "api_call_logs_service_id_date_key"),
    "minutes": _part("rollup_minute"),
    "hours": _part("rollup_hour"),
    "whole days": Read(rollups.SQL_PARTS.format(source="rollup_day"), (ONE, *SPAN, None), "rollup_day_pkey"),
    "fresh minutes": Read(rollups.SQL_FRESH, (NOW - HOUR, NOW, ONE, None), CHECKS, CHECKS_PLAN),
    "statuses": Read(chronicle.SQL_INTERVALS, (ONE, *SPAN, 501), "status_interval_by_time"),
    "facts": Read(facts.SQL_MEASURED, (TEN, [SPAN[0]] * 10, NOW), "timeline_now"),
    "facts, corrections": Read(facts.SQL_CORRECTIONS, (TEN, [SPAN[0]] * 10, NOW), "correction_by_service", small=True),
    "facts, maintenance": Read(facts.SQL_MAINTENANCES, (TEN, [SPAN[0]] * 10, NOW), "maintenance_window_by_service", small=True),
    "facts, checks of hours": Read(
        facts.SQL_CHECKS, (TEN, SPAN[0], SPAN[0], NOW - HOUR, NOW), "rollup_hour_pkey", r"rollup_hour_\d{4}_\d{2}_pkey"
    ),
    "facts, checks": Read(facts.SQL_CHECKS, (TEN, SPAN[0], SPAN[0], NOW - HOUR, NOW), CHECKS, CHECKS_PLAN),
    "what waits": Read(facts.SQL_UNSETTLED, (TEN, NOW, 0), "timeline_dirty_by_service", small=True),
    "what waits, regions": Read(facts.SQL_UNSETTLED, (TEN, NOW, 0), "region_state_pkey", small=True),
    "grounds": Read(grounds.SQL_MEASURED, (TEN, *SPAN, 10_001), "timeline_now"),
    "grounds, then": Read(grounds.SQL_MEASURED_THEN, (TEN, *SPAN, 10_001, NOW - DAY), "timeline_now"),
    "grounds, believed no more": Read(grounds.SQL_MEASURED_THEN, (TEN, *SPAN, 10_001, NOW - DAY), "timeline_then"),
    "grounds, maintenance": Read(grounds.SQL_MAINTENANCES, (TEN, *SPAN), "maintenance_window_by_service", small=True),
    "grounds, maintenance then": Read(
        grounds.SQL_MAINTENANCES_THEN, (TEN, *SPAN, NOW - DAY), "maintenance_window_version_by_service", small=True
    ),
    "grounds, corrections": Read(corrections.SQL_OVER, (TEN, *SPAN, None), "correction_by_service", small=True),
    "corrections": Read(corrections.SQL_LIST, (ONE, 1000), "correction_by_service", small=True),
    "contracts": Read(promises.SQL_PAGE, ("scale-1", 100), "sla_contract_pkey", small=True),
    "contract": Read(promises.SQL_SOME, (["scale-1"],), "sla_contract_pkey", small=True),
    "contract then": Read(promises.SQL_THEN, ("scale-1", NOW), "sla_contract_version_pkey", small=True),
    "exclusions": Read(promises.SQL_EXCLUSIONS, (["scale-1"], None), "sla_exclusion_by_contract", small=True),
    "every exclusion": Read(promises.SQL_EVERY_EXCLUSION, ("scale-1", 100), "sla_exclusion_by_contract", small=True),
    "samples of a burn": Read(standings.SQL_SAMPLES, (TEN, [NOW - HOUR] * 10, NOW, 10), CHECKS, CHECKS_PLAN),
    "closed windows": Read(slas.SQL_IS_CLOSED, (TEN, *SPAN, 0), "uptime_records_service_id_date_key"),
    "what was said": Read(alarms.SQL_STATES, (["scale-1"], NOW), "sla_state_pkey", small=True),
    "rules": Read(timelines.SQL_RULES, (ONE,), "definition_history_pkey", small=True),
    "outcomes": Read(replays.SQL_OUTCOMES, (ONE, *SPAN, None, 1000), CHECKS, CHECKS_PLAN),
    "regions": Read(replays.SQL_REGIONS, (ONE,), "region_state_pkey", small=True),
    "oldest open day": Read(days.SQL_OLDEST_OPEN, (), "api_call_logs_open"),
    "open days": Read(days.SQL_OPEN, (NOW.date(), 100), "api_call_logs_open"),
    "days to be closed, bins": Read(days.SQL_BINS, ([ONE], *SPAN), "rollup_day_pkey"),
    "days to be closed, downtime": Read(days.SQL_DOWN, ([ONE], *SPAN), "timeline_now"),
    "incidents": _incidents(incidents.SQL_LIST, "incident_newest_first"),
    "open incidents": _incidents(incidents.SQL_LIST_OPEN, "incident_open"),
    "incidents of a service": _incidents(incidents.SQL_LIST_OF_SERVICE, "incident_by_affected_service", ONE),
    "open incidents of a service": _incidents(incidents.SQL_LIST_OPEN_OF_SERVICE, "incident_open", ONE),
    "an incident": Read(incidents.SQL_FIND, ("00000000-0000-0000-0000-000000000000",), "incident_pkey", owner="incidents"),
    "what was said of incidents": Read(
        incidents.SQL_TIMELINES,
        (["00000000-0000-0000-0000-000000000000"],),
        "incident_update_incident_id_position_key",
        owner="incidents",
    ),
    "maintenance": Read(windows.SQL_LIST, (*SPAN, 100), "maintenance_newest_first", owner="incidents", small=True),
    "maintenance of a service": Read(
        windows.SQL_LIST_OF_SERVICE, (*SPAN, 100, ONE), "maintenance_by_service", owner="incidents", small=True
    ),
}


@pytest.fixture(scope="module")
def seeded(server_run: Run, template: str) -> Iterator[Database]:
    """Give one database with the history of some hundred services, for all tests of this module."""
    with servers.fresh_database(server_run, server_run.server("postgresql"), template) as fresh:
        servers.asyncio_run(scale.seed(fresh.admin_url, server_run.passwords(), scale.Scale(SERVICES)))
        yield fresh


@asynccontextmanager
async def connected(seeded: Database, owner: str) -> AsyncIterator[Any]:
    """Connect as a service does; what is prepared here is prepared by name, so asyncpg is to keep none."""
    conn = await asyncpg.connect(seeded.url(owner), statement_cache_size=0)
    try:
        yield conn
    finally:
        await conn.close()


def literal(value: object) -> str:
    """Return a value as SQL has it, its type to be found by where it stands."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "'{" + ",".join(f'"{one}"' for one in value) + "}'"
    return f"'{value}'"


async def plan(conn: Any, read: Read, mode: str) -> str:  # noqa: ANN401  # asyncpg's connection
    """Return what PostgreSQL would do, as text."""
    await conn.execute("deallocate all")
    await conn.execute(f"set plan_cache_mode = {mode}")
    await conn.execute(f"set enable_seqscan = {'off' if read.small else 'on'}")
    await conn.execute(f"prepare probe as {read.sql}")
    asked = f"({', '.join(literal(one) for one in read.values)})" if read.values else ""
    return "\n".join(row[0] for row in await conn.fetch(f"explain (costs off) execute probe{asked}"))


async def without(conn: Any, index: str) -> None:  # noqa: ANN401  # as above
    """Drop an index, or the constraint that it belongs to. Needs a transaction to be rolled back."""
    table = await conn.fetchval("select conrelid::regclass::text from pg_constraint where conname = $1 and conparentid = 0", index)
    await conn.execute(f"drop index {index}" if table is None else f"alter table {table} drop constraint {index} cascade")


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", READS)
async def test_a_read_uses_the_index_that_is_meant_for_it_and_the_guard_sees_when_it_does_not(
    seeded: Database, name: str, mode: str
) -> None:
    read = READS[name]
    async with connected(seeded, read.owner) as conn:
        found = await plan(conn, read, mode)
        assert re.search(read.pattern, found), found
        transaction = conn.transaction()
        await transaction.start()
        await without(conn, read.index)
        assert not re.search(read.pattern, await plan(conn, read, mode)), "a guard that nothing can make red"
        await transaction.rollback()


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_month_of_hours_looks_into_no_other_month(seeded: Database, mode: str) -> None:
    """Seen red with a window that is compared by a function of the column."""
    read = Read(rollups.SQL_PARTS.format(source="rollup_hour"), (ONE, NOW - HOUR, NOW, None), "")
    async with connected(seeded, "aggregator") as conn:
        found = await plan(conn, read, mode)
        assert set(re.findall(r"rollup_hour_\d{4}_\d{2}\b", found)) == {partitions.HOURS.name((NOW - HOUR).date().replace(day=1))}
        months = await conn.fetch("select relname from pg_class where relname ~ '^rollup_hour_[0-9]{4}_[0-9]{2}$'")
    assert len(months) >= 3


async def test_a_minute_of_all_services_is_found_by_time(pool: Pool) -> None:
    """Seen red without api_response_times_by_time: the whole month is read for each minute."""
    now = datetime.now(UTC)
    await pool.execute(
        """
        insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time)
        select gen_random_uuid(), 'service-' || n % 100, 'eu', $1::timestamptz - n * interval '0.3 seconds', $1, 'healthy', true, 20
          from generate_series(1, 200000) n order by n desc""",
        now,
    )
    await pool.execute("vacuum analyze api_response_times")
    asked = (now - timedelta(minutes=5), now)
    found = "\n".join(row[0] for row in await pool.fetch(f"explain (costs off) {rollups.SQL_ROLL}", *asked))
    assert re.search(r"Bitmap Index Scan on api_response_times_.*scheduled_at_idx", found), found
