"""A pool with the aggregator's own role, on a fresh database."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Pool, open_pool
from shared.health import Health
from tests.servers import Database


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connect as the aggregator does."""
    async with open_pool(database.url("aggregator"), name="test", health=Health("test")) as opened:
        yield opened
