"""What this service wants to say: written in the transaction of the change, sent by the relay after the commit.

Claimed with `for update skip locked`, published with confirms, then deleted, then committed: a crash in between sends again
under the same message id, and the receiver's inbox drops the repeat.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import Counter

from shared.contracts.envelope import Event
from shared.contracts.registry import encode
from shared.database import Connection, Pool, backoff, is_transient, transaction
from shared.health import Health
from shared.messaging import Outgoing, Publisher
from shared.runtime import background
from shared.telemetry import logger
from shared.topology import EVENTS

BATCH = 200
POLL_S = 0.5
SEND_S = 15.0
DRAIN_S = 3.0

SQL_APPEND = "insert into outbox (event_id, type, correlation_id, body) values ($1, $2, $3, $4)"
SQL_APPEND_MANY = """
insert into outbox (event_id, type, correlation_id, body)
select event_id, type, correlation_id, body
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as one (event_id, type, correlation_id, body, place)
 order by place"""
SQL_CLAIM = "select position, event_id, type, correlation_id, body from outbox order by position limit $1 for update skip locked"
SQL_SENT = "delete from outbox where event_id = any($1::uuid[])"

SENT = Counter("sla_outbox_sent_total", "Events that left the outbox, confirmed by the broker")
log = logger(__name__)


async def append(conn: Connection, event: Event[Any]) -> None:
    """Say `event` if, and only if, the caller's transaction commits."""
    await conn.execute(SQL_APPEND, event.id, event.type, event.correlationid, encode(event).decode())


async def append_many(conn: Connection, events: Sequence[Event[Any]]) -> None:
    """Say `events` in their order if, and only if, the caller's transaction commits."""
    rows = [(event.id, event.type, event.correlationid, encode(event).decode()) for event in events]
    await conn.execute(SQL_APPEND_MANY, *(list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], []))


class Relay:
    """Sends what the outbox holds. Any number of relays may run on one outbox."""

    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        """Use the pool of the outbox's schema."""
        self._pool = pool
        self._publisher = publisher
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: something was committed. Without it the relay looks twice a second."""
        self._woken.set()

    async def run(self) -> None:
        """Send for ever; while database or broker are away, try again with growing waits."""
        waits = backoff()
        while True:
            try:
                await self.drain()
                waits = backoff()
                await self._rest(POLL_S)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("outbox waits", reason=str(error))
                await self._rest(next(waits))

    async def drain(self) -> None:
        """Send until the outbox is empty. Raises what the database or the publisher raises."""
        while await self.send_some() == BATCH:
            pass

    async def send_some(self) -> int:
        """Send up to one batch; return how many rows were claimed. Rows that were not confirmed stay."""
        async with asyncio.timeout(SEND_S), transaction(self._pool) as conn:
            rows = await conn.fetch(SQL_CLAIM, BATCH)
            if not rows:
                return 0
            messages = [Outgoing(EVENTS, row["type"], row["body"].encode(), str(row["event_id"]), row["correlation_id"]) for row in rows]
            failed = await self._publisher.publish_many(messages)
            sent = [row["event_id"] for row in rows if str(row["event_id"]) not in failed]
            await conn.execute(SQL_SENT, sent)
        SENT.inc(len(sent))
        if failed:
            first = next(iter(failed.values()))
            raise first
        return len(rows)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()


@asynccontextmanager
async def relaying(pool: Pool, publisher: Publisher, health: Health) -> AsyncIterator[Relay]:
    """Run a relay; when left, send what is still there for a bounded time."""
    relay = Relay(pool, publisher)
    async with background(health, "outbox relay", relay.run):
        yield relay
    try:
        async with asyncio.timeout(DRAIN_S):
            await relay.drain()
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("outbox not empty at the end: the next process sends the rest", reason=str(error))
