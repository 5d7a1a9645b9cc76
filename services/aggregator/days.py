"""Days of a service: reading them, and closing those that are over.

A closed day has its percentiles and its downtime in its record, and every service has a record of every day of its life. What changes a
closed day afterwards (a late result, an amended timeline, a correction) opens it again: `finalized_at` becomes null, and it is closed once
more. Closing is done in small steps under an advisory lock, may be broken off anywhere and repeated, and makes up for days when nobody ran.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from asyncpg import Record

from services.aggregator import records, rollups, series, sketch, store
from services.aggregator.domain.calendar import Window, bounds, day_of, day_window, to_ms
from services.aggregator.domain.day import Span, empty, uptime_percentage
from services.aggregator.domain.timeline import Correction, Interval, State, corrected
from services.aggregator.rollups import DAY
from services.aggregator.store import Service
from shared.contracts.codes import Status
from shared.contracts.commands import Problem, Uptime, UptimeQuery
from shared.contracts.status import UptimeDay
from shared.database import Connection
from shared.rpc import Refused

CLOSED_AT_ONCE = 100
MADE_AT_ONCE = 500
"""Few enough that a fold of the same services waits for some milliseconds only."""

SQL_LOCK = "select pg_try_advisory_xact_lock(hashtext('sla-monitor days'), hashtext(current_schema()))"
SQL_OLDEST_OPEN = "select min(date) from api_call_logs where finalized_at is null"  # served by api_call_logs_open
SQL_WITHOUT_RECORD = """
select id from service s
 where version > 0 and created_at < $3 and (removed_at is null or removed_at > $2)
   and not exists (select from api_call_logs l where l.service_id = s.id and l.date = $1)  -- served by its key, service and date
 order by id limit $4"""
# Whoever holds the lock on a service is alone in writing its days; nobody is waited for.
SQL_LOCK_SOME = "select id from service where id = any($1::text[]) order by id for update skip locked"
# By when definitions say that it was, not by when the status said so: a definition may come late.
SQL_WATCHED = "select service_id, since, watched from definition_history where service_id = any($1::text[]) and since < $2 order by since"
SQL_LIVES = "select id, created_at, removed_at from service where id = any($1::text[])"
SQL_MAKE = """
with logs as (insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls)
              select id, $1, 0, 0, 0 from unnest($2::text[]) as given (id) on conflict do nothing)
insert into uptime_records (service_id, date, status, total_checks, successful_checks, failed_checks)
select id, $1, status, 0, 0, 0 from unnest($2::text[], $3::text[]) as given (id, status) on conflict do nothing"""
# Those that a fold is just writing are left for later.
SQL_OPEN = """
select service_id from api_call_logs where date = $1 and finalized_at is null  -- served by api_call_logs_open
 order by service_id limit $2 for update skip locked"""
SQL_BINS = "select service_id, keys, counts from rollup_day where service_id = any($1::text[]) and bucket >= $2 and bucket < $3"
SQL_DOWN = """
select service_id, started_at, ended_at from timeline
 where service_id = any($1::text[]) and known_until is null and state = 'down'
   and started_at < $3 and (ended_at is null or ended_at > $2)"""
SQL_CORRECTIONS = """
select id, number, service_id, state, starts_at, ends_at from correction
 where service_id = any($1::text[]) and revoked_at is null and starts_at < $3 and ends_at > $2"""
SQL_CLOSE = """
with given as (select * from unnest($2::text[], $3::double precision[], $4::double precision[], $5::double precision[], $6::numeric[],
                                      $7::text[])
                   as one (service_id, p50, p95, p99, downtime, status)),
     logs as (update api_call_logs l
                 set p50_response_time = coalesce(p50, p50_response_time), p95_response_time = coalesce(p95, p95_response_time),
                     p99_response_time = coalesce(p99, p99_response_time), total_downtime_minutes = downtime, finalized_at = now()
                from given where l.service_id = given.service_id and l.date = $1)
