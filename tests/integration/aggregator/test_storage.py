"""Retention, rolling up, closing days and timelines go on under load, and no fold waits for them for long."""

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import answers, audits, partitions, replays, timelines, upkeep
from services.aggregator.domain.amending import Row
from services.aggregator.partitions import CHECKS, HOURS, MINUTES, Parted
from services.aggregator.upkeep import Upkeep
from shared.contracts.history import DryRunQuery
from shared.database import Connection, Pool, open_pool, transaction
from shared.health import Health
from shared.runtime import collect_rarely
from tests.integration.aggregator.story import batch, definition, fold, learn, results
from tests.servers import Database

SERVICES = [f"service-{number}" for number in range(40)]
MOST_S = 0.2
"""How long a fold may be kept from its own work: by locks, or by others' turns on the loop."""
KEEP_DAYS = 62
PAST = 200_000
"""Checks of a hundred days."""
LONG = "service-of-long-ago"
LONG_PAST = 25_000
"""Its checks in each of three regions, none of which was replayed yet: it went down and came back all the time."""
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


async def months(pool: Pool) -> None:
    """Have months of checks for the last hundred days."""
    for back in (95, 60, 30, 0):
        async with transaction(pool) as conn:
            await partitions.make(conn, today=(MIDNIGHT - timedelta(days=back)).date(), ahead=1)


async def restless(pool: Pool, number: int, *, length: int = 2) -> None:
    """Have so many checks of LONG in each of three regions, evenly over 95 days; so many fail, so many do not, and so on."""
    every = timedelta(days=95) / number
    slow = {"check_interval": int(every.total_seconds() * 1000), "regions": ("asia", "eu", "us")}
    await learn(pool, definition(LONG, created_at=MIDNIGHT - timedelta(days=100)).model_copy(update=slow), now=MIDNIGHT)
    await pool.execute(
        """
        insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time)
        select gen_random_uuid(), $1, region, $2::timestamptz - n * $3::interval, $2,
               case when well then 'healthy' else 'failed' end, well, 20
          from generate_series(1, $4) n, unnest(array['asia', 'eu', 'us']) as r (region), lateral (select (n / $5) % 2 = 0 as well) w""",
        LONG,
        MIDNIGHT,
        every,
        number,
        length,
    )


async def history(pool: Pool) -> None:
    """Have a hundred days of checks, in months that are to go, and days that are to be closed."""
    await months(pool)
    await restless(pool, LONG_PAST)
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


@asynccontextmanager
async def replayed(pool: Pool) -> AsyncIterator[Connection]:
    """Replay LONG; it is not committed before this is left."""
    async with transaction(pool) as conn:
        claim = await timelines.claim(conn, LONG)
        assert claim is not None
        await replays.advance(conn, claim, clock=lambda: MIDNIGHT + timedelta(hours=2))
        yield conn


async def replaying_until(pool: Pool, dropped: asyncio.Event) -> None:
    """Replay a long history, in a transaction that does not end before old months are dropped."""
    async with replayed(pool):
        await dropped.wait()


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


@pytest.fixture
def as_in_a_service() -> Iterator[None]:
    """Have the collector look as rarely as a service has it: a test run's own heap, looked through in one turn, is not what is measured."""
    usual = gc.get_threshold()
    collect_rarely()
    yield
    gc.set_threshold(*usual)
    gc.unfreeze()


async def jobs(pool: Pool) -> list[str]:
    """Do all that is done beside folding, with a long replay that ends when old months are dropped; return what was dropped."""
    keep = Upkeep(pool, lambda: MIDNIGHT + timedelta(hours=2), ZoneInfo("UTC"), 2, KEEP_DAYS)
    await upkeep.make_room(keep)
    is_dropped = asyncio.Event()

    async def drop() -> list[str]:
        try:
            return await upkeep.drop_old(keep)
        finally:
            is_dropped.set()

    dropped, *_ = await asyncio.gather(drop(), replaying_until(pool, is_dropped), upkeep.roll_up(keep), upkeep.close_days(keep))
    await upkeep.close_days(keep)
    return dropped


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_a_service")
async def test_no_fold_waits_long_for_retention_rollups_closing_or_timelines(pool: Pool, folds: Pool) -> None:
    """Seen red with a patience of 3 s for detaching beside a reader, and with replays that hold the checks until they are committed."""
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

    assert "api_response_times_2025_12" in dropped
    assert await pool.fetchval("select count(*) from timeline where service_id = $1", LONG) > LONG_PAST // 4
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


