"""Retention, rolling up and closing days go on under load, and no fold waits for them for long."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import partitions, upkeep
from services.aggregator.partitions import CHECKS, HOURS, MINUTES, Parted
from services.aggregator.upkeep import Upkeep
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from tests.integration.aggregator.story import batch, definition, fold, learn, results
from tests.servers import Database

SERVICES = [f"service-{number}" for number in range(40)]
MOST_S = 0.2
"""How long a fold may wait for locks."""
KEEP_DAYS = 62
AT_LEAST = 30
"""Folds beside the jobs, at least."""
FOLDS = "folds"
SQL_WAITS = """
select a.pid, a.xact_start, l.waitstart, extract(epoch from clock_timestamp() - l.waitstart)::double precision as waited
  from pg_stat_activity a join pg_locks l using (pid)
 where a.application_name = $1 and a.datname = current_database() and not l.granted and l.waitstart is not null"""
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)


async def history(pool: Pool) -> None:
    """Have a hundred days of checks, in months that are to go, and days that are to be closed."""
    for back in (95, 60, 30, 0):
        async with transaction(pool) as conn:
            await partitions.make(conn, today=(MIDNIGHT - timedelta(days=back)).date(), ahead=1)
    await pool.execute(
        """
        insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time)
        select gen_random_uuid(), 'service-' || n % 40, 'eu', $1::timestamptz - n * interval '40 seconds', $1, 'healthy', true, 20 + n % 100
          from generate_series(1, 200000) n""",
        MIDNIGHT,
    )
    await pool.execute(
        """
        insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls)
        select 'service-' || n, $1::date - day, 50, 50, 0 from generate_series(0, 39) n, generate_series(1, 90, 2) day""",
        MIDNIGHT.date(),
    )


async def folding(pool: Pool, stop: asyncio.Event) -> int:
    """Fold what comes, and some of it for days that are being closed; return how many times."""
    for slot in count():
        if stop.is_set():
            return slot
        now = MIDNIGHT + timedelta(hours=1, seconds=2 * slot)
        some = [one for service in SERVICES for one in results("+", first=slot, service_id=service, start=MIDNIGHT + timedelta(hours=1))]
        late = results("+", first=slot, service_id=SERVICES[slot % 40], start=MIDNIGHT - timedelta(days=3))
        await fold(pool, batch(some), batch(late), now=now)
    raise AssertionError


async def longest_wait(pool: Pool, stop: asyncio.Event) -> float:
    """Return how long any one fold waited for locks, all of its waits added up, in seconds by the database's clock.

    Not how long a fold took: that is also what else the machine has to do. A wait that is still seen has lasted so long at least, so a
    busy machine makes none longer; what is missed of one is what lies between two looks.
    """
    waits: dict[tuple[int, datetime], dict[datetime, float]] = defaultdict(dict)
    async with pool.acquire() as conn:
        while not stop.is_set():
            for row in await conn.fetch(SQL_WAITS, FOLDS):
                waits[row["pid"], row["xact_start"]][row["waitstart"]] = row["waited"]
            await asyncio.sleep(0.002)  # between two looks
    return max((sum(of_one.values()) for of_one in waits.values()), default=0.0)


@pytest.fixture
async def folds(database: Database) -> AsyncIterator[Pool]:
    """Connect as the aggregator does, under a name by which the folds are told from everybody else."""
    async with open_pool(database.url("aggregator"), name=FOLDS, health=Health("test")) as opened:
        yield opened


async def test_no_fold_waits_long_for_retention_rollups_or_closing(pool: Pool, folds: Pool) -> None:
    """Seen red with a patience of 3 s for detaching beside a reader."""
    for service in SERVICES:
        await learn(pool, definition(service, created_at=MIDNIGHT - timedelta(days=100)), now=MIDNIGHT)
    await history(pool)
    stop, done = asyncio.Event(), asyncio.Event()
    keep = Upkeep(pool, lambda: MIDNIGHT + timedelta(hours=2), ZoneInfo("UTC"), 2, KEEP_DAYS)
    beside = asyncio.create_task(folding(folds, stop))
    reading = asyncio.create_task(reader(pool, stop))
    watching = asyncio.create_task(longest_wait(pool, done))
    await upkeep.make_room(keep)
    dropped, *_ = await asyncio.gather(upkeep.drop_old(keep), upkeep.roll_up(keep), upkeep.close_days(keep))
    await upkeep.close_days(keep)
    stop.set()
    folded, _ = await asyncio.gather(beside, reading)
    done.set()
    longest = await watching
    print(f"{folded} folds; the longest wait of one for locks: {1000 * longest:.0f} ms")  # noqa: T201  # figures, for those who ask with -s

    assert dropped
    assert folded > AT_LEAST
    assert await pool.fetchval("select count(*) from api_call_logs where finalized_at is not null") > 2000
    assert longest < MOST_S


async def test_a_fold_that_waits_is_seen_to_wait(pool: Pool, folds: Pool) -> None:
    """What the test above measures, measured: two locks, one after the other, each held for less than is too long."""
    done = asyncio.Event()
    watching = asyncio.create_task(longest_wait(pool, done))
    async with transaction(folds) as folding_one:
        for table in ("api_response_times", "api_call_logs"):
            async with transaction(pool) as holder:
                await holder.execute(f"lock table {table} in access exclusive mode")
                waiting = asyncio.create_task(folding_one.execute(f"lock table {table} in row exclusive mode"))
                await holder.execute("select pg_sleep(0.15)")
            await waiting
    done.set()
    assert MOST_S < await watching < 5


async def reader(pool: Pool, stop: asyncio.Event) -> None:
    """Hold the checks by reading them for half a second at a time, as a report does."""
    while not stop.is_set():
        async with transaction(pool) as conn:
            await conn.execute("select count(*) from api_response_times where service_id = 'service-1'")
            await conn.execute("select pg_sleep(0.5)")
        await asyncio.sleep(0.3)  # others have their chance


@pytest.mark.parametrize("parted", [CHECKS, HOURS, MINUTES], ids=lambda parted: parted.table)
async def test_parts_are_made_ahead_and_dropped_when_all_of_them_is_old(pool: Pool, parted: Parted) -> None:
    """Seen red with the last day of a part counted as its end."""
    today = date(2026, 12, 31)
    async with transaction(pool) as conn:
        made = await partitions.make(conn, parted, today=today, ahead=1)
        assert await partitions.make(conn, parted, today=today, ahead=1) == []
    assert made == [parted.name(first) for first in parted.starts(today, ahead=1)]
    end = parted.starts(today, ahead=1)[1]
    async with transaction(pool) as conn:
        assert await partitions.detach(conn, parted, before=end - timedelta(days=1)) == []
        assert await partitions.detach(conn, parted, before=end) == made[:1]
        assert await partitions.drop_detached(conn, parted, before=end) == made[:1]
        assert await partitions.detach(conn, parted, before=end) == []
