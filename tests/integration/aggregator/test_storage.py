"""Retention, rolling up and closing days go on under load, and no fold waits for them for long."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import partitions, upkeep
from services.aggregator.partitions import CHECKS, HOURS, MINUTES, Parted
from services.aggregator.upkeep import Upkeep
from shared.database import Pool, transaction
from tests.integration.aggregator.story import batch, definition, fold, learn, results

SERVICES = [f"service-{number}" for number in range(40)]
MOST_S = 0.2
"""What a fold may take longer than the slowest one without anything beside it."""
KEEP_DAYS = 62
AT_LEAST = 30
"""Folds that are measured at least."""
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


async def folding(pool: Pool, stop: asyncio.Event) -> list[float]:
    """Fold what comes, and some of it for days that are being closed; return how long each took."""
    took: list[float] = []
    for slot in count():
        if stop.is_set() and len(took) >= AT_LEAST:
            return took
        now = MIDNIGHT + timedelta(hours=1, seconds=2 * slot)
        some = [one for service in SERVICES for one in results("+", first=slot, service_id=service, start=MIDNIGHT + timedelta(hours=1))]
        late = results("+", first=slot, service_id=SERVICES[slot % 40], start=MIDNIGHT - timedelta(days=3))
        began = time.perf_counter()
        await fold(pool, batch(some), batch(late), now=now)
        took.append(time.perf_counter() - began)
    raise AssertionError


async def test_no_fold_waits_long_for_retention_rollups_or_closing(pool: Pool) -> None:
    """Seen red with a patience of 3 s for detaching beside a reader."""
    for service in SERVICES:
        await learn(pool, definition(service, created_at=MIDNIGHT - timedelta(days=100)), now=MIDNIGHT)
    await history(pool)
    stop = asyncio.Event()
    stop.set()
    usual = max((await folding(pool, stop))[3:])

    stop.clear()
    keep = Upkeep(pool, lambda: MIDNIGHT + timedelta(hours=2), ZoneInfo("UTC"), 2, KEEP_DAYS)
    beside = asyncio.create_task(folding(pool, stop))
    reading = asyncio.create_task(reader(pool, stop))
    await upkeep.make_room(keep)
    dropped, *_ = await asyncio.gather(upkeep.drop_old(keep), upkeep.roll_up(keep), upkeep.close_days(keep))
    await upkeep.close_days(keep)
    stop.set()
    took = await beside
    await reading

    assert dropped
    assert await pool.fetchval("select count(*) from api_call_logs where finalized_at is not null") > 2000
    # The two slowest may have waited for a core: other tests run beside this one. What holds a lock holds up more than two.
    longest = sorted(took)[-3]
    assert longest < usual + MOST_S, f"alone {usual:.3f} s at most, beside the jobs {longest:.3f} s"


async def reader(pool: Pool, stop: asyncio.Event) -> None:
    """Hold the checks by reading them for half a second at a time, as a report does."""
    while not stop.is_set():
        async with transaction(pool) as conn:
            await conn.execute("select count(*) from api_response_times where service_id = 'service-1'")
            await conn.execute("select pg_sleep(0.5)")
        await asyncio.sleep(0.3)


@pytest.mark.parametrize("parted", [CHECKS, HOURS, MINUTES], ids=lambda parted: parted.table)
async def test_parts_are_made_ahead_and_dropped_when_all_of_them_is_old(pool: Pool, parted: Parted) -> None:
    """Seen red with the last day of a part counted as its end."""
    today = date(2026, 12, 31)
    async with transaction(pool) as conn:
        made = await partitions.make(conn, parted, today=today, ahead=1)
        assert await partitions.make(conn, parted, today=today, ahead=1) == []
    assert made == [parted.name(first) for first in parted.starts(today, ahead=1)]
    ends = [parted.end(name) for name in made]
    async with transaction(pool) as conn:
        assert await partitions.detach(conn, parted, before=ends[0] - timedelta(days=1)) == []
        assert await partitions.detach(conn, parted, before=ends[0]) == made[:1]
        assert await partitions.drop_detached(conn, parted, before=ends[0]) == made[:1]
        assert await partitions.detach(conn, parted, before=ends[0]) == []
