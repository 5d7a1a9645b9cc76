"""SQL of the rollups: checks of a minute, an hour and a day, per service and region, with sketches of their response times.

A minute is rolled up from the checks, all services at once, when it is over for longer than any transaction that stores checks may take
(`SETTLED`). What comes later than `LATE` after its minute is marked by whoever stores it, and its minute, hour and day are made again.
Rolling up again gives the same rows, so neither restarts nor replicas nor repeats change a number.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from services.aggregator.domain.calendar import day_of, day_window, to_ms
from services.aggregator.sketch import GAMMA, LEAST_MS
from shared.database import COMMAND_TIMEOUT_S, Connection

if TYPE_CHECKING:
    import asyncpg

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
LATE = timedelta(seconds=10)
SETTLED = LATE + timedelta(seconds=COMMAND_TIMEOUT_S + 5)
"""A transaction that began before LATE marks nothing; it has ended, well or badly, by then."""
MINUTES_AT_ONCE = 15
BEGIN_BEFORE = timedelta(days=3)
"""An installation that never rolled up begins so far back."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = "healthy, degraded, failed, unknown, response_count, response_sum_us, min_ms, max_ms"
_ADDED = """sum(healthy)::bigint as healthy, sum(degraded)::bigint as degraded, sum(failed)::bigint as failed,
       sum(unknown)::bigint as unknown, sum(response_count)::bigint as response_count, sum(response_sum_us)::bigint as response_sum_us,
       min(min_ms) as min_ms, max(max_ms) as max_ms"""
_BINS = """array_agg(key order by key) filter (where key is not null) as keys,
       array_agg(response_count order by key) filter (where key is not null) as counts"""
_INSERT = f"insert into {{table}} (service_id, region, bucket, {_COUNTS}, keys, counts)"
_ON_CONFLICT = """on conflict (service_id, region, bucket) do update
   set healthy = excluded.healthy, degraded = excluded.degraded, failed = excluded.failed, unknown = excluded.unknown,
       response_count = excluded.response_count, response_sum_us = excluded.response_sum_us, min_ms = excluded.min_ms,
       max_ms = excluded.max_ms, keys = excluded.keys, counts = excluded.counts"""

# Times are those of successful checks, finite and not negative; the bin's number is NULL for all other checks.
_BINNED = f"""
select c.service_id, c.region, date_bin($3, c.scheduled_at, 'epoch') as bucket, t.key,
       count(*) filter (where outcome = 'healthy') as healthy, count(*) filter (where outcome = 'degraded') as degraded,
       count(*) filter (where outcome = 'failed') as failed, count(*) filter (where outcome = 'unknown') as unknown,
       count(t.ms) as response_count, coalesce(sum(round(t.ms * 1000)), 0) as response_sum_us, min(t.ms) as min_ms, max(t.ms) as max_ms
  from api_response_times c,
       lateral (select case when c.is_success and c.response_time >= 0 and c.response_time < 'infinity' then c.response_time end as ms) r,
       lateral (select r.ms, case when r.ms is not null
                                  then ceil(ln(greatest(r.ms, {LEAST_MS})) / {math.log(GAMMA)!r})::integer end as key) t
 where c.source = 'check' and c.attempt = 0 and c.scheduled_at >= $1 and c.scheduled_at < $2"""

SQL_ROLL = f"""
with bins as ({_BINNED} and ($4::text is null or c.service_id = $4) group by 1, 2, 3, 4),
     rolled as (select service_id, region, bucket, {_ADDED}, {_BINS} from bins group by 1, 2, 3)
{_INSERT}
select service_id, region, bucket, {_COUNTS}, coalesce(keys, '{{{{}}}}'), coalesce(counts, '{{{{}}}}') from rolled
{_ON_CONFLICT}"""

