"""Rollups on a real database, beside the same counted naively in Python."""

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import rollups
from services.aggregator.domain.calendar import day_of, day_window, to_ms
from services.aggregator.rollups import HOUR, MINUTE, floor
from services.aggregator.sketch import percentiles
from shared.contracts.checks import CheckResult
from shared.contracts.codes import Outcome
from shared.database import Pool, transaction
from tests.integration.aggregator.story import START, batch, confirmation, fold, results
from tests.waiting import until

UTC_ZONE, BERLIN, KOLKATA, KATHMANDU = (ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu"))
STRANGE = (math.nan, math.inf, -1.0, 0.0, 1e-9, 1e12)
SETTLED = timedelta(minutes=2)
LONG_AGO = START - timedelta(days=60)

Counted = dict[tuple[str, str, datetime], tuple[Any, ...]]


def checks(
    chance: random.Random, *, services: int, begin: datetime, minutes: int, step: timedelta = timedelta(seconds=20)
) -> list[CheckResult]:
    """Return checks of two regions with every outcome and strange times, and confirmations."""
    found = []
    for number in range(services):
        for region in ("eu", "us"):
            for slot in range(int(minutes * MINUTE / step)):
                sign = chance.choices("+~-?", weights=[20, 3, 3, 2])[0]
                one = results(sign, service_id=f"service-{number}", region=region, start=begin + slot * step)[0]
                took = chance.choice(STRANGE) if chance.random() < 0.1 else chance.lognormvariate(4, 1)
                one = one if one.outcome is Outcome.UNKNOWN else one.model_copy(update={"response_time_ms": took})
                found.append(one)
                if one.outcome is Outcome.FAILED:
                    found.append(confirmation(one, attempt=1, after_ms=500))
    return found


def naive(given: Iterable[CheckResult], bucket: Any) -> Counted:  # noqa: ANN401  # a function of a moment
    """Return what the rows must be: (healthy, degraded, failed, unknown, count, sum in us, least, most)."""
    groups: dict[tuple[str, str, datetime], dict[Any, CheckResult]] = defaultdict(dict)
    for one in given:
        if one.attempt == 0:
            groups[one.service_id, one.region, bucket(one.scheduled_at)][one.id] = one
    return {key: _row(list(group.values())) for key, group in groups.items()}


def _row(group: list[CheckResult]) -> tuple[Any, ...]:
    times = usable(group)
    counts = tuple(sum(one.outcome is outcome for one in group) for outcome in Outcome)
    return (*counts, len(times), sum(round(one * 1000) for one in times), min(times, default=None), max(times, default=None))


def usable(group: Iterable[CheckResult]) -> list[float]:
    """Return the times that count."""
    successful = (one.response_time_ms for one in group if one.outcome in {Outcome.HEALTHY, Outcome.DEGRADED})
    return sorted(one for one in successful if one is not None and 0 <= one <= rollups.MOST_MS)


async def stored(pool: Pool, table: str) -> Counted:
    rows = await pool.fetch(f"select * from {table}")
    return {(row["service_id"], row["region"], row["bucket"]): tuple(row[name] for name in rollups.COUNTS.split(", ")) for row in rows}


async def advance(pool: Pool, now: datetime, zone: ZoneInfo = UTC_ZONE) -> None:
    """Roll up all there is, as the job does."""
    more: bool | None = True
    while more:
        async with transaction(pool) as conn:
            more = await rollups.advance(conn, now=now, zone=zone)


async def repeat(pool: Pool, zone: ZoneInfo = UTC_ZONE, *, limit: int = 7, kept_since: datetime = LONG_AGO) -> None:
    marked = 1
    while marked:
        async with transaction(pool) as conn:
            marked = await rollups.repeat(conn, limit=limit, zone=zone, kept_since=kept_since)


async def begin(pool: Pool, at: datetime) -> None:
    """Have rolling up begin at a moment."""
    async with transaction(pool) as conn:
        for resolution in ("minute", "hour", "day"):
            await rollups.set_done(conn, resolution, at)


def by_day(zone: ZoneInfo) -> Any:  # noqa: ANN401  # a function of a moment
    return lambda at: rollups.moment(day_window(day_of(to_ms(at), zone), zone).start)


@pytest.mark.parametrize("zone", [UTC_ZONE, KOLKATA, KATHMANDU], ids=str)
async def test_rollups_equal_what_is_counted_naively_however_late_and_often_checks_come(pool: Pool, zone: ZoneInfo) -> None:
    """Two days and a half, a third of it late, some twice; rolled up by two workers while it comes, some of them broken off.

    Seen red with confirmations counted, without marks of late minutes, and with repeated minutes that leave their hour or their day as it
    was.
    """
    chance = random.Random(11)
    first = rollups.moment(day_window(START.date(), zone).start)
    everything = checks(chance, services=2, begin=first, minutes=60 * 24 * 2 + 700, step=timedelta(minutes=4))
    await begin(pool, floor(first, HOUR))
    end = first + timedelta(days=2, minutes=700)
    late = timedelta(hours=30)
    arrivals = sorted(((one.scheduled_at + late * max(0, chance.random() * 3 - 2), one) for one in everything), key=lambda pair: pair[0])
    size = len(arrivals) // 12 + 1
    for step in range(0, len(arrivals), size):
        now, some = arrivals[step : step + size][-1][0], [one for _, one in arrivals[step : step + size]]
        await fold(pool, batch(some), batch(chance.sample(some, 5)), now=now)
        with pytest.raises(ZeroDivisionError):
            await _broken_off(pool, now, zone)
        await asyncio.gather(advance(pool, now, zone), advance(pool, now, zone), repeat(pool, zone, limit=50))
    await advance(pool, end + late + SETTLED, zone)
    await repeat(pool, zone, limit=500)

    last_hour = floor(end + late, HOUR)
    assert await stored(pool, "rollup_minute") == naive(everything, lambda at: floor(at, MINUTE))
    assert await stored(pool, "rollup_hour") == naive(
        (one for one in everything if one.scheduled_at < last_hour), lambda at: floor(at, HOUR)
    )
    days_end = rollups.moment(day_window(day_of(to_ms(last_hour), zone), zone).start)
    assert await stored(pool, "rollup_day") == naive((one for one in everything if one.scheduled_at < days_end), by_day(zone))
    assert await pool.fetchval("select count(*) from rollup_dirty") == 0
    await _percentiles_hold(pool, everything, first, days_end)


async def _broken_off(pool: Pool, now: datetime, zone: ZoneInfo) -> None:
    async with transaction(pool) as conn:
        await rollups.advance(conn, now=now, zone=zone)
        await rollups.repeat(conn, limit=50, zone=zone, kept_since=LONG_AGO)
        _ = 1 / 0


async def _percentiles_hold(pool: Pool, everything: list[CheckResult], start: datetime, end: datetime) -> None:
    """Merged over any window and over the regions, percentiles are within 1 % of the true ones."""
    for table, first, last in (
        ("rollup_day", start, end),
        ("rollup_hour", floor(start, HOUR) + 3 * HOUR, floor(start, HOUR) + 20 * HOUR),
        ("rollup_minute", start + 5 * MINUTE, start + 300 * MINUTE),
    ):
        async with pool.acquire() as conn:
            parts = await rollups.parts(conn, table, "service-0", first, last)
        mine = [one for one in everything if one.service_id == "service-0" and first <= one.scheduled_at < last and one.attempt == 0]
        times = usable({one.id: one for one in mine}.values())
        found = percentiles(pair for part in parts for pair in part.bins)
        assert found is not None
        assert sum(part.response_count for part in parts) == len(times)
        for value, share in ((found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)):
            true = max(times[int(share * (len(times) - 1))], 0.001)
            assert abs(value - true) <= true * 0.01 * (1 + 1e-9) + 0.0005


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, date(2026, 3, 29), 23),
        (BERLIN, date(2026, 10, 25), 25),
        (KOLKATA, date(2026, 3, 10), 24),
        (KATHMANDU, date(2026, 3, 10), 24),
    ],
    ids=str,
)
async def test_a_day_is_added_up_from_its_first_moment_to_its_last(pool: Pool, zone: ZoneInfo, day: date, hours: int) -> None:
    """The clocks change, or it begins and ends within an hour. Nothing of it is made again from the checks.

    Seen red with a day made of whole hours only, with one whose last hour is counted whole, and with one that always has 24 hours.
    """
    window = day_window(day, zone)
    start, end = rollups.moment(window.start), rollups.moment(window.end)
    await begin(pool, floor(start, HOUR))
    everything = checks(random.Random(3), services=1, begin=start - 2 * HOUR, minutes=29 * 60, step=timedelta(minutes=10))
    await fold(pool, batch(everything), now=start + 29 * HOUR)
    await pool.execute("delete from rollup_dirty")

    await advance(pool, end + HOUR + SETTLED, zone)

    inside = [one for one in everything if start <= one.scheduled_at < end]
    assert {one.scheduled_at for one in inside} == {start + slot * timedelta(minutes=10) for slot in range(hours * 6)} | {
        one.scheduled_at for one in inside if one.attempt
    }
    assert await stored(pool, "rollup_day") == naive(inside, by_day(zone))


