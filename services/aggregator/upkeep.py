"""What goes on beside the folding: rolling up, closing days, making partitions and dropping old ones. Any of it may be repeated."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from asyncpg import LockNotAvailableError

from services.aggregator import days, partitions, rollups, usecases
from services.aggregator.partitions import CHECKS, HOURS, MINUTES, Parted
from shared.clock import Clock
from shared.database import Pool, backoff, is_transient, transaction
from shared.telemetry import logger

ROLL_UP_S = 2.0
CLOSE_S = 15.0
MINUTE_S = 60.0
REPEATED_AT_ONCE = 500
DAYS_AHEAD = 3
TRIES = 100
TRY_AGAIN_S = 0.5
"""Partitions wait for nobody for long; somebody who reads for seconds is asked again this often, for so many times."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is kept, and for how long."""

    pool: Pool
    clock: Clock
    zone: ZoneInfo
    months_ahead: int = 2
    check_days: int = 90
    minute_days: int = 3
    hour_days: int = 731


async def for_ever(name: str, work: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    """Do some work again and again; while the database is away, later."""
    while True:
        try:
            await work()
        except Exception as error:
            if not (is_transient(error) or isinstance(error, LockNotAvailableError)):
                raise
            log.warning("cannot do this now", job=name, reason=str(error))
        await asyncio.sleep(every_s)


async def roll_up(keep: Upkeep) -> None:
    """Roll up all that is over, and again what was marked; if another replica is at it, leave all of it to that one.

    Going on to what was marked would take the lock between two steps of the other's, which then stopped as well.
    """
    more: bool | None = True
    while more:
        async with transaction(keep.pool) as conn:
            more = await rollups.advance(conn, now=keep.clock(), zone=keep.zone)
        if more is None:
            return
    marked = REPEATED_AT_ONCE
    while marked == REPEATED_AT_ONCE:
        # Of older checks some may have gone already, and partly counted is wrong.
        kept_since = keep.clock() - timedelta(days=keep.check_days - 1)
        async with transaction(keep.pool) as conn:
            marked = await rollups.repeat(conn, limit=REPEATED_AT_ONCE, zone=keep.zone, kept_since=kept_since)


async def close_days(keep: Upkeep) -> None:
    """Close all days that are over, in transactions that are short: folds wait for them."""
    more = True
    while more:
        async with transaction(keep.pool) as conn:
            more = await days.close_some(conn, now=keep.clock(), zone=keep.zone)


async def make_room(keep: Upkeep) -> None:
    """Make partitions ahead."""
    today = keep.clock().date()
    for parted, ahead in ((CHECKS, keep.months_ahead), (HOURS, keep.months_ahead), (MINUTES, DAYS_AHEAD)):
        made = await _patiently(keep.pool, parted, today, ahead)
        if made:
            log.info("partitions made", names=made)


async def _patiently(pool: Pool, parted: Parted, today: date, ahead: int) -> list[str]:
    for _ in range(TRIES):
        try:
            async with transaction(pool) as conn:
                return await partitions.make(conn, parted, today=today, ahead=ahead)
        except LockNotAvailableError:
            await asyncio.sleep(TRY_AGAIN_S)
    async with transaction(pool) as conn:
        return await partitions.make(conn, parted, today=today, ahead=ahead)


async def drop_old(keep: Upkeep) -> list[str]:
    """Detach and drop what is older than it is kept; return the names. Minutes stay until hours and days are made of them."""
    today = keep.clock().date()
    async with keep.pool.acquire() as conn:
        done = await rollups.done(conn)
    added_up = min((one.date() for one in (done.hour, done.day) if one), default=date.min)
    dropped: list[str] = []
    for parted, before in (
        (CHECKS, today - timedelta(days=keep.check_days)),
        (HOURS, today - timedelta(days=keep.hour_days)),
        (MINUTES, min(today - timedelta(days=keep.minute_days), added_up)),
    ):
        while await _detach(keep.pool, parted, before):
            pass
        async with transaction(keep.pool) as conn:
            dropped += await partitions.drop_detached(conn, parted, before=before)
    if dropped:
        log.info("old partitions dropped", names=dropped)
    return dropped


async def _detach(pool: Pool, parted: Parted, before: date) -> bool:
    for _ in range(TRIES):
        try:
            async with transaction(pool) as conn:
                return bool(await partitions.detach(conn, parted, before=before))
        except LockNotAvailableError:
            await asyncio.sleep(TRY_AGAIN_S)
    log.warning("old partitions are in use, and dropped later", table=parted.table)
    return False


async def prepare_first(keep: Upkeep) -> None:
    """Make partitions before anything is folded; while the database is away, try again."""
    for wait in backoff():
        try:
            await make_room(keep)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot prepare yet", reason=str(error))
            await asyncio.sleep(wait)
        else:
            return


async def keep_house(keep: Upkeep) -> None:
    """Make room, drop what is old, and forget old message ids: now, and each hour, as what is in use now may not be then."""
    done: datetime | None = None

    async def hourly() -> None:
        nonlocal done
        hour = keep.clock().replace(minute=0, second=0, microsecond=0)
        if hour != done:
            await make_room(keep)
            async with transaction(keep.pool) as conn:
                await usecases.keep_house(conn, now=keep.clock())
            await drop_old(keep)
            done = hour

    await for_ever("house", hourly, every_s=MINUTE_S)
