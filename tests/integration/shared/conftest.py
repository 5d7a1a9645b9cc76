"""A publisher that is connected, and a look into the queues of the test's own virtual host."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Pool, open_pool
from shared.health import Health
from shared.messaging import Publisher, open_publisher
from tests.integration.shared.facts import Look, looking
from tests.servers import Database, Vhost


@pytest.fixture
def health() -> Health:
    return Health("test")


@pytest.fixture
async def publisher(vhost: Vhost, health: Health) -> AsyncIterator[Publisher]:
    async with open_publisher(vhost.amqp_url, name="test", health=health) as opened:
        await opened.connected.wait()
        yield opened


@pytest.fixture
async def look(vhost: Vhost) -> AsyncIterator[Look]:
    async with looking(vhost.amqp_url) as opened:
        yield opened


@pytest.fixture
async def pool(database: Database, health: Health) -> AsyncIterator[Pool]:
    """Connected with the role of incidents."""
    async with open_pool(database.url("incidents"), name="test", health=health) as opened:
        yield opened