async def test_a_minute_waits_for_transactions_that_may_still_store_checks_of_it(pool: Pool) -> None:
    """Seen red with `running_since` replaced by `now`: a minute is done that somebody may still store checks of, without a mark."""
    # The database's own clock decides how old a transaction is, so this happens now.
    today = datetime.now(START.tzinfo)
    slot = floor(today, MINUTE) - 2 * MINUTE
    await begin(pool, slot - 5 * MINUTE)
    later = today + timedelta(hours=1)
    async with transaction(pool) as slow:
        await slow.execute("select 1")
        await advance(pool, later)
        reached = await pool.fetchval("select done_until from rollup_progress where resolution = 'minute'")
        assert reached <= today - rollups.SETTLED
        await fold(pool, batch(results("+", start=floor(today, MINUTE))), now=today)

    assert await stored(pool, "rollup_minute") == {}


async def test_marking_a_minute_waits_for_nobody_and_is_not_lost(pool: Pool) -> None:
    """A late check is stored while its minute is being made again.

    Seen red with marks that are unique by service and minute, be it with `do update` or `do nothing`: the fold waits for the worker.
    """
    first, second, third = results("+++")
    end = START + HOUR
    await begin(pool, START)
    await advance(pool, end)
    await fold(pool, batch([first]), now=end)
    async with transaction(pool) as worker:
        assert await rollups.repeat(worker, limit=5, zone=UTC_ZONE, kept_since=LONG_AGO) == 1
        await asyncio.wait_for(fold(pool, batch([second]), now=end), 5)
    async with transaction(pool) as folding:
        await folding.execute("select 1")
        await asyncio.wait_for(fold(pool, batch([third]), now=end), 5)
    await repeat(pool)

    assert [row[0] for row in (await stored(pool, "rollup_minute")).values()] == [3]


