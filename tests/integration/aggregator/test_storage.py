"""Retention, rolling up, closing days and timelines go on under load, and no fold waits for them for long."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import partitions, replays, upkeep
from services.aggregator.partitions import CHECKS, HOURS, MINUTES, Parted
from services.aggregator.upkeep import Upkeep
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from tests.integration.aggregator.story import batch, definition, fold, learn, results
from tests.servers import Database

SERVICES = [f"service-{number}" for number in range(40)]
MOST_S = 0.2
"""How long a fold may be kept from its own work: by locks, or by others' turns on the loop."""
KEEP_DAYS = 62
PAST = 200_000
"""Checks of a hundred days."""
SLOTS = 25
"""Of each service, in one fold: a thousand results."""
EVERY_S = 0.33
"""From one fold to the next, at least: 3,000 results a second."""
AT_LEAST = 20_000
"""Results that are folded beside the jobs, at least."""
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
        select gen_random_uuid(), 'service-' || n % 40, 'eu', $1::timestamptz - n * interval '95 days' / $2, $1, 'healthy', true,
               20 + n % 100
          from generate_series(1, $2) n""",
        MIDNIGHT,
        PAST,
    )
    await pool.execute(
        """
        insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls)
        select 'service-' || n, $1::date - day, 50, 50, 0 from generate_series(0, 39) n, generate_series(1, 90, 2) day""",
        MIDNIGHT.date(),
    )


async def folding(pool: Pool, stop: asyncio.Event) -> list[float]:
    """Fold what comes, a thousand results at a time, and some of it for days that are being closed; return how long each fold took."""
    took: list[float] = []
    for first in count(0, SLOTS):
        if stop.is_set():
            return took
        now = MIDNIGHT + timedelta(hours=1, seconds=2 * (first + SLOTS))
        some = []
        for service in SERVICES:
            some += results("+" * SLOTS, first=first, service_id=service, start=MIDNIGHT + timedelta(hours=1))
            await asyncio.sleep(0)  # making them up is no turn of the aggregator's
        late = results("+", first=first, service_id=SERVICES[first // SLOTS % 40], start=MIDNIGHT - timedelta(days=3))
        began = time.monotonic()
        await fold(pool, batch(some), batch(late), now=now)
        took.append(time.monotonic() - began)
        await asyncio.sleep(max(0.0, EVERY_S - took[-1]))  # results come at a rate
    raise AssertionError


async def replaying(pool: Pool, stop: asyncio.Event) -> int:
    """Compute timelines as they are marked, as their job does; return how many."""
    done = 0
    while not stop.is_set():
        done += await replays.work(pool, clock=lambda: MIDNIGHT + timedelta(hours=2))
        await asyncio.sleep(0.05)  # between two looks
    return done


async def longest_turn(stop: asyncio.Event) -> float:
    """Return the longest time for which one callback had the loop for itself, in seconds of this thread's work.

    Not of the clock: a busy machine makes no turn longer. Some milliseconds of others' turns are counted in.
    """
    longest = 0.0
    while not stop.is_set():
        began = time.thread_time()
        await asyncio.sleep(0.002)  # between two looks
        longest = max(longest, time.thread_time() - began)
    return longest


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


async def jobs(pool: Pool) -> list[str]:
    """Do all that is done beside folding; return what was dropped."""
    keep = Upkeep(pool, lambda: MIDNIGHT + timedelta(hours=2), ZoneInfo("UTC"), 2, KEEP_DAYS)
    await upkeep.make_room(keep)
    dropped, *_ = await asyncio.gather(upkeep.drop_old(keep), upkeep.roll_up(keep), upkeep.close_days(keep))
    await upkeep.close_days(keep)
    return dropped


@pytest.mark.slow
async def test_no_fold_waits_long_for_retention_rollups_closing_or_timelines(pool: Pool, folds: Pool) -> None:
    """Seen red with a patience of 3 s for detaching beside a reader."""
    for service in SERVICES:
        await learn(pool, definition(service, created_at=MIDNIGHT - timedelta(days=100)), now=MIDNIGHT)
    await history(pool)
    alone, stop, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(2, alone.set)
    usual, usual_turn = await asyncio.gather(folding(folds, alone), longest_turn(alone))
    beside, reading = asyncio.create_task(folding(folds, stop)), asyncio.create_task(reader(pool, stop))
    watching = asyncio.gather(longest_wait(pool, done), longest_turn(done), replaying(pool, stop))
    dropped = await jobs(pool)
    stop.set()
    took, _ = await asyncio.gather(beside, reading)
    done.set()
    waited, turn, replayed = await watching
    print(  # noqa: T201  # figures, for those who ask with -s
        f"{len(took) * SLOTS * len(SERVICES)} results in {sum(took):.1f} s; the longest a fold waited for locks: {1000 * waited:.0f} ms,"
        f" the longest turn of the loop: {1000 * turn:.0f} ms of work"
        f" (of folding alone: {1000 * usual_turn:.0f} ms); the longest fold {1000 * max(took):.0f} ms,"
        f" without jobs beside it {1000 * max(usual):.0f} ms; {replayed} timelines computed, dropped {dropped}"
    )

    assert dropped
    assert len(took) * SLOTS * len(SERVICES) > AT_LEAST
    assert replayed >= len(SERVICES)
    assert await pool.fetchval("select count(*) from api_call_logs where finalized_at is not null") > 2000
    assert waited < MOST_S
    assert turn - usual_turn < MOST_S


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


async def test_a_turn_that_keeps_the_loop_is_seen() -> None:
    """What is measured of the loop, measured: half a second of work without giving way, by this thread's clock."""
    done = asyncio.Event()
    watching = asyncio.create_task(longest_turn(done))
    await asyncio.sleep(0)  # it looks
    ends = time.thread_time() + 0.5
    while time.thread_time() < ends:
        pass
    done.set()
    assert MOST_S < 0.5 <= await watching


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
