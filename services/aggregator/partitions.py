"""Months of api_response_times and rollup_hour, and days of rollup_minute (UTC): made ahead, and dropped when all of them is old.

What comes for none of them lies in the default partition. Attaching and detaching shut out everybody for a moment, and so does waiting
for it: hence a short patience, and another try soon. What was detached is dropped afterwards, when nobody looks at it any more.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from shared.database import Connection

BEHIND = 1
"""Months (or days) before this one: late batches are of yesterday, and yesterday may be of last month."""

SQL_LOCK = "select pg_advisory_xact_lock(hashtext('sla-monitor partitions'), hashtext(current_schema()))"
SQL_PATIENCE = "set local lock_timeout = '50ms'"
SQL_EXISTS = "select to_regclass($1) is not null"
SQL_MOVE = """
with moved as (delete from {table}_default where {column} >= $1 and {column} < $2 returning *)
insert into {name} select * from moved"""
SQL_PARTITIONS = """
select c.relname as name, exists (select from pg_inherits i where i.inhrelid = c.oid) as attached
  from pg_class c
 where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace and c.relname ~ ('^' || $1 || '_[0-9]{4}_[0-9]{2}(_[0-9]{2})?$')
 order by c.relname"""
SQL_DELETE_STRAYS = "delete from {table}_default where {column} < $1"


@dataclass(frozen=True, slots=True)
class Parted:
    """A table that is partitioned by a column, by month or by day."""

    table: str
    column: str
    by_day: bool = False

    def starts(self, today: date, *, ahead: int) -> list[date]:
        """Return the first days of the last part, this one, and `ahead` more."""
        if self.by_day:
            return [today + timedelta(days=step) for step in range(-BEHIND, ahead + 1)]
        index = today.year * 12 + today.month - 1
        return [date((index + step) // 12, (index + step) % 12 + 1, 1) for step in range(-BEHIND, ahead + 1)]

    def name(self, first: date) -> str:
        """Return the name of the part that begins with a day."""
        return f"{self.table}_{first:%Y_%m_%d}" if self.by_day else f"{self.table}_{first:%Y_%m}"

    def first(self, name: str) -> date:
        """Return the first day of a part."""
        year, month, day = (int(one) for one in f"{name}_01".removeprefix(f"{self.table}_").split("_")[:3])
        return date(year, month, day)

    def end(self, name: str) -> date:
        """Return the day after the last one of a part."""
        first = self.first(name)
        if self.by_day:
            return first + timedelta(days=1)
        return date(first.year + first.month // 12, first.month % 12 + 1, 1)


CHECKS = Parted("api_response_times", "scheduled_at")
HOURS = Parted("rollup_hour", "bucket")
MINUTES = Parted("rollup_minute", "bucket", by_day=True)


async def make(conn: Connection, parted: Parted = CHECKS, *, today: date, ahead: int) -> list[str]:
    """Make the parts that are missing, and return their names. Needs a transaction; replicas that do so at once take turns.

    Raises `asyncpg.LockNotAvailableError` if somebody reads or writes for too long; then nothing was made, and it can be tried again.
    """
    await conn.execute(SQL_LOCK)
    await conn.execute(SQL_PATIENCE)
    made = []
    for first, end in pairwise(parted.starts(today, ahead=ahead + 1)):
        name = parted.name(first)
        if not await conn.fetchval(SQL_EXISTS, name):
            await _make(conn, parted, name, _midnight(first), _midnight(end))
            made.append(name)
    return made


async def detach(conn: Connection, parted: Parted = CHECKS, *, before: date) -> list[str]:
    """Detach the oldest part that ended by a day, if there is one, and return its name. Needs a transaction of its own: locks end with it.

    Raises `asyncpg.LockNotAvailableError` as `make` does.
    """
    await conn.execute(SQL_LOCK)
    await conn.execute(SQL_PATIENCE)
    names = [row["name"] for row in await conn.fetch(SQL_PARTITIONS, parted.table) if row["attached"]]
    old = [name for name in names if parted.end(name) <= before][:1]
    for name in old:
        await conn.execute(f"alter table {parted.table} detach partition {name}")
    return old


async def drop_detached(conn: Connection, parted: Parted = CHECKS, *, before: date) -> list[str]:
    """Drop what was detached, and delete rows as old that lie in no part; return the names. Needs a transaction."""
    await conn.execute(SQL_LOCK)
    rows = await conn.fetch(SQL_PARTITIONS, parted.table)
    dropped = [row["name"] for row in rows if not row["attached"] and parted.end(row["name"]) <= before]
    for name in dropped:
        await conn.execute(f"drop table {name}")
    edge = before if parted.by_day else before.replace(day=1)
    await conn.execute(SQL_DELETE_STRAYS.format(table=parted.table, column=parted.column), _midnight(edge))
    return dropped


async def oldest(conn: Connection) -> datetime | None:
    """Return the first moment of the oldest month of checks that is still there; None if there are no months."""
    names = [row["name"] for row in await conn.fetch(SQL_PARTITIONS, CHECKS.table) if row["attached"]]
    return _midnight(CHECKS.first(names[0])) if names else None


async def _make(conn: Connection, parted: Parted, name: str, first: datetime, end: datetime) -> None:
    # made beside the parent and attached: `create … partition of` would shut out everybody who reads or writes meanwhile
    await conn.execute(f"create table {name} (like {parted.table} including all)")
    await conn.execute(SQL_MOVE.format(table=parted.table, column=parted.column, name=name), first, end)
    await conn.execute(
        f"alter table {parted.table} attach partition {name} for values from ('{first.isoformat()}') to ('{end.isoformat()}')"
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
