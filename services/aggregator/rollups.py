"""SQL of the rollups: checks of a minute, an hour and a day, per service and region, with sketches of their response times.

A minute is rolled up from the checks, all services at once, when no transaction is left that might store checks of it without marking
it. What comes later than `LATE` after its minute is marked by whoever stores it, and its minute, hour and day are made again from the
checks. Rolling up again gives the same rows, so neither restarts nor replicas nor repeats change a number.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.aggregator.domain.calendar import DAY_MS, day_of, day_window, to_ms
from services.aggregator.sketch import GAMMA, LEAST_MS
from shared.database import Connection

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATE = timedelta(seconds=10)
SETTLED = LATE + timedelta(seconds=35)
"""How long a minute must be over, by the clock and by the beginning of every transaction that still runs, to be rolled up: one that began
within LATE may store without marking. The rest is for clocks that differ."""
MINUTES_AT_ONCE = 5
BEGIN_BEFORE_DAYS = 3
"""An installation that never rolled up begins so many days back, at midnight."""
LONG_S = 300.0
"""How long adding up an hour or a day of very many services may take. It locks nothing that a fold waits for."""
MOST_MS = 1e9
"""Longer times (eleven days) are nobody's measurement, and are left out."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COUNTS = "healthy, degraded, failed, unknown, response_count, response_sum_us, min_ms, max_ms"
_ADDED = """sum(healthy)::bigint as healthy, sum(degraded)::bigint as degraded, sum(failed)::bigint as failed,
       sum(unknown)::bigint as unknown, sum(response_count)::bigint as response_count, sum(response_sum_us)::bigint as response_sum_us,
       min(min_ms) as min_ms, max(max_ms) as max_ms"""
_BINS = """array_agg(key order by key) filter (where key is not null) as keys,
       array_agg(response_count order by key) filter (where key is not null) as counts"""


def _binned(bucket: str, source: str, where: str) -> str:
    """Count checks by service, region, bucket and bin. Times are of successful checks, finite and not negative; others lie in no bin."""
    return f"""
select c.service_id, c.region, {bucket} as bucket, t.key,
       count(*) filter (where outcome = 'healthy') as healthy, count(*) filter (where outcome = 'degraded') as degraded,
       count(*) filter (where outcome = 'failed') as failed, count(*) filter (where outcome = 'unknown') as unknown,
       count(t.ms) as response_count, coalesce(sum(round(t.ms * 1000)), 0) as response_sum_us, min(t.ms) as min_ms, max(t.ms) as max_ms
  from {source},
       lateral (select case when c.is_success and c.response_time between 0 and {MOST_MS!r} then c.response_time end as ms) r,
       lateral (select r.ms, case when r.ms is not null
                                  then ceil(ln(greatest(r.ms, {LEAST_MS!r})) / {math.log(GAMMA)!r})::integer end as key) t
 where c.source = 'check' and c.attempt = 0 and {where}
 group by 1, 2, 3, 4"""


def _save(bucket: str, rows: str) -> str:
    """Write rolled up rows; those that are there are made anew. The table's name is filled in where the statement is run."""
    return f"""
insert into {{table}} (service_id, region, bucket, {COUNTS}, keys, counts)
select service_id, region, {bucket}, {COUNTS}, coalesce(keys, array[]::integer[]), coalesce(counts, array[]::bigint[]) from {rows}
    on conflict (service_id, region, bucket) do update
   set healthy = excluded.healthy, degraded = excluded.degraded, failed = excluded.failed, unknown = excluded.unknown,
       response_count = excluded.response_count, response_sum_us = excluded.response_sum_us, min_ms = excluded.min_ms,
       max_ms = excluded.max_ms, keys = excluded.keys, counts = excluded.counts"""


_ROLLED = f"rolled as (select service_id, region, bucket, {_ADDED}, {_BINS} from bins group by 1, 2, 3)"
_MINUTES = _binned("date_bin('1 minute', c.scheduled_at, 'epoch')", "api_response_times c", "c.scheduled_at >= $1 and c.scheduled_at < $2")

# Served by api_response_times_by_time.
SQL_ROLL = f"with bins as ({_MINUTES}), {_ROLLED} {_save('bucket', 'rolled')}".format(table="rollup_minute")