OLD = (MIDNIGHT - timedelta(days=KEEP_DAYS)).date()


async def test_who_replays_keeps_no_month_from_being_dropped(pool: Pool) -> None:
    """Neither the worker nor a dry run, though their transactions go on. Seen red with pieces read without letting go of them."""
    await months(pool)
    await restless(pool, 500)
    async with replayed(pool):
        assert await detached(pool) == ["api_response_times_2025_11", "api_response_times_2025_12"]
    async with answers.reading(pool) as conn:
        asked = DryRunQuery(service_id=LONG, starts_at=MIDNIGHT - timedelta(days=50), ends_at=MIDNIGHT, failure_threshold=1)
        assert (await audits.dry_run(conn, asked, now=MIDNIGHT + timedelta(hours=2))).would_be
        assert await detached(pool, MIDNIGHT.date() - timedelta(days=31)) == ["api_response_times_2026_01"]


async def detached(pool: Pool, before: date = OLD) -> list[str]:
    """Detach what ended by a day; return the names."""
    found: list[str] = []
    while True:
        async with transaction(pool) as conn:
            names = await partitions.detach(conn, before=before)
        if not names:
            return found
        found += names


async def believed(pool: Pool) -> list[Row]:
    """Return the timeline of LONG."""
    return (await timelines.believed(pool, LONG, since=0))[0]  # type: ignore[arg-type]  # a pool asks as a connection does


async def test_what_was_published_of_a_month_that_is_dropped_while_it_is_read_stays(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without a look at the months after reading (the rest of the month was unknown), and begun from unknown where they end."""
    await months(pool)
    await restless(pool, 500, length=20)
    async with replayed(pool):
        pass
    published = await believed(pool)
    assert len(published) > 20
    read, dropped = replays._letting_go, list[str]()  # noqa: SLF001  # between two pieces

    async def and_drop(*of_what: Any) -> Any:  # noqa: ANN401  # handed on
        piece = await read(*of_what)
        dropped.extend(await detached(pool))
        return piece

    monkeypatch.setattr(replays, "PIECE", 30)
    monkeypatch.setattr(replays, "_letting_go", and_drop)
    async with transaction(pool) as conn:
        await timelines.mark(conn, {LONG: 0})
    async with replayed(pool):
        pass
    assert dropped[-1] == "api_response_times_2025_12"
    assert await believed(pool) == published
    assert await pool.fetchval("select count(*) from timeline where known_until is not null") == 0


async def test_a_restless_history_is_written_in_many_turns(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in rows, not in time. Seen red without pauses between new rows, between those that are no longer believed, and in reading."""
    await months(pool)
    await restless(pool, 4000)
    at_once = 100
    monkeypatch.setattr(timelines, "ROWS_AT_ONCE", at_once)
    counted = {"moment": 0, "row_of": 0}

    def counting(name: str) -> Callable[..., Any]:
        own = getattr(timelines, name)

        def one(*of_what: Any) -> Any:  # noqa: ANN401  # handed on
            counted[name] += 1
            return own(*of_what)

        return one

    for name in counted:
        monkeypatch.setattr(timelines, name, counting(name))
    assert await most_in_a_turn(pool, counted) <= 3 * at_once  # two moments a row
    assert await pool.fetchval("select count(*) from timeline") > 1900
    await pool.execute("update api_response_times set outcome = 'healthy', is_success = true")
    async with transaction(pool) as conn:
        await timelines.mark(conn, {LONG: 0})
    assert await most_in_a_turn(pool, counted) <= 3 * at_once
    assert await pool.fetchval("select count(*) from timeline where known_until is null") == 2, "unknown, then up"


async def most_in_a_turn(pool: Pool, counted: dict[str, int]) -> int:
    """Replay LONG; return the most that was counted between two turns of somebody else."""
    most, done = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            counted.update(dict.fromkeys(counted, 0))
            await asyncio.sleep(0)
            most = max(most, *counted.values())

    watching = asyncio.create_task(watch())
    async with replayed(pool):
        done.set()
    await watching
    return most