SQL_ADD_UP = f"""
with parts as (select * from {{source}} where bucket >= $1 and bucket < $2 and ($3::text is null or service_id = $3)),
     totals as (select service_id, region, {_ADDED} from parts group by 1, 2),
     bins as (select service_id, region, key, sum(number)::bigint as response_count
                from parts, unnest(keys, counts) as bin (key, number) group by 1, 2, 3),
     sketches as (select service_id, region, {_BINS} from bins group by 1, 2)
{_INSERT}
select service_id, region, $1, {_COUNTS}, coalesce(keys, '{{{{}}}}'), coalesce(counts, '{{{{}}}}')
  from totals left join sketches using (service_id, region)
{_ON_CONFLICT}"""

SQL_MARK = """
insert into rollup_dirty (service_id, minute) select * from unnest($1::text[], $2::timestamptz[]) on conflict do nothing"""
SQL_CLAIM = """
delete from rollup_dirty d using (
    select service_id, minute from rollup_dirty order by service_id, minute limit $1 for update skip locked
) mine where d.service_id = mine.service_id and d.minute = mine.minute returning d.service_id, d.minute"""
SQL_ONE_AT_A_TIME = "select pg_try_advisory_xact_lock(hashtext('sla-monitor rollups'), hashtext(current_schema()))"
SQL_DONE_UNTIL = "select done_until from rollup_progress where resolution = $1"
SQL_DONE = """
insert into rollup_progress (resolution, done_until) values ($1, $2)
    on conflict (resolution) do update set done_until = excluded.done_until"""


def late_minutes(checks: Iterable[tuple[str, datetime]], *, now: datetime) -> set[tuple[str, datetime]]:
    """Return the (service, minute) pairs of checks, by service and slot, whose minute may have been rolled up without them."""
    latest = now - LATE
    return {(service_id, minute) for service_id, slot in checks if (minute := floor(slot, MINUTE)) + MINUTE < latest}


async def mark(conn: Connection, late: Iterable[tuple[str, datetime]]) -> None:
    """Have minutes rolled up again. In the transaction that stored what came late."""
    ordered = sorted(late)
    if ordered:
        await conn.execute(SQL_MARK, [service_id for service_id, _ in ordered], [minute for _, minute in ordered])


def floor(at: datetime, step: timedelta) -> datetime:
    """Return the newest multiple of a step since 1970 that is not after a moment."""
    return at - (at - _EPOCH) % step


async def advance(conn: Connection, *, now: datetime, zone: ZoneInfo) -> bool:
    """Roll up what is over and was not yet; return whether more is to be done at once. Needs a transaction; one replica works at a time."""
    if not await conn.fetchval(SQL_ONE_AT_A_TIME):
        return False
    until = floor(now - SETTLED, MINUTE)
    done = await _done_until(conn, "minute") or floor(now - BEGIN_BEFORE, HOUR)
    step = min(until, done + MINUTES_AT_ONCE * MINUTE)
    if step > done:
        await roll(conn, "rollup_minute", done, end=step, step=MINUTE)
        await conn.execute(SQL_DONE, "minute", step)
    hours = await _advance_hours(conn, done, max(done, step))
    await _advance_days(conn, hours, now=now, zone=zone)
    return step < until


async def repeat(conn: Connection, *, limit: int, zone: ZoneInfo) -> int:
    """Roll up again what was marked, and return how many minutes that were. Needs a transaction; one replica works at a time.

    Under the lock of `advance`: an hour that is just being added up must not miss a minute that is made again beside it.
    """
    if not await conn.fetchval(SQL_ONE_AT_A_TIME):
        return 0
    claimed = [(row["service_id"], row["minute"]) for row in await conn.fetch(SQL_CLAIM, limit)]
    hours, days = set(), set()
    done_hours, done_days = await _done_until(conn, "hour"), await _done_until(conn, "day")
    for service_id, minute in claimed:
        await roll(conn, "rollup_minute", minute, end=minute + MINUTE, step=MINUTE, service_id=service_id)
        if done_hours and minute < done_hours:
            hours.add((service_id, floor(minute, HOUR)))
        if done_days and minute < done_days:
            days.add((service_id, day_of(to_ms(minute), zone)))
    for service_id, hour in sorted(hours):
        # From the checks: the minutes of an old hour may be gone.
        await roll(conn, "rollup_hour", hour, end=hour + HOUR, step=HOUR, service_id=service_id)
    for service_id, day in sorted(days):
        await _add_up_day(conn, day, zone, service_id)
    return len(claimed)