_ASKED = """unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) as asked (service_id, starts, ends) join api_response_times c
       on c.service_id = asked.service_id and c.scheduled_at >= asked.starts and c.scheduled_at < asked.ends"""
# Some stretches of some services, a bucket each. Served by api_response_times_by_service.
SQL_ROLL_AGAIN = f"with bins as ({_binned('asked.starts', _ASKED, 'true')}), {_ROLLED} {_save('bucket', 'rolled')}"

# All services from $1 to $4: minutes up to the hour $2, hours up to the hour $3, minutes again. Served by the indexes by time.
SQL_ADD_UP = f"""
with parts as (select * from rollup_minute where bucket >= $1 and bucket < $2
                union all select * from rollup_hour where bucket >= $2 and bucket < $3
                union all select * from rollup_minute where bucket >= $3 and bucket < $4),
     totals as (select service_id, region, {_ADDED} from parts group by 1, 2),
     bins as (select service_id, region, key, sum(number)::bigint as response_count
                from parts, unnest(keys, counts) as bin (key, number) group by 1, 2, 3),
     sketches as (select service_id, region, {_BINS} from bins group by 1, 2)
{_save("$1::timestamptz", "totals left join sketches using (service_id, region)")}"""

SQL_MARK = "insert into rollup_dirty (service_id, minute) select * from unnest($1::text[], $2::timestamptz[])"
SQL_CLAIM = """
delete from rollup_dirty d using (select service_id, minute, id from rollup_dirty order by service_id, minute, id limit $1) mine
 where d.service_id = mine.service_id and d.minute = mine.minute and d.id = mine.id returning d.service_id, d.minute"""
SQL_ONE_AT_A_TIME = "select pg_try_advisory_xact_lock(hashtext('sla-monitor rollups'), hashtext(current_schema()))"
# Of this database and service, by the database's clock; never empty: the transaction that asks is among them.
SQL_RUNNING_SINCE = """
select min(xact_start) from pg_stat_activity
 where datname = current_database() and usename = current_user and application_name = current_setting('application_name')"""
SQL_STAND_ASIDE = "set local application_name = 'aggregator, storing no checks'"
SQL_DONE_UNTIL = "select resolution, done_until from rollup_progress"
SQL_DONE = """
insert into rollup_progress (resolution, done_until) values ($1, $2)
    on conflict (resolution) do update set done_until = excluded.done_until"""
# Whoever is just closing a day of them is waited for: what it closes may be without what the caller changed. api_call_logs first and in
# order, as folds do.
SQL_HOLD = """
select from api_call_logs join unnest($1::text[], $2::date[]) as asked (service_id, date) using (service_id, date)
 order by service_id, date for no key update of api_call_logs"""
SQL_REOPEN = """
update {table} t set finalized_at = null from unnest($1::text[], $2::date[]) as asked (service_id, date)
 where t.service_id = asked.service_id and t.date = asked.date and finalized_at is not null"""


async def reopen(conn: Connection, service_id: str, start: datetime, end: datetime) -> None:
    """Have the days around a time closed again, as their downtime changed.

    Whole days around it: closing a day again that did not change gives the same record. In the transaction that changed it.
    """
    first = start.date() - DAY
    await reopen_days(conn, [(service_id, first + step * DAY) for step in range((end.date() + DAY - first).days + 1)])


async def reopen_days(conn: Connection, days: Collection[tuple[str, date]]) -> None:
    """Have days of services closed again. In the transaction that changed what they are closed with."""
    asked = [service_id for service_id, _ in days], [day for _, day in days]
    await conn.execute(SQL_HOLD, *asked)
    for table in ("api_call_logs", "uptime_records"):
        await conn.execute(SQL_REOPEN.format(table=table), *asked)


async def stand_aside(conn: Connection) -> None:
    """Say that this transaction, which may be long, stores no checks: rolling up does not wait for it to end."""
    await conn.execute(SQL_STAND_ASIDE)


def late_minutes(checks: Iterable[tuple[str, datetime]], *, now: datetime) -> set[tuple[str, datetime]]:
    """Return the (service, minute) pairs of checks, by service and slot, whose minute may have been rolled up without them."""
    latest = now - LATE
    return {(service_id, minute) for service_id, slot in checks if slot < latest and (minute := floor(slot, MINUTE)) + MINUTE < latest}


