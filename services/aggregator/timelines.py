"""SQL of timelines: what was asked for over time, what is to be computed again, how regions stood, and what was published.

A timeline is computed from the checks (replays.py) and written here. What is no longer believed is kept, and says until when it was.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

from services.aggregator import rollups
from services.aggregator.domain.amending import Row
from services.aggregator.domain.courses import CHECKPOINT_EVERY, Checkpoint, Rules
from services.aggregator.domain.timeline import State
from services.aggregator.domain.verdict import Condition, Course, Standing, Thresholds, silent_after_ms
from services.aggregator.store import moment, slot_of
from shared.contracts.services import ServiceDefinition
from shared.database import Connection, affected

ROWS_AT_ONCE = 1_000
"""After so many rows others have their turn: a service that flapped for months has tens of thousands."""
HOURLY_FOR_MS = 48 * 3_600_000
"""Younger checkpoints are kept one an hour, older ones one a day."""
DAY_MS = 86_400_000
DUE_AFTER_S, DUE_SPREAD_S = 3_000, 1_200
"""A timeline is looked at though nothing marked it: between 50 and 70 minutes after it last was, so that all are not at once."""

SQL_MARK = "insert into timeline_dirty (service_id, from_slot) select * from unnest($1::text[], $2::bigint[])"
SQL_WAITING = """
(select service_id from timeline_dirty group by service_id order by min(id) limit $2)
union all
(select p.service_id from timeline_progress p where p.due_at <= $1
    and not exists (select from timeline_dirty d where d.service_id = p.service_id) order by p.due_at limit $2)
