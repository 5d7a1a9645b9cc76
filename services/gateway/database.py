"""The gateway's database, which may be away: reading goes on without it, so nothing here waits for it to come up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.database import Connection, Pool, open_pool, transaction
from shared.health import Health
from shared.migrate import wait_for_schema

MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA = "gateway"


class DatabaseAway(ConnectionError):  # noqa: N818  # names the fact; transient, and so an OSError
    """There is no connection to the database yet."""


class Database:
    """The pool, once there is one."""

    def __init__(self) -> None:
        """Begin without one; see `keep_open`."""
        self._pool: Pool | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction. Raises `DatabaseAway`, and what shared.database calls transient."""
        if self._pool is None:
            msg = "the database is not connected yet"
            raise DatabaseAway(msg)
        async with transaction(self._pool) as conn:
            yield conn

    async def keep_open(self, url: str, *, name: str, size: int, health: Health) -> None:
        """Connect, wait for the schema, and hold the pool until cancelled. Raises `SchemaRefused` if the schema is not ours."""
        async with open_pool(url, name=name, health=health, size=size) as pool:
            await wait_for_schema(pool, schema=SCHEMA, folder=MIGRATIONS, health=health)
            self._pool = pool
            try:
                await asyncio.Event().wait()
            finally:
                self._pool = None