async def test_what_is_older_than_the_checks_that_are_kept_is_left_as_it_is(pool: Pool) -> None:
    """Seen red without `kept_since`: the hour of which one late check is left said one check."""
    await begin(pool, START)
    await fold(pool, batch(results("+++")), now=START)
    await advance(pool, START + 2 * HOUR)
    before = await stored(pool, "rollup_hour")
    await pool.execute("delete from api_response_times")
    await fold(pool, batch(results("+", first=9)), now=START + 2 * HOUR)

    await repeat(pool, kept_since=START + timedelta(days=1))

    assert await stored(pool, "rollup_hour") == before
    assert await pool.fetchval("select count(*) from rollup_dirty") == 0


async def test_two_workers_share_one_lock(pool: Pool) -> None:
    await begin(pool, START)
    async with transaction(pool) as one, transaction(pool) as other:
        assert await rollups.advance(one, now=START + HOUR, zone=UTC_ZONE)
        assert not await rollups.advance(other, now=START + HOUR, zone=UTC_ZONE)
        assert await rollups.repeat(other, limit=1, zone=UTC_ZONE, kept_since=LONG_AGO) == 0
    await until(
        lambda: pool.fetchval("select done_until > $1 from rollup_progress where resolution = 'minute'", START),
        within_s=5,
        what="the minute is noted",
    )


async def test_fresh_minutes_are_the_same_as_rolled_up_ones(pool: Pool) -> None:
    everything = checks(random.Random(5), services=1, begin=START, minutes=20)
    await begin(pool, START)
    await fold(pool, batch(everything), now=START)
    async with pool.acquire() as conn:
        fresh = await rollups.fresh(conn, "service-0", START, START + HOUR, region="eu")
    await advance(pool, START + 2 * HOUR)

    async with pool.acquire() as conn:
        assert await rollups.parts(conn, "rollup_minute", "service-0", START, START + HOUR, region="eu") == fresh