limit $2"""
SQL_ONE_AT_A_TIME = "select pg_try_advisory_xact_lock(hashtext(current_schema() || ' timelines'), hashtext($1))"
SQL_CLAIM = """
with mine as (delete from timeline_dirty where service_id = $1 returning from_slot)
select count(*) as marks, min(from_slot) as from_slot from mine"""
SQL_DUE = """
insert into timeline_progress (service_id, due_at) select $1, $2
 where exists (select from service where id = $1 and is_active and removed_at is null)
    on conflict (service_id) do update set due_at = excluded.due_at"""
SQL_NEVER_DUE = """
delete from timeline_progress p using service s
 where p.service_id = $1 and s.id = p.service_id and not (s.is_active and s.removed_at is null)"""

SQL_LEARN = """
insert into definition_history (service_id, since, version, check_interval, timeout, failure_threshold, recovery_threshold, quorum,
                                regions, watched)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict (service_id, since) do update
   set version = excluded.version, check_interval = excluded.check_interval, timeout = excluded.timeout,
       failure_threshold = excluded.failure_threshold, recovery_threshold = excluded.recovery_threshold, quorum = excluded.quorum,
       regions = excluded.regions, watched = excluded.watched
 where definition_history.version < excluded.version"""
SQL_FIRST = "select min(since) from definition_history where service_id = $1"
SQL_DAYS_SINCE = "select date from api_call_logs where service_id = $1 and date >= $2"
SQL_RULES = """
select h.since, h.check_interval, h.timeout, h.failure_threshold, h.recovery_threshold, h.quorum, h.regions, h.watched, s.created_at
  from definition_history h join service s on s.id = h.service_id where h.service_id = $1 order by h.since"""

SQL_CHECKPOINTS = "select region, slot, standing from course_checkpoint where service_id = $1 order by slot"
SQL_DROP_CHECKPOINTS = """
delete from course_checkpoint c using unnest($2::text[], $3::bigint[]) as from_ (region, slot)
 where c.service_id = $1 and c.region = from_.region and c.slot >= from_.slot"""
SQL_SAVE_CHECKPOINTS = """
insert into course_checkpoint (service_id, region, slot, standing)
select $1, region, slot, standing from unnest($2::text[], $3::bigint[], $4::jsonb[]) as given (region, slot, standing)"""
SQL_THIN_CHECKPOINTS = f"""
delete from course_checkpoint c
 where c.service_id = $1 and c.slot < $2
   and exists (select from course_checkpoint later
                where later.service_id = c.service_id and later.region = c.region and later.slot > c.slot and later.slot < $2
                  and (later.slot < $3 or later.slot / {DAY_MS} = c.slot / {DAY_MS}))"""

SQL_BELIEVED = """
select started_at, ended_at, state, regions_down, regions_degraded, known_from from timeline
 where service_id = $1 and known_until is null and (ended_at is null or ended_at >= $2) order by started_at"""
SQL_DISBELIEVE = """
update timeline set known_until = $3 where service_id = $1 and known_until is null and started_at = any($2::timestamptz[])"""
WRITTEN = ("service_id", "state", "started_at", "ended_at", "regions_down", "regions_degraded", "known_from")


async def mark(conn: Connection, from_slots: Mapping[str, int]) -> None:
    """Have timelines computed again, by service, from a slot on (ms). In the transaction that stored why; nothing to mark costs nothing."""
    if from_slots:
        await conn.execute(SQL_MARK, list(from_slots), list(from_slots.values()))


async def learn(conn: Connection, one: ServiceDefinition, *, removed_at: datetime | None, met: bool) -> None:
    """Note what a definition asks for since when, and mark the timeline if that is news. Also of a version that is not the newest.

    `met`: no definition of it was known before, so that nothing was computed yet.
    """
    since = one.updated_at if removed_at is None else removed_at
    watched = one.is_active and removed_at is None
    version = one.version if removed_at is None else one.version + 1  # a removal may say the version that it removes
    thresholds = (one.failure_threshold, one.recovery_threshold)
    values = (version, one.check_interval, one.timeout, *thresholds, one.quorum, list(one.regions), watched)
    if affected(await conn.execute(SQL_LEARN, one.id, since, *values)):
        days = await conn.fetch(SQL_DAYS_SINCE, one.id, since.date() - timedelta(days=1))  # which may be called `e` now, or no more
        await rollups.reopen_days(conn, [(one.id, row["date"]) for row in days])
        first = await conn.fetchval(SQL_FIRST, one.id) == since  # the first rules hold from the creation on, and may come last
        await mark(conn, {one.id: 0 if met else slot_of(min(since, one.created_at) if first else since)})


async def rules(conn: Connection, service_id: str) -> list[Rules]:
    """Return what was asked for over time; the first of it since the service exists. Empty: no definition came yet."""
    rows = await conn.fetch(SQL_RULES, service_id)
    first = min((slot_of(at) for row in rows[:1] for at in (row["since"], row["created_at"]) if at is not None), default=0)
    return [
        Rules(
            since=slot_of(row["since"]) if place else first,
            check_interval=row["check_interval"],
            thresholds=Thresholds(
                row["failure_threshold"],
                row["recovery_threshold"],
                silent_after_ms(check_interval=row["check_interval"], timeout=row["timeout"]),
            ),
            quorum=row["quorum"],
            regions=frozenset(row["regions"]),
            watched=row["watched"],
        )
        for place, row in enumerate(rows)
    ]


async def waiting(conn: Connection, *, now: datetime, limit: int) -> list[str]:
    """Return services whose timeline was marked, or not looked at for about an hour."""
    return [row["service_id"] for row in await conn.fetch(SQL_WAITING, now, limit)]


@dataclass(frozen=True, slots=True)
class Claim:
    """One service, taken by this transaction. `from_slot`: the oldest slot that was marked, None if its turn came without a mark."""

    service_id: str
    from_slot: int | None


async def claim(conn: Connection, service_id: str) -> Claim | None:
    """Take a service and its marks until the transaction ends; None if somebody else has it."""
    if not await conn.fetchval(SQL_ONE_AT_A_TIME, service_id):
        return None
    row = await conn.fetchrow(SQL_CLAIM, service_id)
    return Claim(service_id, row["from_slot"] if row else None)


async def be_due(conn: Connection, service_id: str, *, now: datetime) -> None:
    """Say when the service is looked at next; never, if nothing is expected of it."""
    wait = timedelta(seconds=DUE_AFTER_S + crc32(service_id.encode()) % DUE_SPREAD_S)
    if not affected(await conn.execute(SQL_DUE, service_id, now + wait)):
        await conn.execute(SQL_NEVER_DUE, service_id)


async def checkpoints(conn: Connection, service_id: str) -> dict[str, list[Checkpoint]]:
    """Return how the regions of a service stood, by region, ascending."""
    found: dict[str, list[Checkpoint]] = {}
    for row in await conn.fetch(SQL_CHECKPOINTS, service_id):
        courses = {name: Course(Condition(condition), *numbers) for name, (condition, *numbers) in row["standing"].items()}
        found.setdefault(row["region"], []).append(Checkpoint(row["slot"], Standing(**courses)))
    return found


async def save_checkpoints(
    conn: Connection, service_id: str, made: Mapping[str, tuple[Checkpoint, Sequence[Checkpoint]]], *, now_ms: int
) -> None:
    """Replace what followed a checkpoint, by region, with what follows it now. One an hour is kept, of older days one a day."""
    drop = {region: _from(begin, after) for region, (begin, after) in made.items()}
    await conn.execute(SQL_DROP_CHECKPOINTS, service_id, list(drop), list(drop.values()))
    kept = [(region, one) for region, (begin, after) in made.items() for one in _kept(after, newer_than=begin.slot, now_ms=now_ms)]
    regions = [region for region, _ in kept]
    await conn.execute(SQL_SAVE_CHECKPOINTS, service_id, regions, [one.slot for _, one in kept], [_plain(one) for _, one in kept])


def _from(begin: Checkpoint, after: Sequence[Checkpoint]) -> int:
    """Return the slot from which on checkpoints are replaced: with `begin` itself if its hour went on."""
    went_on = any(one.slot > begin.slot and one.slot // CHECKPOINT_EVERY == begin.slot // CHECKPOINT_EVERY for one in after)
    return begin.slot if went_on else begin.slot + 1


def _kept(points: Iterable[Checkpoint], *, newer_than: int, now_ms: int) -> list[Checkpoint]:
    last = {}
    for one in points:
        if one.slot > newer_than:
            last[one.slot // (CHECKPOINT_EVERY if one.slot >= now_ms - HOURLY_FOR_MS else DAY_MS), one.slot >= now_ms - HOURLY_FOR_MS] = one
    return list(last.values())


def _plain(one: Checkpoint) -> dict[str, list[Any]]:
    courses = {"available": one.standing.available, "well": one.standing.well}
    return {name: [course.condition.value, course.since, course.streak, course.streak_since] for name, course in courses.items()}


async def thin_checkpoints(conn: Connection, service_id: str, *, now_ms: int, floor: int | None) -> None:
    """Leave one a day of what is older than two days, and one of what lies before the oldest checks (`floor`)."""
    await conn.execute(SQL_THIN_CHECKPOINTS, service_id, now_ms - HOURLY_FOR_MS, -1 if floor is None else floor)


async def believed(conn: Connection, service_id: str, *, since: int) -> tuple[list[Row], datetime | None]:
    """Return the present rows that end at a slot or later, and the newest moment at which one of them became known."""
    found = await conn.fetch(SQL_BELIEVED, service_id, moment(since))
    rows = []
    for number, one in enumerate(found, start=1):
        rows.append(row_of(one))
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return rows, max((one["known_from"] for one in found), default=None)


async def publish(conn: Connection, service_id: str, gone: Sequence[Row], new: Sequence[Row], *, now: datetime) -> None:
    """Write what became known now, and that some rows were believed until now. Days last: folds wait for whoever holds them."""
    for place in range(0, len(gone), ROWS_AT_ONCE):
        starts = [moment(one.start) for one in gone[place : place + ROWS_AT_ONCE]]
        await conn.execute(SQL_DISBELIEVE, service_id, starts, now)
    if new:
        await conn.copy_records_to_table("timeline", records=_records(service_id, new, now), columns=WRITTEN)
    changed = await asyncio.to_thread(_downtime, gone, new, now=slot_of(now))
    if changed is not None:
        start, end = changed
        await rollups.reopen(conn, service_id, moment(start), moment(end))


async def _records(service_id: str, new: Sequence[Row], now: datetime) -> AsyncIterator[tuple[object, ...]]:
    """Give rows as the table has them."""
    for number, one in enumerate(new, start=1):
        started, ended = moment(one.start), None if one.end is None else moment(one.end)
        yield (service_id, one.state.value, started, ended, list(one.down), list(one.degraded), now)
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)


def _downtime(gone: Sequence[Row], new: Sequence[Row], *, now: int) -> tuple[int, int] | None:
    """Return from when to when (ms) it was down that was not, or the other way round: those days are to be closed again. None: never."""
    before, after = ({(one.start, one.end or now) for one in rows if one.state is State.DOWN} for rows in (gone, new))
    changed = before ^ after
    return (min(start for start, _ in changed), max(end for _, end in changed)) if changed else None


def row_of(one: Any) -> Row:  # noqa: ANN401  # asyncpg's Record
    """Return what was read of the table."""
    ended = one["ended_at"]
    return Row(
        slot_of(one["started_at"]),
        None if ended is None else slot_of(ended),
        State(one["state"]),
        tuple(one["regions_down"]),
        tuple(one["regions_degraded"]),
    )
