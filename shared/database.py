"""PostgreSQL: the pool, transactions, and which errors pass by themselves."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy  # noqa: TC002  # TypeAliases are read when annotations are

from shared.health import Health
from shared.telemetry import logger

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

COMMAND_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0

TRANSIENT: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
)
"""What passes by itself: the database is away, starting, or chose this transaction to give way."""

NOT_YET: tuple[type[Exception], ...] = (*TRANSIENT, asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError)
"""A missing database or role is made by `sla-monitor db migrate`, which may run after this process began."""

log = logger(__name__)


def backoff(*, first_s: float = 0.1, most_s: float = 5.0) -> Iterator[float]:
    """Give growing, jittered waits in seconds, without end."""
    wait = first_s
    while True:
        yield random.uniform(wait / 2, wait)  # noqa: S311  # spreads retries; nobody gains by guessing
        wait = min(wait * 2, most_s)


async def _prepare(conn: Connection) -> None:
    # Binary, so that COPY takes it too: PostgreSQL's format is the text of the JSON after the number of its version, 1.
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=_from_jsonb, format="binary")


def _to_jsonb(value: Any) -> bytes:  # noqa: ANN401  # JSON
    return b"\x01" + json.dumps(value).encode() if value != {} else b"\x01{}"


def _from_jsonb(data: bytes) -> Any:  # noqa: ANN401  # JSON
    return json.loads(data[1:])


@asynccontextmanager
async def open_pool(url: str, *, name: str, health: Health, size: int = 10) -> AsyncIterator[Pool]:
    """Connect to the database, however long it takes to come up, and close when left. jsonb is Python values both ways."""
    health.set("database", ok=False, reason="connecting")
    pool = await _connect(url, name=name, health=health, size=size)
    health.set("database", ok=True)

    async def ask() -> str | None:
        await pool.fetchval("select 1", timeout=1)
        return None

    health.check("database", ask)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(3):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _connect(url: str, *, name: str, health: Health, size: int) -> Pool:
    for wait in backoff():
        try:
            return await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                init=_prepare,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={"application_name": name, "timezone": "UTC"},
            )
        except NOT_YET as error:
            health.set("database", ok=False, reason=f"{type(error).__name__}: {error}")
            log.warning("waiting for the database", reason=str(error))
            await asyncio.sleep(wait)
    raise AssertionError  # backoff never ends


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """One transaction on a connection of the pool: committed when left, rolled back when an exception leaves it."""
    async with pool.acquire(timeout=CONNECT_TIMEOUT_S) as conn, conn.transaction():
        yield conn


def is_transient(error: BaseException) -> bool:
    """Say whether trying the same thing again later can succeed."""
    return isinstance(error, TRANSIENT)


def affected(tag: Any) -> int:  # noqa: ANN401  # asyncpg types a command tag loosely
    """Return how many rows a command tag such as `UPDATE 3` names."""
    return int(str(tag).rsplit(" ", 1)[-1])