update uptime_records u set finalized_at = now(), status = case when total_checks > 0 then u.status else given.status end
  from given where u.service_id = given.service_id and u.date = $1"""


async def read_uptime(conn: Connection, query: UptimeQuery, *, now: datetime, zone: ZoneInfo) -> Uptime:
    """Return a service's days without gaps: closed ones from their records, today's and yesterday's as they are now.

    Raises `Refused` (404) for a service that was never heard of. Needs a repeatable read.
    """
    service = await store.find_service(conn, query.service_id)
    if service is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {query.service_id!r}."))
    today = day_of(to_ms(now), zone)
    last = query.until or today
    first = last - timedelta(days=query.days - 1)
    recorded = await records.read_days(conn, service.id, first=first, last=last)
    end = bounds(last, zone)[1]
    inactive = (await _pauses(conn, [service.id], end))[service.id]
    days = []
    for day in (first + timedelta(days=step) for step in range(query.days)):
        found = recorded.get(day)
        if found is None:
            one = _unrecorded(service, day, bounds(day, zone), inactive, now)
            is_open = timedelta(0) <= today - day <= timedelta(days=1)  # what is older gets its record when it is closed
            down = await _down(conn, service.id, day, now, zone) if is_open else 0.0
            days.append(one.model_copy(update={"total_downtime_minutes": down}))
        elif found.is_closed:
            days.append(found.day)
        else:
            live = await _live(conn, service.id, bounds(day, zone)) if today - day <= timedelta(days=1) else {}
            days.append(found.day.model_copy(update={"total_downtime_minutes": await _down(conn, service.id, day, now, zone), **live}))
    percentage = uptime_percentage(sum(one.successful_checks for one in days), sum(one.total_checks for one in days))
    return Uptime(service_id=service.id, uptime_percentage=None if percentage is None else float(percentage), days=tuple(days))


async def _down(conn: Connection, service_id: str, day: date, now: datetime, zone: ZoneInfo) -> float:
    """Return the downtime so far of a day that is not closed, as it would be closed now."""
    window = day_window(day, zone)
    return (await downtime(conn, [service_id], Window(window.start, max(window.start, min(window.end, to_ms(now))))))[service_id]


async def _live(conn: Connection, service_id: str, day: tuple[datetime, datetime]) -> dict[str, float | None]:
    """Return the percentiles of a day that is not closed: of its hours, then of minutes, then of checks."""
    start, end = day
    parts = await series.over(conn, service_id, start, end, finest=rollups.HOUR)
    found = sketch.percentiles(pair for part in parts for pair in part.bins)
    return {f"{name}_response_time": None if found is None else getattr(found, name) for name in ("p50", "p95", "p99")}


def _unrecorded(service: Service, day: date, edges: tuple[datetime, datetime], inactive: Sequence[Span], now: datetime) -> UptimeDay:
    is_empty = empty(*edges, created_at=service.created_at or now, removed_at=service.removed_at, inactive=inactive, now=now)
    return UptimeDay(
        service_id=service.id,
        date=day.isoformat(),
        status=Status.EMPTY if is_empty else Status.NO_DATA,
        uptime_percentage=None,
        total_checks=0,
        successful_checks=0,
        failed_checks=0,
    )


async def close_some(conn: Connection, *, now: datetime, zone: ZoneInfo) -> bool:
    """Take one small step of closing days that are over and rolled up; return whether more is to be done at once. Needs a transaction."""
    if not await conn.fetchval(SQL_LOCK):
        return False
    done = await rollups.done(conn)
    if done.day is None:
        return False
    ended = day_of(to_ms(min(done.day, now)), zone)  # the first day that is not over
    oldest = await conn.fetchval(SQL_OLDEST_OPEN)
    if done.closed is None:
        await rollups.set_done(conn, "closed", bounds(min(oldest or ended, ended - DAY), zone)[0])
        return True
    if oldest is not None and oldest < ended and await _close(conn, oldest, zone, now=now):
        return True
    day = day_of(to_ms(done.closed), zone)
    if day >= ended:
        return False
    if not await _make_missing(conn, day, bounds(day, zone), now=now):
        await rollups.set_done(conn, "closed", bounds(day, zone)[1])
    return True


async def _make_missing(conn: Connection, day: date, edges: tuple[datetime, datetime], *, now: datetime) -> bool:
    """Make records of a day for services without any; return False if there are none such."""
    missing = [row["id"] for row in await conn.fetch(SQL_WITHOUT_RECORD, day, *edges, MADE_AT_ONCE)]
    mine = [row["id"] for row in await conn.fetch(SQL_LOCK_SOME, missing)]
    await conn.execute(SQL_MAKE, day, mine, await _without_checks(conn, mine, edges, now=now))
    return bool(missing)


async def _without_checks(conn: Connection, services: Sequence[str], edges: tuple[datetime, datetime], *, now: datetime) -> list[str]:
    """Return what a day is called for each service, should it be without checks."""
    lives = {row["id"]: row for row in await conn.fetch(SQL_LIVES, services)}
    inactive = await _pauses(conn, services, edges[1])
    statuses = []
    for one in services:
        created, removed = lives[one]["created_at"] or now, lives[one]["removed_at"]
        is_empty = empty(*edges, created_at=created, removed_at=removed, inactive=inactive[one], now=now)
        statuses.append((Status.EMPTY if is_empty else Status.NO_DATA).value)
    return statuses


async def _pauses(conn: Connection, services: Collection[str], until: datetime) -> dict[str, list[Span]]:
    """Return when services were switched off, oldest first. What is before the first definition has the first's."""
    rows = _by_service(await conn.fetch(SQL_WATCHED, services, until))
    found: dict[str, list[Span]] = {one: [] for one in services}
    for one, told in rows.items():
        changes = told[:1] + [row for before, row in pairwise(told) if before["watched"] != row["watched"]]
        for row, after in zip(changes, [*changes[1:], None], strict=True):
            if not row["watched"]:
                start = rollups.moment(0) if row is changes[0] else row["since"]
                found[one].append(Span(start, after["since"] if after else None))
    return found