async def _advance_hours(conn: Connection, begin: datetime, minutes_done: datetime) -> datetime:
    done = await _done_until(conn, "hour") or floor(begin, HOUR)
    while done + HOUR <= minutes_done:
        await conn.execute(SQL_ADD_UP.format(table="rollup_hour", source="rollup_minute"), done, done + HOUR, None)
        done += HOUR
        await conn.execute(SQL_DONE, "hour", done)
    return done


async def _advance_days(conn: Connection, hours_done: datetime, *, now: datetime, zone: ZoneInfo) -> None:
    done = await _done_until(conn, "day")
    day = day_of(to_ms(done or floor(now - BEGIN_BEFORE, HOUR)), zone)
    while to_ms(hours_done) >= day_window(day, zone).end:
        await _add_up_day(conn, day, zone, None)
        day += timedelta(days=1)
        await conn.execute(SQL_DONE, "day", _moment(day_window(day, zone).start))


async def _add_up_day(conn: Connection, day: date, zone: ZoneInfo, service_id: str | None) -> None:
    """Add up a local day: from hours, or from minutes where the zone's days do not begin on the hour."""
    window = day_window(day, zone)
    start, end = _moment(window.start), _moment(window.end)
    whole = window.start % 3_600_000 == 0 and window.end % 3_600_000 == 0
    source = "rollup_hour" if whole else "rollup_minute"
    await conn.execute(SQL_ADD_UP.format(table="rollup_day", source=source), start, end, service_id)


async def roll(conn: Connection, table: str, start: datetime, *, end: datetime, step: timedelta, service_id: str | None = None) -> None:
    """Roll up the checks of a time into one of the tables, of one service or of all; rows that are there are made anew."""
    await conn.execute(SQL_ROLL.format(table=table), start, end, step, service_id)


async def _done_until(conn: Connection, resolution: str) -> datetime | None:
    until: datetime | None = await conn.fetchval(SQL_DONE_UNTIL, resolution)
    return until


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


@dataclass(frozen=True, slots=True)
class Part:
    """One rollup row of a service, as reads add them up. Times in milliseconds, the sum in microseconds."""

    bucket: datetime
    healthy: int
    degraded: int
    failed: int
    unknown: int
    response_count: int
    response_sum_us: int
    min_ms: float | None
    max_ms: float | None
    bins: Sequence[tuple[int, int]]


SQL_PARTS = f"""
select bucket, {_COUNTS}, keys, counts from {{source}}
 where service_id = $1 and bucket >= $2 and bucket < $3 and ($4::text is null or region = $4) order by bucket"""
SQL_FRESH = f"""
with bins as ({_BINNED} and c.service_id = $4 and ($5::text is null or c.region = $5) group by 1, 2, 3, 4)
select bucket, {_ADDED}, {_BINS} from bins group by bucket order by bucket"""


async def parts(conn: Connection, table: str, service_id: str, start: datetime, end: datetime, *, region: str | None = None) -> list[Part]:
    """Return the rows of one of the three tables over a time, oldest first, a row for each bucket and region."""
    return [_part(row) for row in await conn.fetch(SQL_PARTS.format(source=table), service_id, start, end, region)]


async def fresh(conn: Connection, service_id: str, start: datetime, end: datetime, *, region: str | None = None) -> list[Part]:
    """Return minutes straight from the checks: those that are not rolled up yet."""
    return [_part(row) for row in await conn.fetch(SQL_FRESH, start, end, MINUTE, service_id, region)]


def _part(row: "asyncpg.Record") -> Part:
    fields = dict(row)
    bins = list(zip(fields.pop("keys") or (), fields.pop("counts") or (), strict=True))
    return Part(**fields, bins=bins)
