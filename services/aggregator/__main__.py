"""`python -m services.aggregator`: settings, resources, wiring, run."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from services.aggregator import replays, series, upkeep
from services.aggregator.consumers import (
    Storing,
    Wiring,
    answer,
    follow_up,
    subscribe_calls,
    subscribe_checks,
    subscribe_events,
    watch_contracts,
    watch_silence,
)
from services.aggregator.domain.calendar import LocalDays
from services.aggregator.domain.muting import Flapping
from services.aggregator.settings import AggregatorSettings
from shared.clock import Clock, utc_now
from shared.consuming import consuming, open_consumer
from shared.database import Pool, is_transient, open_pool
from shared.health import Health
from shared.messaging import open_publisher
from shared.migrate import wait_for_schema
from shared.outbox import relaying
from shared.runtime import background, run
from shared.settings import load
from shared.telemetry import logger

NAME = "aggregator"
MIGRATIONS = Path(__file__).parent / "migrations"
MINUTE_S = 60.0
FOLLOW_S = 1.0
GATHER_S = 0.1
"""Time between two rounds of follow-ups: of thousands of changes in a row, many are then followed by one count of the whole."""
TIMELINES_LOOK_S = 0.5

log = logger(__name__)


async def look_for_silence(wiring: Wiring, *, every_s: float) -> None:
    """Look for silent services for ever; while the database is away, look again later."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await watch_silence(wiring)
        except Exception as error:
            if not is_transient(error):
                raise
            wiring.storing.unsettle()
            log.warning("cannot look for silent services now", reason=str(error))


async def look_at_contracts(wiring: Wiring) -> None:
    """Look at SLA contracts each minute, for ever; while the database is away, a minute later."""
    emptied_at = None
    while True:
        await asyncio.sleep(MINUTE_S)
        # what had come a minute ago is stored by now, by whichever replica
        stored_until, emptied_at = emptied_at, wiring.storing.emptied_at
        try:
            await watch_contracts(wiring, stored_until=stored_until)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot look at SLA contracts now", reason=str(error))


async def keep_timelines(pool: Pool, *, clock: Clock) -> None:
    """Compute timelines again that may have changed, for ever; while the database is away, later."""
    while True:
        try:
            done = await replays.work(pool, clock=clock)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot compute timelines now", reason=str(error))
            done = 0
        if not done:
            await asyncio.sleep(TIMELINES_LOOK_S)


async def follow_changes(wiring: Wiring) -> None:
    """Judge services again when what is around them changed: at once where this process changed it, else within a second; for ever."""
    while True:
        try:
            async with asyncio.timeout(FOLLOW_S):
                await wiring.moved.wait()
        except TimeoutError:
            pass  # another replica may have ended before it followed
        try:
            await follow_up(wiring)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot follow changes now", reason=str(error))
            await asyncio.sleep(FOLLOW_S)
        await asyncio.sleep(GATHER_S)


def jobs(wiring: Wiring, keep: upkeep.Upkeep, *, silence_look_s: float) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Return what runs beside the consumers for ever, by name."""
    return {
        "timelines": lambda: keep_timelines(wiring.pool, clock=wiring.clock),
        "slas": lambda: look_at_contracts(wiring),
        "follow-ups": lambda: follow_changes(wiring),
        "silence": lambda: look_for_silence(wiring, every_s=silence_look_s),
        "rollups": lambda: upkeep.for_ever("rollups", lambda: upkeep.roll_up(keep), every_s=upkeep.ROLL_UP_S),
        "days": lambda: upkeep.for_ever("days", lambda: upkeep.close_days(keep), every_s=upkeep.CLOSE_S),
        "house": lambda: upkeep.keep_house(keep),
    }


def main() -> None:
    """Run one aggregator until it is told to stop."""
    settings = load(AggregatorSettings)

    async def start(stack: AsyncExitStack, health: Health) -> None:
        url = settings.broker_url.get_secret_value()
        pool = await stack.enter_async_context(
            open_pool(settings.database_url.get_secret_value(), name=NAME, health=health, size=settings.database_pool_size)
        )
        await wait_for_schema(pool, schema=NAME, folder=MIGRATIONS, health=health)
        days = LocalDays(ZoneInfo(settings.time_zone))
        keep = upkeep.Upkeep(
            *(pool, utc_now, days.zone, settings.partition_months_ahead),
            check_days=settings.raw_retention_days,
            minute_days=settings.minute_retention_days,
            hour_days=settings.hour_retention_days,
        )
        await upkeep.prepare_first(keep)
        publisher = await stack.enter_async_context(open_publisher(url, name=f"{NAME} publisher", health=health))
        relay = await stack.enter_async_context(relaying(pool, publisher, health))
        consumer = open_consumer(url, name=f"{NAME} consumer", publisher=publisher, health=health)
        flapping = Flapping(settings.flapping_changes, timedelta(seconds=settings.flapping_window_s))
        kept = series.Kept(settings.raw_retention_days, settings.minute_retention_days, settings.hour_retention_days)
        wiring = Wiring(consumer, pool, relay, utc_now, Storing(), flapping, days, kept)
        subscribe_checks(wiring, max_messages=settings.batch_max_messages, max_wait_s=settings.batch_max_wait_s)
        subscribe_calls(wiring)
        subscribe_events(wiring)
        answer(wiring)
        await stack.enter_async_context(consuming(consumer))
        for name, job in jobs(wiring, keep, silence_look_s=settings.silence_look_s).items():
            await stack.enter_async_context(background(health, name, job))

    run(NAME, settings, start)


if __name__ == "__main__":
    main()