async def _close(conn: Connection, day: date, zone: ZoneInfo, *, now: datetime) -> bool:
    """Close some records of a day; return False if all that are open are being written by somebody."""
    services = [row["service_id"] for row in await conn.fetch(SQL_OPEN, day, CLOSED_AT_ONCE)]
    if not services:
        return False
    bins = _by_service(await conn.fetch(SQL_BINS, services, *bounds(day, zone)))
    found = [_percentiles(bins[one]) for one in services]
    p50, p95, p99 = ([None if one is None else getattr(one, name) for one in found] for name in ("p50", "p95", "p99"))
    down = await downtime(conn, services, day_window(day, zone))
    statuses = await _without_checks(conn, services, bounds(day, zone), now=now)
    await conn.execute(SQL_CLOSE, day, services, p50, p95, p99, [down[one] for one in services], statuses)
    return True


def _percentiles(rows: Sequence[Record]) -> sketch.Percentiles | None:
    return sketch.percentiles(pair for row in rows for pair in zip(row["keys"], row["counts"], strict=True))


async def downtime(conn: Connection, services: Collection[str], window: Window) -> dict[str, float]:
    """Return the minutes that services were down in a time, by their timelines and what corrections made of them."""
    edges = (rollups.moment(window.start), rollups.moment(window.end))
    downs = _by_service(await conn.fetch(SQL_DOWN, services, *edges))
    corrections = _by_service(await conn.fetch(SQL_CORRECTIONS, services, *edges))
    minutes = {}
    for one in services:
        facts = [
            Interval(to_ms(row["started_at"]), to_ms(row["ended_at"]) if row["ended_at"] else window.end, State.DOWN) for row in downs[one]
        ]
        amended = [
            Correction(to_ms(row["starts_at"]), to_ms(row["ends_at"]), State(row["state"]), str(row["id"]), row["number"])
            for row in corrections[one]
        ]
        whole = corrected(sorted(facts, key=lambda fact: fact.start), amended, window) if facts or amended else []
        minutes[one] = round(sum(part.end - part.start for part in whole if part.state is State.DOWN) / 60_000, 2)
    return minutes


def _by_service(rows: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        found[row["service_id"]].append(row)
    return found
