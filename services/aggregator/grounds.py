"""What audits rest on, in full: states with their regions, corrections, maintenance. Of any number of services in three statements.

For arithmetic alone there is less to read (facts.py). Moments in milliseconds since 1970, UTC.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.aggregator import corrections, timelines
from services.aggregator.domain import timeline
from services.aggregator.domain.amending import Row
from services.aggregator.domain.calendar import Window
from services.aggregator.domain.timeline import Interval, Span, State
from services.aggregator.facts import Facts
from services.aggregator.store import moment, slot_of
from shared.contracts.maintenance import Maintenance
from shared.contracts.sla import Correction
from shared.database import Connection

# The newest row that begins before the time is looked up first: years of older ones are not read. A look-up for each service, whatever
# PostgreSQL thinks of how many there are.
_MEASURED = """
select asked.service_id, t.started_at, t.ended_at, t.state, t.regions_down, t.regions_degraded
  from unnest($1::text[]) as asked (service_id),
       lateral (select coalesce(max(b.started_at), '-infinity') as started_at from timeline b
                 where b.service_id = asked.service_id and b.started_at <= $2 and {before}) first,
       lateral (select * from timeline a
                 where a.service_id = asked.service_id and a.started_at >= first.started_at and a.started_at < $3
                   and (a.ended_at is null or a.ended_at > $2) and {known}
                 order by a.started_at limit $4) t
 order by asked.service_id, t.started_at
 limit $4"""
SQL_MEASURED = _MEASURED.format(before="b.known_until is null", known="a.known_until is null")
SQL_MEASURED_THEN = _MEASURED.format(
    before="b.known_from <= $5 and (b.known_until is null or b.known_until > $5)",
    known="a.known_from <= $5 and (a.known_until is null or a.known_until > $5)",
)
_MAINTENANCES = """
select id, version, title, description, services, status, starts_at, ends_at, created_by, created_at from {windows} m
 where services && $1::text[] and status <> 'cancelled' and starts_at < $3 and ends_at > $2 {known}
 order by starts_at, id"""
SQL_MAINTENANCES = _MAINTENANCES.format(windows="maintenance_window", known="")
SQL_MAINTENANCES_THEN = _MAINTENANCES.format(
    windows="maintenance_window_version",
    known="""
   and m.known_from <= $4 and not exists (
       select from maintenance_window_version later where later.id = m.id and later.version > m.version and later.known_from <= $4)""",
)


class TooManyIntervals(Exception):  # noqa: N818  # names the fact
    """The services have more intervals in the time than were wanted at most."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One service over a time. `measured` has no gaps: what no row says is inactive. Corrections in the order in which they were made."""

    window: Window
    measured: Sequence[Row]
    corrections: Sequence[Correction]
    maintenances: Sequence[Maintenance]

    @property
    def facts(self) -> Facts:
        """The same for arithmetic."""
        return Facts(
            self.window,
            [Interval(one.start, one.end or 0, one.state) for one in self.measured],
            [
                timeline.Correction(slot_of(one.starts_at), slot_of(one.ends_at), one.state, str(one.id), number)
                for number, one in enumerate(self.corrections)
            ],
            [Span(slot_of(one.starts_at), slot_of(one.ends_at), str(one.id), one.title) for one in self.maintenances],
        )


async def load(
    conn: Connection, services: Sequence[str], window: Window, *, limit: int, as_of: datetime | None = None
) -> dict[str, Ground]:
    """Return what is known of some services over a time, or was known `as_of` a moment. Raises `TooManyIntervals` for more than `limit`."""
    then = () if as_of is None else (as_of,)
    time = (moment(window.start), moment(window.end))
    rows = await conn.fetch(SQL_MEASURED if as_of is None else SQL_MEASURED_THEN, services, *time, limit + 1, *then)
    if len(rows) > limit:
        raise TooManyIntervals
    measured: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        measured[row["service_id"]].append(timelines.row_of(row))
    corrected: dict[str, list[Correction]] = defaultdict(list)
    for one in await corrections.over(conn, services, window.start, window.end, as_of=as_of):
        corrected[one.service_id].append(one)
    maintained: dict[str, list[Maintenance]] = defaultdict(list)
    for found in await conn.fetch(SQL_MAINTENANCES if as_of is None else SQL_MAINTENANCES_THEN, services, *time, *then):
        work = Maintenance(**found)
        for service_id in work.services:
            maintained[service_id].append(work)
    return {one: Ground(window, whole(measured[one], window), corrected[one], maintained[one]) for one in services}


def whole(found: Iterable[Row], window: Window) -> list[Row]:
    """Return rows clipped to a window, with what lies between them as inactive time. All of them have ends."""
    told: list[Row] = []
    at = window.start
    for one in found:
        start, end = max(one.start, window.start), min(window.end if one.end is None else one.end, window.end)
        if start > at:
            told.append(Row(at, start, State.INACTIVE))
        told.append(one if (start, end) == (one.start, one.end) else replace(one, start=start, end=end))
        at = end
    return [*told, Row(at, window.end, State.INACTIVE)] if at < window.end else told
