"""`python -m services.incidents`: settings, resources, wiring, run."""

from contextlib import AsyncExitStack
from pathlib import Path

from services.incidents.consumers import Wiring, answer, subscribe_events
from services.incidents.domain.lifecycle import Policy
from services.incidents.settings import IncidentsSettings
from shared.clock import utc_now
from shared.consuming import consuming, open_consumer
from shared.database import open_pool
from shared.health import Health
from shared.messaging import open_publisher
from shared.migrate import wait_for_schema
from shared.outbox import relaying
from shared.runtime import run
from shared.settings import load

NAME = "incidents"
MIGRATIONS = Path(__file__).parent / "migrations"


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

    run(NAME, settings, start)


if __name__ == "__main__":
    main()
