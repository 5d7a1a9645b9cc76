"""SQL of maintenance windows. Their time is the database's, so that replicas agree."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from services.incidents.domain.maintenance import Window
from shared.contracts.codes import MaintenanceStatus
from shared.contracts.history import MaintenanceQuery
from shared.database import Connection, affected

SQL_NOW = "select date_trunc('milliseconds', clock_timestamp())"
SQL_FIND = "select * from maintenance where id = $1"
SQL_LOCK = "select * from maintenance where id = $1 for update"
SQL_DUE = """
select * from maintenance
 where status in ('scheduled', 'in_progress') and starts_at <= $1                             -- served by maintenance_to_come
   and (status = 'scheduled' or ends_at <= $1)
 order by starts_at, id limit $2 for update skip locked"""
SQL_ADD = """
insert into maintenance (id, title, description, services, status, starts_at, ends_at, created_by, created_at, version)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing"""
SQL_SAVE = """
update maintenance set title = $2, description = $3, services = $4, status = $5, starts_at = $6, ends_at = $7, version = $8
 where id = $1"""
_LIST = """
select * from maintenance
 where ends_at >= coalesce($1::timestamptz, '-infinity') and starts_at <= coalesce($2::timestamptz, 'infinity') {which}
 order by starts_at desc, id limit $3"""
SQL_LIST = _LIST.format(which="")  # served by maintenance_newest_first
SQL_LIST_OF_SERVICE = _LIST.format(which="and services @> array[$4::text]")  # served by maintenance_by_service


async def clock(conn: Connection) -> datetime:
    """Return the database's present moment, in whole milliseconds as it is told."""
    now: datetime = await conn.fetchval(SQL_NOW)
    return now


async def find(conn: Connection, window_id: UUID) -> Window | None:
    """Return a window by id."""
    row = await conn.fetchrow(SQL_FIND, window_id)
    return None if row is None else _window(row)


async def lock(conn: Connection, window_id: UUID) -> Window | None:
    """Return a window by id, locked until the transaction ends."""
    row = await conn.fetchrow(SQL_LOCK, window_id)
    return None if row is None else _window(row)


async def lock_due(conn: Connection, now: datetime, *, limit: int) -> list[Window]:
    """Return windows that are to begin or to end, locked; those that somebody else has locked are his."""
    return [_window(row) for row in await conn.fetch(SQL_DUE, now, limit)]


async def add(conn: Connection, window: Window) -> bool:
    """Save a new window. False if its id is taken: it was announced before."""
    one = window
    content = (one.title, one.description, list(one.services), one.status.value, one.starts_at, one.ends_at)
    return affected(await conn.execute(SQL_ADD, one.id, *content, one.created_by, one.created_at, one.version)) == 1


async def save(conn: Connection, window: Window) -> None:
    """Save a window that is locked by the caller."""
    one = window
    content = (one.title, one.description, list(one.services), one.status.value, one.starts_at, one.ends_at)
    await conn.execute(SQL_SAVE, one.id, *content, one.version)


async def newest(conn: Connection, query: MaintenanceQuery) -> Sequence[Window]:
    """Return windows that touch a time, newest start first."""
    page = (query.starts_at, query.ends_at, query.limit)
    if query.service_id is None:
        return [_window(row) for row in await conn.fetch(SQL_LIST, *page)]
    return [_window(row) for row in await conn.fetch(SQL_LIST_OF_SERVICE, *page, query.service_id)]


def _window(row: Record) -> Window:
    return Window(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        services=tuple(row["services"]),
        status=MaintenanceStatus(row["status"]),
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        version=row["version"],
    )
