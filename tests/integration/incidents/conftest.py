"""A pool with the role of incidents, on a fresh database, and the service's edge on a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from services.incidents.consumers import Wiring, answer, subscribe_events
from services.incidents.domain.lifecycle import Policy
from shared.clock import utc_now
from shared.consuming import consuming, open_consumer
from shared.database import Pool, open_pool
from shared.health import Health
from shared.messaging import open_publisher
from shared.outbox import relaying
from shared.rpc import open_client
from tests.integration.incidents.story import Edge
from tests.servers import Database, Vhost
from tests.waiting import until


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connect as the incidents service does."""
    async with open_pool(database.url("incidents"), name="test", health=Health("test")) as opened:
        yield opened


@pytest.fixture
async def edge(pool: Pool, vhost: Vhost) -> AsyncIterator[Edge]:
    """Run the service's edge in this process; give somebody who asks it, and somebody who says things."""
    health = Health("incidents")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_publisher(vhost.amqp_url, name="publisher", health=health))
        relay = await stack.enter_async_context(relaying(pool, publisher, health))
        consumer = open_consumer(vhost.amqp_url, name="consumer", publisher=publisher, health=health)
        wiring = Wiring(consumer, pool, relay, utc_now, Policy())
        subscribe_events(wiring)
        answer(wiring)
        await stack.enter_async_context(consuming(consumer))
        client = await stack.enter_async_context(open_client(vhost.amqp_url, name="asker", health=health))
        await asyncio.wait_for(asyncio.gather(consumer.consuming.wait(), publisher.connected.wait()), 20)

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the asker is connected")
        yield Edge(client, publisher, wiring)