async def mark(conn: Connection, late: Iterable[tuple[str, datetime]]) -> None:
    """Have minutes rolled up again. In the transaction that stored what came late."""
    ordered = sorted(late)
    if ordered:
        await conn.execute(SQL_MARK, [service_id for service_id, _ in ordered], [minute for _, minute in ordered])


def floor(at: datetime, step: timedelta) -> datetime:
    """Return the newest multiple of a step since 1970 that is not after a moment."""
    return at - (at - _EPOCH) % step


def ceil(at: datetime, step: timedelta) -> datetime:
    """Return the oldest multiple of a step since 1970 that is not before a moment."""
    return at + (_EPOCH - at) % step


@dataclass(frozen=True, slots=True)
class Done:
    """Up to where each resolution is rolled up, without a gap from where it began; None: not begun. Days end at local midnight."""

    minute: datetime | None = None
    hour: datetime | None = None
    day: datetime | None = None
    closed: datetime | None = None


async def done(conn: Connection) -> Done:
    """Return how far rolling up has come, and which days are closed."""
    return Done(**{row["resolution"]: row["done_until"] for row in await conn.fetch(SQL_DONE_UNTIL)})


async def set_done(conn: Connection, resolution: str, until: datetime) -> None:
    """Note how far one of them has come, in the transaction that did it."""
    await conn.execute(SQL_DONE, resolution, until)


async def advance(conn: Connection, *, now: datetime, zone: ZoneInfo) -> bool | None:
    """Roll up what is over and was not yet; return whether more is to be done at once, None if another replica is at it.

    Needs a transaction; one replica works at a time.
    """
    if not await conn.fetchval(SQL_ONE_AT_A_TIME):
        return None
    running_since: datetime = await conn.fetchval(SQL_RUNNING_SINCE)
    until = floor(min(now, running_since) - SETTLED, MINUTE)
    before = await _begun(conn, now, zone)
    begin = before.minute
    end = min(until, begin + MINUTES_AT_ONCE * MINUTE)
    if end <= begin:
        return False
    await roll(conn, begin, end)
    await set_done(conn, "minute", end)
    hours = await _advance_hours(conn, before.hour, end)
    await _advance_days(conn, before.day, hours, zone)
    return end < until


class _Begun(NamedTuple):
    minute: datetime
    hour: datetime
    day: datetime


async def _begun(conn: Connection, now: datetime, zone: ZoneInfo) -> _Begun:
    """Return how far rolling up has come; where it never began, it begins some midnights ago."""
    before = await done(conn)
    if before.minute and before.hour and before.day:
        return _Begun(before.minute, before.hour, before.day)
    first = floor(moment(day_window(day_of(to_ms(now) - BEGIN_BEFORE_DAYS * DAY_MS, zone), zone).start), HOUR)
    for resolution in _Begun._fields:
        await set_done(conn, resolution, first)
    return _Begun(first, first, first)


async def roll(conn: Connection, start: datetime, end: datetime) -> None:
    """Roll up the minutes of a time, of all services."""
    await conn.execute(SQL_ROLL, start, end, timeout=LONG_S)


async def _advance_hours(conn: Connection, begin: datetime, minutes_done: datetime) -> datetime:
    hour = begin
    while hour + HOUR <= minutes_done:
        await _add_up(conn, "rollup_hour", (hour, hour, hour, hour + HOUR))
        hour += HOUR
        await set_done(conn, "hour", hour)
    return hour


async def _advance_days(conn: Connection, begin: datetime, hours_done: datetime, zone: ZoneInfo) -> None:
    """Add up local days that lie wholly in the hours that are done."""
    day = day_of(to_ms(begin + HOUR) - 1, zone)  # the first begins in the hour that was begun with, if not with it
    window = day_window(day, zone)
    while moment(window.end) <= hours_done:
        start, end = moment(window.start), moment(window.end)
        await _add_up(conn, "rollup_day", (start, ceil(start, HOUR), floor(end, HOUR), end))
        await set_done(conn, "day", end)
        day += DAY
        window = day_window(day, zone)


