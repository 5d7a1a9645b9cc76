"""What is known of services over a time, and the pieces that every number by time is made of. Audits and SLA contracts read it here.

Moments in milliseconds since 1970, UTC. What has not come yet is not known: load up to now, not to the end of a window that goes on.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter

from services.aggregator.domain.accounting import cut_percentage
from services.aggregator.domain.calendar import Window
from services.aggregator.domain.timeline import Correction, Interval, Piece, Span, State, clip, corrected, pieces
from services.aggregator.rollups import HOUR, floor
from services.aggregator.store import moment, slot_of
from shared.database import Connection

# The newest interval that begins before the time is looked up first: years of older ones are not read.
SQL_MEASURED = """
select t.service_id, (extract(epoch from t.started_at) * 1000)::bigint as start,
       (extract(epoch from coalesce(t.ended_at, $3)) * 1000)::bigint as end, t.state
  from unnest($1::text[], $2::timestamptz[]) as asked (service_id, since),
       lateral (select coalesce(max(b.started_at), '-infinity') as started_at from timeline b
                 where b.service_id = asked.service_id and b.known_until is null and b.started_at <= asked.since) first,
       timeline t
 where t.service_id = asked.service_id and t.known_until is null and t.started_at >= first.started_at and t.started_at < $3
 order by t.service_id, t.started_at"""
SQL_CORRECTIONS = """
select c.id, c.number, c.service_id, c.starts_at, c.ends_at, c.state
  from unnest($1::text[], $2::timestamptz[]) as asked (service_id, since), correction c
 where c.service_id = any($1::text[]) and c.service_id = asked.service_id and c.starts_at < $3 and c.ends_at > asked.since
   and c.revoked_at is null
 order by c.number"""
SQL_MAINTENANCES = """
select m.id, m.title, m.starts_at, m.ends_at, asked.service_id
  from maintenance_window m, unnest(m.services) as mine (service_id), unnest($1::text[], $2::timestamptz[]) as asked (service_id, since)
 where m.services && $1::text[] and m.status <> 'cancelled' and m.starts_at < $3
   and asked.service_id = mine.service_id and m.ends_at > asked.since
 order by m.starts_at, m.id"""
# What is marked, and what was not heard for so long that it is about to be declared silent (store.SQL_FELL_SILENT, but whenever we began to
# listen): until then its timeline goes on as it was. A mark of the last moments is no more than a turn that is being written.
SQL_UNSETTLED = """
select service_id, min(since) as since, bool_or(unsure) as unsure from (
    select service_id, from_slot as since, from_slot < $3 as unsure from timeline_dirty where service_id = any($1::text[])
     union all
    select r.service_id, floor(extract(epoch from r.newest_at) * 1000)::bigint, true
      from region_state r join service s on s.id = r.service_id
     where r.service_id = any($1::text[]) and r.slots <> '{}' and r.silent_at is distinct from r.newest_at
       and s.version > 0 and s.is_active and s.removed_at is null
       and r.newest_at + s.silent_after_ms * interval '1 millisecond' < $2) as waiting
 group by service_id"""
RECENT = timedelta(minutes=1)
"""What is younger and still to be computed keeps nothing back: where services flap, something always is."""

STATES = {state.value: state for state in State}
"""By name: faster than asking the enumeration, which matters for thousands."""
ROWS_AT_ONCE = 1000
"""After so many rows others have their turn: timelines of many services are long."""
SQL_HOURS_DONE = "select done_until from rollup_progress where resolution = 'hour'"
# Whole hours are added up already; what they leave over of the time is counted check by check.
SQL_CHECKS = """
select service_id, sum(successful)::bigint as successful, sum(failed)::bigint as failed from (
    select service_id, healthy + degraded as successful, failed from rollup_hour
     where service_id = any($1::text[]) and bucket >= $3 and bucket < $4
    union all
    select service_id, is_success::int, 1 - is_success::int from api_response_times
     where service_id = any($1::text[]) and scheduled_at >= $2 and scheduled_at < $3
       and source = 'check' and attempt = 0 and is_success is not null
    union all
    select service_id, is_success::int, 1 - is_success::int from api_response_times
     where service_id = any($1::text[]) and scheduled_at >= $4 and scheduled_at < $5
       and source = 'check' and attempt = 0 and is_success is not null
) counted group by service_id"""


@dataclass(frozen=True, slots=True)
class Facts:
    """One service over a time: what was measured, what people corrected, and the announced work. Clipped to the time."""

    window: Window
    measured: Sequence[Interval] = ()
    corrections: Sequence[Correction] = ()
    maintenances: Sequence[Span] = ()

    @property
    def maintenance_ids(self) -> frozenset[str]:
        """What `accounting.account` is to take for maintenance."""
        return frozenset(one.id for one in self.maintenances)

    def pieces(self, exclusions: Iterable[Span] = ()) -> list[Piece]:
        """Return the whole time cut wherever state, maintenance or exclusion changes, with corrections laid over what was measured."""
        spans = [one for one in (*self.maintenances, *exclusions) if one.start < self.window.end and one.end > self.window.start]
        return pieces(corrected(self.measured, self.corrections, self.window), spans)


def within(whole: Sequence[Piece], window: Window) -> list[Piece]:
    """Return the pieces inside a window, cut at its edges. `whole` is ascending."""
    first = bisect_right(whole, window.start, key=attrgetter("end"))
    found = list(whole[first : bisect_left(whole, window.end, key=attrgetter("start"))])
    if found and found[0].start < window.start:
        found[0] = replace(found[0], start=window.start)
    if found and found[-1].end > window.end:
        found[-1] = replace(found[-1], end=window.end)
    return found


async def load(conn: Connection, since: Mapping[str, int], *, until: int) -> dict[str, Facts]:
    """Return the facts of services, each since a moment of its own and all up to one, as they are known now.

    Three statements, however many services there are.
    """
    asked = (list(since), [moment(at) for at in since.values()], moment(until))
    measured: dict[str, list[Interval]] = defaultdict(list)
    for number, row in enumerate(await conn.fetch(SQL_MEASURED, *asked)):
        measured[row["service_id"]].append(Interval(row["start"], row["end"], STATES[row["state"]]))
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    corrections: dict[str, list[Correction]] = defaultdict(list)
    for row in await conn.fetch(SQL_CORRECTIONS, *asked):
        start, end = slot_of(row["starts_at"]), slot_of(row["ends_at"])
        corrections[row["service_id"]].append(Correction(start, end, State(row["state"]), str(row["id"]), row["number"]))
    maintenances: dict[str, list[Span]] = defaultdict(list)
    for row in await conn.fetch(SQL_MAINTENANCES, *asked):
        span = Span(slot_of(row["starts_at"]), slot_of(row["ends_at"]), str(row["id"]), row["title"])
        maintenances[row["service_id"]].append(span)
    found = {}
    for service_id, start in since.items():
        window = Window(start, until)
        states = clip(measured[service_id], window)
        found[service_id] = Facts(window, states, corrections[service_id], maintenances[service_id])
    return found


@dataclass(frozen=True, slots=True)
class Unsettled:
    """From which slot on a service's timeline waits to be computed, and whether that may change more than the last moments."""

    since: int
    unsure: bool


