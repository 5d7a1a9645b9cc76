"""Days of a zone: folded, read, closed, opened again by what comes late, and made up for after days of being off."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import corrections, days, records, replays, rollups, usecases
from services.aggregator.domain.calendar import LocalDays, bounds
from services.aggregator.domain.day import Tally
from services.aggregator.upkeep import Upkeep, close_days, drop_old, make_room, roll_up
from shared.contracts.codes import Status
from shared.contracts.commands import Uptime, UptimeQuery
from shared.contracts.history import CorrectionDraft
from shared.database import Connection, Pool, transaction
from tests.integration.aggregator.story import batch, definition, learn, results
from tests.waiting import until

SEOUL, BERLIN, KOLKATA, UTC_ZONE = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")
ID = "id-recognition"
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
PERCENTILES = ("p50_response_time", "p95_response_time", "p99_response_time")


async def fold(pool: Pool, pattern: str, start: datetime, *, now: datetime, zone: ZoneInfo = UTC_ZONE, service_id: str = ID) -> None:
    some = [batch(results(pattern, start=start, service_id=service_id))]
    await usecases.introduce_strangers(pool, some)
    async with transaction(pool) as conn:
        await usecases.fold(conn, some, now=now, days=LocalDays(zone))


async def work(pool: Pool, now: datetime, zone: ZoneInfo = UTC_ZONE) -> None:
    """Do what the jobs do."""
    keep = Upkeep(pool, lambda: now, zone)
    await roll_up(keep)
    await close_days(keep)


async def read(pool: Pool, now: datetime, number: int, zone: ZoneInfo = UTC_ZONE) -> Uptime:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await days.read_uptime(conn, UptimeQuery(service_id=ID, days=number), now=now, zone=zone)


async def down(pool: Pool, start: datetime, end: datetime | None) -> None:
    """Have the timeline say that the service was down."""
    await pool.execute("insert into timeline (service_id, state, started_at, ended_at) values ($1, 'down', $2, $3)", ID, start, end)


async def test_checks_count_for_the_day_of_the_zone(pool: Pool) -> None:
    """Seen red with the day of the slot in UTC."""
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=3)))
    evening = MIDNIGHT + timedelta(hours=15, seconds=-4)  # 23:59:56 in Seoul
    await fold(pool, "++--", evening, now=evening + timedelta(seconds=9), zone=SEOUL)

    rows = await pool.fetch("select date, successful_checks, failed_checks from uptime_records order by date")
    assert [tuple(row.values()) for row in rows] == [(date(2026, 3, 10), 2, 0), (date(2026, 3, 11), 0, 2)]
    uptime = await read(pool, evening + timedelta(minutes=1), 2, SEOUL)
    assert [(one.date, one.status) for one in uptime.days] == [("2026-03-10", Status.OPERATIONAL), ("2026-03-11", Status.MAJOR_OUTAGE)]


@pytest.mark.parametrize("zone", [UTC_ZONE, SEOUL, KOLKATA, BERLIN], ids=str)
async def test_a_day_has_the_same_percentiles_live_and_closed(pool: Pool, zone: ZoneInfo) -> None:
    """Live from hours, minutes and checks; closed from the day's rollup; both within 1 % of the true ones.

    Seen red with live percentiles of hours only, and with the last hour counted whole where the day ends within it (in Kolkata).
    """
    start, end = bounds(date(2026, 3, 29), zone)  # in Berlin the clocks change
    await learn(pool, definition(created_at=start - timedelta(days=3)))
    everything = []
    for minute in range(-60, int((end - start) / timedelta(minutes=1)) + 60, 7):
        everything += results("+", start=start + timedelta(minutes=minute), first=0)
    varied = [one.model_copy(update={"response_time_ms": 20.0 + place * 3}) for place, one in enumerate(everything)]
    await usecases.introduce_strangers(pool, [batch(varied)])
    async with transaction(pool) as conn:
        await usecases.fold(conn, [batch(varied)], now=end + timedelta(hours=1), days=LocalDays(zone))
    times = sorted(one.response_time_ms or 0 for one in varied if start <= one.scheduled_at < end)
    found = []
    for now in (end - timedelta(minutes=1), end + timedelta(seconds=30), end + timedelta(hours=2), end + timedelta(hours=3)):
        async with transaction(pool) as conn:
            while await rollups.advance(conn, now=now, zone=zone):
                pass
        if now > end + timedelta(hours=2):
            await work(pool, now, zone)
        day = next(one for one in (await read(pool, now, 2, zone)).days if one.date == "2026-03-29")
        found.append([getattr(day, name) for name in PERCENTILES])
        if now < end:
            continue
        for value, share in zip(found[-1], (0.5, 0.95, 0.99), strict=True):
            true = times[int(share * (len(times) - 1))]
            assert abs(value - true) <= true * 0.01 + 0.0005
    assert found[1] == found[2] == found[3]
    assert await pool.fetchval("select finalized_at is not null from uptime_records where date = '2026-03-29'")
    stored = await pool.fetchrow(f"select {', '.join(PERCENTILES)} from api_call_logs where date = '2026-03-29'")
    assert stored is not None
    assert list(stored.values()) == found[3]


async def test_days_of_being_off_are_made_up_for_and_are_no_data(pool: Pool) -> None:
    """The last that was seen was an outage; then nobody ran for four days.

    Seen red with days closed one at a run, and with the days between left without a record.
    """
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=1)), now=MIDNIGHT - timedelta(days=1))
    await learn(pool, definition("paused", is_active=False, created_at=MIDNIGHT - timedelta(days=9)), now=MIDNIGHT - timedelta(days=9))
    await learn(pool, definition("later", created_at=MIDNIGHT + timedelta(days=2)), now=MIDNIGHT + timedelta(days=2))
    await fold(pool, "++--", MIDNIGHT + timedelta(hours=9), now=MIDNIGHT + timedelta(hours=9, seconds=8))
    await down(pool, MIDNIGHT + timedelta(hours=9, seconds=4), MIDNIGHT + timedelta(hours=9, seconds=14))
    await work(pool, MIDNIGHT + timedelta(hours=10))

    back = MIDNIGHT + timedelta(days=5, hours=8)
    for _ in range(2):
        await asyncio.gather(work(pool, back), work(pool, back))

    rows = await pool.fetch(
        "select u.service_id, date, status, total_downtime_minutes, u.finalized_at is not null and l.finalized_at is not null"
        "  from uptime_records u join api_call_logs l using (service_id, date) order by 1, 2"
    )
    found = {(row["service_id"], row["date"].day): tuple(row.values())[2:] for row in rows}
    assert [found[ID, day] for day in range(10, 15)] == [("mo", Decimal("0.17"), True), *[("nd", 0, True)] * 4]
    assert [found["paused", day][0] for day in range(10, 15)] == ["e"] * 5
    assert [day for service_id, day in found if service_id == "later"] == [12, 13, 14]
    assert await pool.fetchval("select done_until from rollup_progress where resolution = 'closed'") == MIDNIGHT + timedelta(days=5)
    uptime = await read(pool, back, 6)
    assert [one.status for one in uptime.days] == [Status.MAJOR_OUTAGE, *[Status.NO_DATA] * 5]


async def test_a_day_of_being_off_is_unknown_time_and_no_outage(pool: Pool) -> None:
    """Nothing ran from an outage in the evening to the morning after the next day: by results, the timeline and the days' job.

    Seen red with an outage that goes on until the next result.
    """
    day = timedelta(days=1)
    await learn(pool, definition(created_at=MIDNIGHT), now=MIDNIGHT)
    await learn(pool, definition("paused", is_active=False, created_at=MIDNIGHT), now=MIDNIGHT)
    evening, back = MIDNIGHT + timedelta(hours=20), MIDNIGHT + 2 * day + timedelta(hours=4)
    await fold(pool, "++--", evening, now=evening + timedelta(seconds=9))
    await fold(pool, "+" * 5, back, now=back + timedelta(seconds=11))
    now = back + timedelta(hours=1)
    while await replays.work(pool, clock=lambda: now):
        pass
    for _ in range(2):
        await work(pool, now)

    found = (await read(pool, now, 3)).days
    assert [one.status for one in found] == [Status.MAJOR_OUTAGE, Status.NO_DATA, Status.OPERATIONAL]
    assert found[1].total_downtime_minutes == found[2].total_downtime_minutes == 0
    assert 0 < found[0].total_downtime_minutes < 1
    over = "select state from timeline where service_id = $1 and known_until is null and started_at <= $2 and ended_at >= $3"
    assert [row["state"] for row in await pool.fetch(over, ID, MIDNIGHT + day, MIDNIGHT + 2 * day)] == ["unknown"]
    rows = await pool.fetch("select status from uptime_records where service_id = 'paused' order by date")
    assert [row["status"] for row in rows] == ["e", "e"]


async def test_what_comes_late_opens_a_closed_day_and_it_is_closed_again(pool: Pool) -> None:
    """Seen red without `finalized_at = null` where either table is saved, and without reopening where days are rolled up again."""
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=1)))
    await fold(pool, "++", MIDNIGHT, now=MIDNIGHT)
    later = MIDNIGHT + timedelta(days=2, hours=3)
    await work(pool, later)
    first = (await read(pool, later, 3)).days[0]
    assert await pool.fetchval("select count(*) from uptime_records where finalized_at is not null") == 2, "also the one without checks"

    await fold(pool, "+" * 30, MIDNIGHT + timedelta(hours=1), now=later)
    for table in ("uptime_records", "api_call_logs"):
        assert await pool.fetchval(f"select finalized_at from {table} where date = '2026-03-10'") is None
    async with transaction(pool) as conn:
        await days.close_some(conn, now=later, zone=UTC_ZONE)
    assert await pool.fetchval("select finalized_at from api_call_logs where date = '2026-03-10'") is not None, "too soon"
    await work(pool, later)
    second = (await read(pool, later, 3)).days[0]

    assert (first.total_checks, second.total_checks) == (2, 32)
    assert first.p50_response_time != second.p50_response_time
    async with pool.acquire() as conn:
        parts = await rollups.parts(conn, "rollup_day", ID, MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert [part.response_count for part in parts] == [32]


async def test_a_day_in_a_pause_is_empty_however_late_the_pause_is_learned(pool: Pool) -> None:
    """Learned before the day is made, and after it was closed, which opens it again; switching on that is learned late, too.

    Seen red with pauses by the status, which is `e` from when it was learned on, and with a closed day that keeps what it was called.
    """
    began, day = MIDNIGHT - timedelta(days=2), timedelta(days=1)
    first, later, again = (definition(created_at=at, version=number + 1) for number, at in enumerate((began, MIDNIGHT, MIDNIGHT + 2 * day)))
    off = [one.model_copy(update={"created_at": began, "is_active": one is again}) for one in (later, again)]
    await learn(pool, first, now=began)
    await fold(pool, "++", began, now=began + timedelta(seconds=3))
    for now, told, expected in (
        (MIDNIGHT + day * 1.2, None, ["o", "nd", "nd"]),
        (MIDNIGHT + day * 3.2, off[0], ["o", "nd", "e", "e", "e"]),
        (MIDNIGHT + day * 3.3, off[1], ["o", "nd", "e", "e", "nd"]),
    ):
        if told is not None:
            await learn(pool, told, now=now)
        for _ in range(2):
            await replays.work(pool, clock=lambda now=now: now)  # type: ignore[misc]  # bound early
            await work(pool, now)
        uptime = await read(pool, now, (now - began).days + 1)
        assert [row["status"] for row in await pool.fetch("select status from uptime_records order by date")] == expected
        assert [one.status.value for one in uptime.days][: len(expected)] == expected


async def test_corrections_change_the_downtime_of_closed_days(pool: Pool) -> None:
    """And today, which has no check yet, is down so far. Seen red with no downtime for a day without a record."""
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=1)))
    await fold(pool, "++", MIDNIGHT, now=MIDNIGHT)
    hour = timedelta(hours=1)
    await down(pool, MIDNIGHT + 22 * hour, None)
    later = MIDNIGHT + timedelta(days=3, hours=3)
    await work(pool, later)
    assert [one.total_downtime_minutes for one in (await read(pool, later, 4)).days] == [120, 1440, 1440, 180]

    insert = (
        "insert into correction (id, service_id, starts_at, ends_at, state, reason, made_by) values ($1, $2, $3, $4, $5, 'seen', 'kim')"
    )
    await pool.execute(insert, uuid4(), ID, MIDNIGHT + 23 * hour, MIDNIGHT + 47 * hour, "up")
    await pool.execute(insert, uuid4(), ID, MIDNIGHT, MIDNIGHT + hour, "down")
    async with transaction(pool) as conn:
        await rollups.reopen(conn, ID, MIDNIGHT, MIDNIGHT + 47 * hour)
    await work(pool, later)

    assert [one.total_downtime_minutes for one in (await read(pool, later, 4)).days] == [120, 60, 1440, 180]


async def test_a_day_is_down_before_its_first_check(pool: Pool) -> None:
    """By a correction, or as the outage of the evening goes on past midnight; when the day is closed, it is the same.

    Seen red with no downtime for a day without a record.
    """
    hour = timedelta(hours=1)
    await learn(pool, definition(created_at=MIDNIGHT), now=MIDNIGHT)
    await down(pool, MIDNIGHT + 22 * hour, MIDNIGHT + 25 * hour)
    draft = {"service_id": ID, "starts_at": MIDNIGHT + 2 * hour, "ends_at": MIDNIGHT + 4 * hour, "reason": "seen", "actor": "kim"}
    async with transaction(pool) as conn:
        await corrections.make(conn, CorrectionDraft.model_validate(draft | {"id": uuid4(), "state": "down"}), now=MIDNIGHT + 5 * hour)

    now = MIDNIGHT + 24.5 * hour
    assert await pool.fetchval("select count(*) from api_call_logs") == 0
    assert [one.total_downtime_minutes for one in (await read(pool, now, 3)).days] == [0, 240, 30]
    later = MIDNIGHT + 27 * hour
    await work(pool, later)
    assert await pool.fetchval("select count(*) from api_call_logs where finalized_at is not null") == 1
    assert [one.total_downtime_minutes for one in (await read(pool, later, 3)).days] == [0, 240, 60]


async def test_an_open_day_has_the_downtime_so_far_that_it_would_be_closed_with(pool: Pool) -> None:
    """By the timeline, not by when statuses were told: what comes late is told late.

    Seen red with the time in which the status was an outage, which tests/faults/test_two_aggregators.py met where a day had just been
    opened again, and with an outage that goes on until midnight.
    """
    hour = timedelta(hours=1)
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=1)))
    await fold(pool, "++", MIDNIGHT, now=MIDNIGHT)
    await down(pool, MIDNIGHT + 22 * hour, None)
    assert [one.total_downtime_minutes for one in (await read(pool, MIDNIGHT + 23 * hour, 1)).days] == [60]
    assert (await read(pool, MIDNIGHT + 25 * hour, 2)).days[0].total_downtime_minutes == 120

    later = MIDNIGHT + timedelta(days=1, hours=3)
    await work(pool, later)
    found = await read(pool, later, 2)
    assert found.days[0].total_downtime_minutes == 120
    assert await pool.fetchval("select finalized_at is not null from api_call_logs where date = '2026-03-10'")


async def test_a_day_that_is_corrected_while_it_is_being_closed_is_closed_again(pool: Pool) -> None:
    """What reopens waits for who closes, who knew nothing of the correction.

    Seen red with days reopened only where they are closed already: the day kept a downtime of nought for ever.
    """
    await learn(pool, definition(created_at=MIDNIGHT))
    await fold(pool, "++", MIDNIGHT, now=MIDNIGHT)
    async with pool.acquire() as closing, pool.acquire() as correcting, correcting.transaction():
        async with closing.transaction():
            services = [row["service_id"] for row in await closing.fetch(days.SQL_OPEN, MIDNIGHT.date(), 100)]
            draft = {"service_id": ID, "starts_at": MIDNIGHT, "ends_at": MIDNIGHT + timedelta(hours=1), "reason": "seen", "actor": "kim"}
            correction = CorrectionDraft.model_validate(draft | {"id": uuid4(), "state": "down"})
            corrected = asyncio.create_task(corrections.make(correcting, correction, now=MIDNIGHT + timedelta(days=2)))
            await until(lambda: _waits(pool, corrected), within_s=10, what="the correction waits, or is made")
            await closing.execute(days.SQL_CLOSE, MIDNIGHT.date(), services, [None], [None], [None], [0.0], ["nd"])
        await asyncio.wait_for(corrected, 10)

    assert await pool.fetchval("select count(*) from api_call_logs where finalized_at is not null") == 0
    later = MIDNIGHT + timedelta(days=2)
    await work(pool, later)
    assert (await read(pool, later, 3)).days[0].total_downtime_minutes == 60


async def test_reopening_a_day_beside_a_fold_is_no_deadlock(pool: Pool) -> None:
    """Seen red with both tables in one statement, which takes the second first, and with a fold that takes its days as they come."""
    await learn(pool, definition(created_at=MIDNIGHT))
    both = [*results("+", start=MIDNIGHT + timedelta(days=1)), *results("+", start=MIDNIGHT)]
    async with transaction(pool) as conn:
        await usecases.fold(conn, [batch(both)], now=MIDNIGHT + timedelta(days=1))
    await pool.execute("update api_call_logs set finalized_at = now()")
    await pool.execute("update uptime_records set finalized_at = now()")
    tallies = {(ID, (MIDNIGHT + timedelta(days=1)).date()): Tally(9), (ID, MIDNIGHT.date()): Tally(9)}
    async with pool.acquire() as folding, pool.acquire() as reopening, pool.acquire() as holding:
        held = holding.transaction()
        await held.start()
        # the fold stops within its work, on the newer day of the first table
        assert await holding.fetch("update api_call_logs set created_at = created_at where date = '2026-03-11' returning date")
        fold_ = asyncio.create_task(_alone(folding, lambda conn: records.save_days(conn, tallies)))
        await until(lambda: _waits(pool, fold_), within_s=10, what="the fold waits")
        reopen = asyncio.create_task(_alone(reopening, lambda conn: rollups.reopen(conn, ID, MIDNIGHT, MIDNIGHT)))
        await until(lambda: _waits(pool, reopen, number=2), within_s=10, what="who reopens waits, too")
        await held.rollback()
        await asyncio.wait_for(asyncio.gather(fold_, reopen), 10)


async def _alone(conn: Connection, task: Callable[[Connection], Awaitable[None]]) -> None:
    async with conn.transaction():
        await task(conn)


async def _waits(pool: Pool, task: "asyncio.Task[Any]", *, number: int = 1) -> bool:
    """Say whether so many wait for locks in this database, or the task is done without."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return task.done() or await pool.fetchval(waiting) >= number


