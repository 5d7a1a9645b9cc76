"""What the aggregator does at its start and each hour: months made and dropped, also when the database is away at first."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from asyncpg import LockNotAvailableError

from services.aggregator import partitions, upkeep
from services.aggregator.upkeep import Upkeep
from shared.database import Connection, Pool, transaction
from tests.integration.aggregator.story import START, batch, definition, fold, learn, results, see
from tests.waiting import until

KEEP_DAYS = 90
SQL_MONTHS = "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'api_response_times'::regclass order by 1"


async def months(pool: Pool) -> list[str]:
    """Return the months that have a partition."""
    names = [row["name"].removeprefix("api_response_times_") for row in await pool.fetch(SQL_MONTHS)]
    return [name for name in names if name != "default"]


def kept(pool: Pool, today: date, *, months_ahead: int = 1) -> Upkeep:
    """Return what is kept, on a day."""
    now = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    return Upkeep(pool, lambda: now, ZoneInfo("UTC"), months_ahead, KEEP_DAYS)


async def drop(pool: Pool, today: date) -> list[str]:
    """Drop what is old on a day."""
    return await upkeep.drop_old(kept(pool, today))


async def test_whole_months_older_than_the_retention_go_and_the_records_of_their_days_stay(pool: Pool) -> None:
    """Seen red with a month dropped when its first day is old, and with rows of no month left where they are."""
    await learn(pool, definition())
    long_ago = START - timedelta(days=400)
    await fold(pool, batch(results("+", start=long_ago)), now=long_ago)
    async with transaction(pool) as conn:
        await partitions.make(conn, today=START.date(), ahead=1)
    await see(pool, "++")
    ends = datetime(2026, 4, 1, tzinfo=UTC).date() + timedelta(days=KEEP_DAYS)

    assert await drop(pool, ends - timedelta(days=1)) == ["api_response_times_2026_02"]
    assert await months(pool) == ["2026_03", "2026_04"]
    assert await pool.fetchval("select count(*) from api_response_times") == 2, "the stray of 2025 is gone"
    at_once = await asyncio.gather(drop(pool, ends), drop(pool, ends))
    assert [name for names in at_once for name in names] == ["api_response_times_2026_03"]
    assert await pool.fetchval("select count(*) from api_response_times") == 0
    assert await pool.fetchval("select sum(total_calls) from api_call_logs") == 3


async def test_dropping_gives_way_to_whoever_holds_the_rows(pool: Pool) -> None:
    """Seen red without a lock timeout: everybody would wait behind the one that waits."""
    async with transaction(pool) as conn:
        await partitions.make(conn, today=START.date(), ahead=1)
    dropping = asyncio.create_task(drop(pool, START.date() + timedelta(days=900)))
    async with transaction(pool) as reader:
        await reader.fetch("select from api_response_times limit 1")
        for _ in range(20):
            began = time.monotonic()
            await pool.fetch("select from api_response_times limit 1")
            assert time.monotonic() - began < 0.2, "nobody waits for long behind the one that would drop"
            await asyncio.sleep(0.02)  # so that the looks last longer than one try to drop
        assert not dropping.done()
    assert await asyncio.wait_for(dropping, 10) == [f"api_response_times_2026_0{month}" for month in (2, 3, 4)]


async def test_a_database_that_is_away_at_the_start_is_asked_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a start that prepares once: the process ended with a traceback."""
    make, refusals = partitions.make, [ConnectionResetError("gone"), TimeoutError("busy")]

    async def away_at_first(conn: Connection, parted: partitions.Parted, *, today: date, ahead: int) -> list[str]:
        if refusals:
            raise refusals.pop()
        return await make(conn, parted, today=today, ahead=ahead)

    monkeypatch.setattr(partitions, "make", away_at_first)

    await asyncio.wait_for(upkeep.prepare_first(kept(pool, START.date())), 10)

    assert await months(pool) == ["2026_02", "2026_03", "2026_04"]


async def test_old_months_are_dropped_without_waiting_for_midnight(pool: Pool) -> None:
    """Seen red with a job that drops nothing, and with one that waits for the next day: a process restarted daily would never drop."""
    async with transaction(pool) as conn:
        await partitions.make(conn, today=START.date(), ahead=1)
    job = asyncio.create_task(upkeep.keep_house(kept(pool, START.date() + timedelta(days=200))))

    async def dropped() -> bool:
        return await months(pool) == ["2026_08", "2026_09", "2026_10"]

    try:
        await until(dropped, within_s=10, what="the months of spring are gone, those of autumn are there")
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_what_was_in_use_is_dropped_an_hour_later(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a job that does its work once a day: what a long reader held stayed until tomorrow, and until the next reader."""
    monkeypatch.setattr(upkeep, "TRIES", 1)
    monkeypatch.setattr(upkeep, "MINUTE_S", 0.05)
    now = START + timedelta(days=200)
    keep = Upkeep(pool, lambda: now, ZoneInfo("UTC"), 1, KEEP_DAYS)
    async with transaction(pool) as conn:
        await partitions.make(conn, today=START.date(), ahead=1)
    await upkeep.make_room(keep)
    detach, refused = partitions.detach, asyncio.Event()

    async def told(conn: Connection, parted: partitions.Parted, *, before: date) -> list[str]:
        try:
            return await detach(conn, parted, before=before)
        except LockNotAvailableError:
            refused.set()
            raise

    monkeypatch.setattr(partitions, "detach", told)
    job: asyncio.Task[None] | None = None
    try:
        async with transaction(pool) as reader:
            await reader.fetch("select from api_response_times limit 1")
            job = asyncio.create_task(upkeep.keep_house(keep))
            await asyncio.wait_for(refused.wait(), 10)
        now += timedelta(hours=1)

        async def dropped() -> bool:
            return await months(pool) == ["2026_08", "2026_09", "2026_10"]

        await until(dropped, within_s=10, what="the months of spring are gone")
    finally:
        if job is not None:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
