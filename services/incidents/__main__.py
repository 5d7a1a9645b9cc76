"""`python -m services.incidents`: settings, resources, wiring, run."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from services.incidents.consumers import Wiring, answer, keep_time, subscribe_events
from services.incidents.domain.lifecycle import Policy
from services.incidents.settings import IncidentsSettings
from shared import inbox
from shared.clock import Clock, utc_now
from shared.consuming import consuming, open_consumer
from shared.database import Pool, backoff, is_transient, open_pool, transaction
from shared.health import Health
from shared.messaging import open_publisher
from shared.migrate import wait_for_schema
from shared.outbox import relaying
from shared.runtime import background, run
from shared.settings import load
from shared.telemetry import logger

NAME = "incidents"
MIGRATIONS = Path(__file__).parent / "migrations"
DAY_S = 24 * 3600.0
TICK_S = 1.0
"""How often maintenance windows are looked at: they begin and end later by this at most."""

log = logger(__name__)


async def forget_daily(pool: Pool, *, clock: Clock) -> None:
    """Forget old message ids: now, and once a day for ever; while the database is away, try again."""
    waits = backoff(most_s=60.0)
    while True:
        try:
            async with transaction(pool) as conn:
                await inbox.forget(conn, now=clock())
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot forget old message ids now", reason=str(error))
            await asyncio.sleep(next(waits))
        else:
            waits = backoff(most_s=60.0)
            await asyncio.sleep(DAY_S)


async def watch_maintenance(wiring: Wiring) -> None:
    """Begin and end maintenance windows for ever; while the database is away, later."""
    waits = backoff(first_s=TICK_S)
    while True:
        try:
            await keep_time(wiring)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("cannot look at maintenance windows now", reason=str(error))
            await asyncio.sleep(next(waits))
        else:
            waits = backoff(first_s=TICK_S)
            await asyncio.sleep(TICK_S)


def main() -> None:
    """Run one incidents process until it is told to stop."""
    settings = load(IncidentsSettings)

    async def start(stack: AsyncExitStack, health: Health) -> None:
        url = settings.broker_url.get_secret_value()
        pool = await stack.enter_async_context(
            open_pool(settings.database_url.get_secret_value(), name=NAME, health=health, size=settings.database_pool_size)
        )
        await wait_for_schema(pool, schema=NAME, folder=MIGRATIONS, health=health)
        publisher = await stack.enter_async_context(open_publisher(url, name=f"{NAME} publisher", health=health))
        relay = await stack.enter_async_context(relaying(pool, publisher, health))
        consumer = open_consumer(url, name=f"{NAME} consumer", publisher=publisher, health=health)
        wiring = Wiring(consumer, pool, relay, utc_now, Policy())
        subscribe_events(wiring)
        answer(wiring)
        await stack.enter_async_context(consuming(consumer))
        await stack.enter_async_context(background(health, "daily", lambda: forget_daily(pool, clock=utc_now)))
        await stack.enter_async_context(background(health, "maintenance", lambda: watch_maintenance(wiring)))

    run(NAME, settings, start)


if __name__ == "__main__":
    main()