async def test_closing_never_waits_for_a_fold_that_writes_the_same_day(pool: Pool) -> None:
    """Nor for whoever writes of a service that has no record of the day yet. Seen red without either `skip locked`."""
    for name in (ID, "quiet"):
        await learn(pool, definition(name, created_at=MIDNIGHT - timedelta(days=1)))
    await fold(pool, "++", MIDNIGHT, now=MIDNIGHT)
    later = MIDNIGHT + timedelta(days=1, hours=3)
    await roll_up(Upkeep(pool, lambda: later, UTC_ZONE))
    async with transaction(pool) as folding:
        await folding.execute("select from service for update")
        await folding.execute("update api_call_logs set total_calls = total_calls where service_id = $1", ID)
        for _ in range(2):  # the first step notes where to begin
            async with transaction(pool) as conn:
                await asyncio.wait_for(days.close_some(conn, now=later, zone=UTC_ZONE), 2)
    await close_days(Upkeep(pool, lambda: later, UTC_ZONE))
    assert await pool.fetchval("select count(*) from uptime_records where finalized_at is not null") == 2


async def test_minutes_stay_until_hours_and_days_are_made_of_them(pool: Pool) -> None:
    """Seen red with minutes dropped by their age alone: after days of being off the day that was half done lost its first half."""
    await learn(pool, definition(created_at=MIDNIGHT - timedelta(days=1)))
    first = Upkeep(pool, lambda: MIDNIGHT + timedelta(hours=12), UTC_ZONE)
    await make_room(first)
    await fold(pool, "++", MIDNIGHT + timedelta(hours=11, minutes=10), now=MIDNIGHT + timedelta(hours=11, minutes=10))
    await rollups_until(pool, MIDNIGHT + timedelta(hours=11, minutes=20))
    await roll_up(first)
    back = Upkeep(pool, lambda: MIDNIGHT + timedelta(days=9), UTC_ZONE)

    await make_room(back)
    assert not [name for name in await drop_old(back) if name.endswith("03_10")]
    await roll_up(back)
    assert [row["healthy"] for row in await pool.fetch("select healthy from rollup_day")] == [2]
    assert "rollup_minute_2026_03_10" in await drop_old(back)
    assert await pool.fetchval("select count(*) from rollup_minute") == 0


async def rollups_until(pool: Pool, moment: datetime) -> None:
    await roll_up(Upkeep(pool, lambda: moment + rollups.SETTLED, UTC_ZONE))
