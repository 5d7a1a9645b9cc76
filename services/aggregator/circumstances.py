"""SQL of what is around a service: maintenance windows, what it depends on, how often it changed; and the services to be judged again.

What changes for a service without a result of its own (a window began, a dependency came back) is written down as a row of `recheck` in the
transaction of the change, and judged soon after in another: dependents are other services' rows, and locks are taken by id only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.aggregator import dependencies
from services.aggregator.domain.muting import Circumstances
from services.aggregator.store import Service
from shared.contracts.codes import MaintenanceStatus
from shared.contracts.maintenance import Maintenance
from shared.database import Connection

SQL_IN_PROGRESS = """
select id, services from maintenance_window
 where status = 'in_progress' and services && $1::text[] order by starts_at desc, id desc"""

SQL_CHANGES = """
select i.service_id, count(*) as number
  from status_interval i join status_interval before on before.service_id = i.service_id and before.version = i.version - 1
 where i.service_id = any($1::text[]) and i.started_at > $2               -- served by status_interval_by_time
   and i.status <> before.status and 'e' not in (i.status, before.status)
 group by i.service_id"""

SQL_FLAPPING = "select service_id from status_interval where ended_at is null and flapping"

SQL_ASK = "insert into recheck (service_id) select unnest($1::text[])"
SQL_CLAIM = """
delete from recheck
 where number in (select number from recheck where due_at <= $2 order by due_at, number limit $1 for update skip locked)
returning service_id"""
SQL_ASK_WHOLE = "insert into recheck_whole default values"
SQL_CLAIM_WHOLE = "delete from recheck_whole where number in (select number from recheck_whole for update skip locked)"

SQL_MEET_WINDOW = """
insert into maintenance_window (id, version, title, services, status, starts_at, ends_at, description, created_by, created_at)
values ($1, 0, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict do nothing"""
SQL_LOCK_WINDOW = "select version, services, status from maintenance_window where id = $1 for update"
SQL_SAVE_WINDOW = """
update maintenance_window
   set version = $2, title = $3, services = $4, status = $5, starts_at = $6, ends_at = $7, description = $8, created_by = $9,
       created_at = $10
 where id = $1"""
SQL_KEEP_WINDOW = """
insert into maintenance_window_version (id, version, title, services, status, starts_at, ends_at, description, created_by, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class Judged:
    """Services that are judged now, and what of that matters: those that are down, that turn, and that were said to be flapping.

    `untold`: those not well that nobody was alerted of so far, with when they began to fail; None where they were so, muted, before.
    `back`: those that are down no more.
    """

    services: Sequence[Service]
    down: Collection[str]
    turning: Collection[str]
    restless: Collection[str]
    untold: Mapping[str, datetime | None] = field(default_factory=dict)
    back: Collection[str] = ()


async def around(conn: Connection, judged: Judged, *, now: datetime, window: timedelta) -> dict[str, Circumstances]:
    """Return what is around services. Changes are counted only of those that turn now, or are restless."""
    services, turning = judged.services, judged.turning
    windows = await _windows(conn, [one.id for one in services])
    causes = await _causes(conn, judged, muted=windows.keys(), now=now)
    changes = await _changes(conn, {*turning, *judged.restless}, since=now - window)
    return {
        one.id: Circumstances(
            windows.get(one.id),
            causes.get(one.id),
            changes.get(one.id, 0) + (one.id in turning),
        )
        for one in services
    }


async def _causes(conn: Connection, judged: Judged, *, muted: Collection[str], now: datetime) -> Mapping[str, str]:
    """Return by service the dependency that is down, or may be what is wrong with it.

    Of a dependency that is judged in the same go its new status counts, though it is not written yet.
    """
    elsewhere = {name for one in judged.services for name in one.depends_on} - {one.id for one in judged.services}
    down = {*judged.down, *await dependencies.down(conn, elsewhere)}
    certain = {one.id: name for one in judged.services if (name := next((name for name in one.depends_on if name in down), None))}
    open_ = [one for one in judged.services if one.id not in certain and one.id not in muted]
    return certain | await dependencies.possible_causes(conn, open_, judged.untold, back=judged.back, now=now)


async def _windows(conn: Connection, service_ids: Sequence[str]) -> Mapping[str, UUID]:
    """Return the window that each service is in; of several the one that began first."""
    rows = await conn.fetch(SQL_IN_PROGRESS, service_ids)
    return {service_id: row["id"] for row in rows for service_id in row["services"]}


async def _changes(conn: Connection, service_ids: Collection[str], *, since: datetime) -> Mapping[str, int]:
    if not service_ids:
        return {}
    return {row["service_id"]: row["number"] for row in await conn.fetch(SQL_CHANGES, list(service_ids), since)}


async def calmed(conn: Connection, *, since: datetime, calm: int) -> list[str]:
    """Return the services that were said to be flapping and changed at most `calm` times since a moment."""
    found = [row["service_id"] for row in await conn.fetch(SQL_FLAPPING)]
    changes = await _changes(conn, found, since=since)
    return [one for one in found if changes.get(one, 0) <= calm]


async def claim(conn: Connection, *, limit: int, now: datetime) -> list[str]:
    """Take services that are to be judged again by now; they are asked for anew if the caller's transaction fails."""
    return [row["service_id"] for row in await conn.fetch(SQL_CLAIM, limit, now)]


async def ask_whole(conn: Connection) -> None:
    """Have the status of the whole brought up to date. A row for each who asks, so that nobody waits for another's."""
    await conn.execute(SQL_ASK_WHOLE)


async def claim_whole(conn: Connection) -> int:
    """Take all that was asked of the whole; return how much. It is asked for anew if the caller's transaction fails."""
    return int((await conn.execute(SQL_CLAIM_WHOLE)).removeprefix("DELETE "))


async def save_window(conn: Connection, window: Maintenance) -> None:
    """Keep the copy of a maintenance window, unless a newer one is known, and have the services judged again for which that matters.

    The copy that it takes the place of stays readable `as_of` the time in which it was known.
    """
    one = window
    values = (one.title, list(one.services), one.status.value, one.starts_at, one.ends_at, one.description, one.created_by, one.created_at)
    await conn.execute(SQL_MEET_WINDOW, one.id, *values)
    before = await conn.fetchrow(SQL_LOCK_WINDOW, one.id)
    if before is None or before["version"] >= one.version:
        return
    await conn.execute(SQL_SAVE_WINDOW, one.id, one.version, *values)
    await conn.execute(SQL_KEEP_WINDOW, one.id, one.version, *values)
    if MaintenanceStatus.IN_PROGRESS in {before["status"], one.status}:
        await conn.execute(SQL_ASK, sorted({*before["services"], *one.services}))