async def _add_up(conn: Connection, table: str, edges: tuple[datetime, datetime, datetime, datetime]) -> None:
    await conn.execute(SQL_ADD_UP.format(table=table), *edges, timeout=LONG_S)


async def repeat(conn: Connection, *, limit: int, zone: ZoneInfo, kept_since: datetime) -> int:
    """Roll up again what was marked, and return how many marks that were. Needs a transaction; one replica works at a time.

    All of it from the checks, under the lock of `advance`. Days that are made again are to be closed again. What lies before
    `kept_since` stays as it is: its other checks may be gone.
    """
    if not await conn.fetchval(SQL_ONE_AT_A_TIME):
        return 0
    before = await done(conn)
    claimed = await conn.fetch(SQL_CLAIM, limit)
    marked = {(row["service_id"], row["minute"]) for row in claimed if row["minute"] >= kept_since}
    minutes = {(service_id, minute, minute + MINUTE) for service_id, minute in marked}
    hours = {(service_id, hour, hour + HOUR) for service_id, minute in marked if (hour := floor(minute, HOUR)) < (before.hour or hour)}
    days = {(service_id, day_of(to_ms(minute), zone)) for service_id, minute in marked if minute < (before.day or minute)}
    windows = {(service_id, day_window(day, zone)) for service_id, day in days}
    await _roll_again(conn, "rollup_minute", minutes)
    await _roll_again(conn, "rollup_hour", hours)
    await _roll_again(conn, "rollup_day", {(service_id, moment(one.start), moment(one.end)) for service_id, one in windows})
    if days:
        await reopen_days(conn, days)
    return len(claimed)


async def _roll_again(conn: Connection, table: str, spans: Collection[tuple[str, datetime, datetime]]) -> None:
    if spans:
        services, starts, ends = zip(*sorted(spans), strict=True)
        await conn.execute(SQL_ROLL_AGAIN.format(table=table), services, starts, ends, timeout=LONG_S)


def moment(at_ms: int) -> datetime:
    """Return milliseconds since 1970 as a moment."""
    return _EPOCH + timedelta(milliseconds=at_ms)


class Part(NamedTuple):
    """One rollup row of a service, as reads add them up. Times in milliseconds, the sum in microseconds.

    Its fields are the columns of `SQL_PARTS`. A tuple, as a read makes thousands of them.
    """

    bucket: datetime
    healthy: int
    degraded: int
    failed: int
    unknown: int
    response_count: int
    response_sum_us: int
    min_ms: float | None
    max_ms: float | None
    keys: Sequence[int]
    counts: Sequence[int]
    """Of responses in each of the bins `keys`."""

    @property
    def bins(self) -> Iterable[tuple[int, int]]:
        """Its sketch as (bin, count) pairs; not kept as such, as many small tuples are work for Python's collector."""
        return zip(self.keys, self.counts, strict=True)


SQL_PARTS = f"""
select bucket, {COUNTS}, keys, counts from {{source}}
 where service_id = $1 and bucket >= $2 and bucket < $3 and ($4::text is null or region = $4) order by bucket"""
_OF_ONE = "c.scheduled_at >= $1 and c.scheduled_at < $2 and c.service_id = $3 and ($4::text is null or c.region = $4)"
# Served by api_response_times_by_service.
SQL_FRESH = f"""
with bins as ({_binned("date_bin('1 minute', c.scheduled_at, 'epoch')", "api_response_times c", _OF_ONE)}),
     minutes as (select bucket, {_ADDED}, {_BINS} from bins group by bucket)
select bucket, {COUNTS}, coalesce(keys, array[]::integer[]), coalesce(counts, array[]::bigint[]) from minutes order by bucket"""


async def parts(conn: Connection, table: str, service_id: str, start: datetime, end: datetime, *, region: str | None = None) -> list[Part]:
    """Return the rows of one of the three tables over a time, oldest first, a row for each bucket and region."""
    return [Part(*row) for row in await conn.fetch(SQL_PARTS.format(source=table), service_id, start, end, region)]


async def fresh(conn: Connection, service_id: str, start: datetime, end: datetime, *, region: str | None = None) -> list[Part]:
    """Return minutes straight from the checks: those that are not rolled up yet."""
    return [Part(*row) for row in await conn.fetch(SQL_FRESH, start, end, service_id, region)]
