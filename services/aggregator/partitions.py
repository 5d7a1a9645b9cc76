"""Months of api_response_times, made before their first slot comes, and dropped when all of them is old.

What comes for no month lies in the default partition.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from shared.database import Connection

BEHIND = 1
"""Months before this one: late batches are of yesterday, and yesterday may be of last month."""

SQL_LOCK = "select pg_advisory_xact_lock(hashtext('sla-monitor partitions'), hashtext(current_schema()))"
SQL_EXISTS = "select to_regclass($1) is not null"
SQL_MOVE = """
with moved as (delete from api_response_times_default where scheduled_at >= $1 and scheduled_at < $2 returning *)
insert into {name} select * from moved"""
SQL_PATIENCE = "set local lock_timeout = '3s'"
SQL_MONTHS = """
select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'api_response_times'::regclass and c.relname ~ '^api_response_times_[0-9]{4}_[0-9]{2}$'
 order by c.relname"""
SQL_DELETE_STRAYS = "delete from api_response_times_default where scheduled_at < $1"


def months(today: date, *, ahead: int) -> list[date]:
    """Return the first days of last month, this one, and `ahead` more."""
    index = today.year * 12 + today.month - 1
    return [date((index + step) // 12, (index + step) % 12 + 1, 1) for step in range(-BEHIND, ahead + 1)]


async def make(conn: Connection, *, today: date, ahead: int) -> list[str]:
    """Make the partitions that are missing, and return their names. Needs a transaction; replicas that do so at once take turns."""
    await conn.execute(SQL_LOCK)
    made = []
    starts = months(today, ahead=ahead + 1)
    for first, end in pairwise(starts):
        name = f"api_response_times_{first:%Y_%m}"
        if not await conn.fetchval(SQL_EXISTS, name):
            await _make_month(conn, name, _midnight(first), _midnight(end))
            made.append(name)
    return made


async def drop(conn: Connection, *, today: date, keep_days: int) -> list[str]:
    """Drop the months that ended `keep_days` ago or earlier, and such rows of no month; return the names. Needs a transaction.

    Raises `asyncpg.LockNotAvailableError` if somebody reads or writes for too long: dropping shuts out everybody, and so does waiting
    for it. Then nothing was dropped, and it can be tried again.
    """
    await conn.execute(SQL_LOCK)
    await conn.execute(SQL_PATIENCE)
    before = today - timedelta(days=keep_days)
    dropped = []
    for row in await conn.fetch(SQL_MONTHS):
        name = row["name"]
        if _end(name) <= before:
            await conn.execute(f"alter table api_response_times detach partition {name}")
            await conn.execute(f"drop table {name}")
            dropped.append(name)
    await conn.execute(SQL_DELETE_STRAYS, _midnight(before.replace(day=1)))
    return dropped


async def oldest(conn: Connection) -> datetime | None:
    """Return the first moment of the oldest month that is still there; None if there are no months."""
    names = [row["name"] for row in await conn.fetch(SQL_MONTHS)]
    if not names:
        return None
    year, month = (int(part) for part in names[0].rsplit("_", 2)[1:])
    return _midnight(date(year, month, 1))


def _end(name: str) -> date:
    year, month = (int(part) for part in name.rsplit("_", 2)[1:])
    return date(year + month // 12, month % 12 + 1, 1)


async def _make_month(conn: Connection, name: str, first: datetime, end: datetime) -> None:
    # made beside the parent and attached: `create … partition of` would shut out everybody who reads or writes meanwhile
    await conn.execute(f"create table {name} (like api_response_times including all)")
    await conn.execute(SQL_MOVE.format(name=name), first, end)
    await conn.execute(
        f"alter table api_response_times attach partition {name} for values from ('{first.isoformat()}') to ('{end.isoformat()}')"
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
