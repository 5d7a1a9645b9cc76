"""Months of watch_server_logs that are old: dropped whole. They are made ahead of time in store.py."""

from datetime import UTC, date, datetime, timedelta

from shared.database import Connection

SQL_PATIENCE = "set local lock_timeout = '3s'"
SQL_MONTHS = """
select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'watch_server_logs'::regclass and c.relname ~ '^watch_server_logs_[0-9]{4}_[0-9]{2}$'
 order by c.relname"""
SQL_DELETE_STRAYS = "delete from watch_server_logs_default where scheduled_at < $1"


async def drop(conn: Connection, *, today: date, keep_days: int) -> list[str]:
    """Drop the months that ended `keep_days` ago or earlier, and such rows of no month; return the names. Needs a transaction.

    Raises `asyncpg.LockNotAvailableError` if somebody reads or writes for too long: dropping shuts out everybody, and so does waiting
    for it. Then nothing was dropped, and it can be tried again.
    """
    await conn.execute(SQL_PATIENCE)
    before = today - timedelta(days=keep_days)
    dropped = []
    for row in await conn.fetch(SQL_MONTHS):
        name = row["name"]
        if _end(name) <= before:
            await conn.execute(f"alter table watch_server_logs detach partition {name}")
            await conn.execute(f"drop table {name}")
            dropped.append(name)
    first = before.replace(day=1)
    await conn.execute(SQL_DELETE_STRAYS, datetime(first.year, first.month, first.day, tzinfo=UTC))
    return dropped


def _end(name: str) -> date:
    year, month = (int(part) for part in name.rsplit("_", 2)[1:])
    return date(year + month // 12, month % 12 + 1, 1)
