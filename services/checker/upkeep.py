"""What has to be done once a day: the log's months made ahead of time, and dropped when they are old, as are reports of jobs."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg

from services.checker import partitions, pushes, store
from shared.clock import Clock
from shared.database import Pool, backoff, is_transient, transaction
from shared.telemetry import logger

MONTHS_AHEAD = 2
EVERY_S = 86_400.0

log = logger(__name__)


async def keep_house(pool: Pool, clock: Clock, *, keep_days: int) -> None:
    """Do it now, and once a day for ever."""
    waits = backoff(first_s=1.0, most_s=60.0)
    while True:
        try:
            await _once(pool, clock(), keep_days)
        except Exception as error:
            if not is_transient(error) and not isinstance(error, asyncpg.LockNotAvailableError):
                raise
            log.warning("the daily work cannot be done now; tried again", reason=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(next(waits))
            continue
        waits = backoff(first_s=1.0, most_s=60.0)
        await asyncio.sleep(EVERY_S)


async def _once(pool: Pool, now: datetime, keep_days: int) -> None:
    async with transaction(pool) as conn:
        made = await store.make_partitions(conn, _months(now))
    async with transaction(pool) as conn:
        dropped = await partitions.drop(conn, today=now.astimezone(UTC).date(), keep_days=keep_days)
    async with transaction(pool) as conn:
        forgotten = await pushes.forget_old(conn, now)
    if made or dropped or forgotten:
        log.info("kept house", made=made, dropped=dropped, signals_forgotten=forgotten)


def _months(now: datetime) -> list[datetime]:
    # From the last month, for a spool that was kept over the turn of one.
    first = now.astimezone(UTC).replace(day=1)
    days = [first - timedelta(days=1), first]
    for _ in range(MONTHS_AHEAD):
        days.append((days[-1].replace(day=1) + timedelta(days=32)).replace(day=1))
    return days