async def unsettled(conn: Connection, service_ids: Iterable[str], *, now: datetime) -> dict[str, Unsettled]:
    """Return the services whose timelines do not say yet what is known, or will be once they are declared silent.

    After everything was switched off, an outage goes on in the timeline until its checks come again, or their silence is said.
    """
    rows = await conn.fetch(SQL_UNSETTLED, list(service_ids), now, slot_of(now - RECENT))
    return {row["service_id"]: Unsettled(row["since"], row["unsure"]) for row in rows}


async def settled(conn: Connection, service_ids: Iterable[str], *, until: int, now: datetime) -> bool:
    """Say whether nothing before a moment waits to be computed of some services, or to be declared silent."""
    return all(one.since >= until for one in (await unsettled(conn, service_ids, now=now)).values())


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks of a time with a known outcome, without confirmations. A degraded one is successful."""

    successful: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.successful + self.failed

    @property
    def percentage(self) -> Decimal | None:
        """The successful part in percent, cut to four decimals; None without checks."""
        return cut_percentage(Fraction(self.successful, self.total)) if self.total else None


async def checks(conn: Connection, service_ids: Iterable[str], window: Window) -> dict[str, Checks]:
    """Return the checks of services over a time: of whole hours that are rolled up from there, of the rest one by one."""
    start, end = moment(window.start), moment(window.end)
    done: datetime | None = await conn.fetchval(SQL_HOURS_DONE)
    first = min(floor(start + HOUR - timedelta(microseconds=1), HOUR), end)
    last = max(first, floor(min(end, done), HOUR)) if done else first
    wanted = list(service_ids)
    rows = await conn.fetch(SQL_CHECKS, wanted, start, first, last, end)
    return dict.fromkeys(wanted, Checks()) | {row["service_id"]: Checks(row["successful"], row["failed"]) for row in rows}
