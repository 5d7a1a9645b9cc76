"""What this service wants to say: written in the transaction of the change, sent by the relay after the commit, once.

The relay marks the rows that it is going to send and commits; then it locks them, publishes with confirms, deletes, and commits. Who dies
in between leaves rows that are marked and in nobody's hands. About these the stream of events is asked (shared/doubt.py): what is on it has
arrived and is deleted, the rest is sent as if it were new. Where the stream cannot say, it is sent again under the same message id, and
the receiver's inbox drops the repeat: a repeat can be borne, a loss can not.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
from prometheus_client import Counter

from shared.contracts.envelope import Event
from shared.contracts.registry import encode
from shared.database import CONNECT_TIMEOUT_S, Connection, Pool, affected, backoff, is_transient, transaction
from shared.doubt import Asking, asking
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher, Unroutable
from shared.runtime import background
from shared.telemetry import logger
from shared.topology import EVENTS

BATCH = 200
POLL_S = 0.5
SEND_S = 15.0
DRAIN_S = 3.0
SETTLE_S = 2.0
"""After this time all that a dead process still had in its socket has arrived."""
AT_ONCE_S = 0.5
"""A broker that takes longer to answer had stopped reading: others may have had something in their sockets until now."""

SQL_APPEND = "insert into outbox (event_id, type, correlation_id, body) values ($1, $2, $3, $4)"
SQL_APPEND_MANY = """
insert into outbox (event_id, type, correlation_id, body)
select event_id, type, correlation_id, body
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as one (event_id, type, correlation_id, body, place)
 order by place"""
SQL_MARK = """
with fresh as (select position from outbox where sending_since is null order by position limit $1 for update skip locked)
update outbox set sending_since = now() from fresh where outbox.position = fresh.position
returning outbox.position, event_id, type, correlation_id, body, sending_since"""
SQL_TAKE = "select position from outbox where position = any($1::bigint[]) and sending_since = $2 for update skip locked"
SQL_GONE = "delete from outbox where position = any($1::bigint[])"
SQL_FREE = "update outbox set sending_since = null where position = any($1::bigint[])"
SQL_FREE_ALL = "update outbox set sending_since = null where sending_since is not null"
SQL_DOUBTFUL = """
select position, event_id, sending_since from outbox where sending_since < now() - $1::interval
 order by position for update skip locked"""
SQL_JUST_BEGUN = "select true from outbox where sending_since >= now() - $1::interval limit 1 for update skip locked"
SQL_WITNESS = "select current_schema() || '.outbox'"

SENT = Counter("sla_outbox_sent_total", "Events that left the outbox, confirmed by the broker")
DOUBTFUL = Counter("sla_outbox_doubtful_total", "Events that somebody began to send, by what was found out about them", ["outcome"])
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
        self._turn = asyncio.Lock()
        self._link = 0
        """The publisher's link on which the broker was last seen to run on."""
        self._look_at = 0.0
        self._hold_until = 0.0

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
        async with self._turn:
            if not self._publisher.connected.is_set():
                msg = "not connected to the broker"
                raise NotConfirmed(msg)
            await self._settle_doubts()
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as conn:
                rows = await conn.fetch(SQL_MARK, BATCH)
            if rows:
                await self._send(sorted(rows, key=lambda row: row["position"]))
        return len(rows)

    async def _send(self, marked: Sequence[asyncpg.Record]) -> None:
        """Send the rows that are marked by us and still ours. What is not known to have arrived or not is held back until it is."""
        self._hold_until = asyncio.get_running_loop().time() + SETTLE_S
        async with asyncio.timeout(SEND_S), transaction(self._pool) as conn:
            taken = await conn.fetch(SQL_TAKE, [row["position"] for row in marked], marked[0]["sending_since"])
            ours = {row["position"] for row in taken}
            rows = {str(row["event_id"]): row for row in marked if row["position"] in ours}
            failed = await self._publisher.publish_many([_outgoing(row) for row in rows.values()])
            sent = [row["position"] for event_id, row in rows.items() if event_id not in failed]
            refused = [rows[event_id]["position"] for event_id, error in failed.items() if isinstance(error, Unroutable)]
            await conn.execute(SQL_GONE, sent)
            if refused:
                await conn.execute(SQL_FREE, refused)
        if len(sent) + len(refused) == len(rows):
            self._hold_until = 0.0
        SENT.inc(len(sent))
        if failed:
            raise next(iter(failed.values()))

    async def _settle_doubts(self) -> None:
        """Find out about rows that somebody began to send and did not end: before anything else is sent, so that order is kept."""
        clock = asyncio.get_running_loop().time
        if (left := self._hold_until - clock()) > 0:
            await asyncio.sleep(left)
        link = self._publisher.links
        if link == self._link and clock() < self._look_at:
            return
        if link != self._link and await self._pool.fetchval(SQL_JUST_BEGUN, timedelta(seconds=SETTLE_S)):
            await asyncio.sleep(SETTLE_S)
        if link != self._link or await self._pool.fetch(SQL_DOUBTFUL, timedelta(seconds=SETTLE_S)):
            await self._ask(clock())
        self._link, self._look_at = link, clock() + SETTLE_S

    async def _ask(self, began: float) -> None:
        """Ask the broker whether it runs on, and the stream about all rows in doubt."""
        witness = await self._pool.fetchval(SQL_WITNESS)
        async with asking(self._publisher.url, witness=witness) as broker:
            if not await broker.runs_on():
                # waits for those who are sending; committed before the broker is believed again
                freed = affected(await self._pool.execute(SQL_FREE_ALL))
                DOUBTFUL.labels("sent_again").inc(freed)
            await broker.sign()
            await self._publisher.settled()
            if asyncio.get_running_loop().time() - began > AT_ONCE_S:
                await asyncio.sleep(SETTLE_S)
            await self._tell_apart(broker)

    async def _tell_apart(self, broker: Asking) -> None:
        """Delete what has arrived, and free the rest to be sent. Others leave these rows alone meanwhile."""
        async with transaction(self._pool) as conn:
            rows = await conn.fetch(SQL_DOUBTFUL, timedelta(seconds=SETTLE_S))
            if not rows:
                return
            places = {str(row["event_id"]): row["position"] for row in rows}
            found = await broker.arrived(places.keys(), min(row["sending_since"] for row in rows))
            await conn.execute(SQL_GONE, [places[one] for one in found])
            await conn.execute(SQL_FREE, [place for one, place in places.items() if one not in found])
        DOUBTFUL.labels("arrived").inc(len(found))
        DOUBTFUL.labels("sent_again").inc(len(places) - len(found))
        log.info("asked the stream about what somebody began to send", arrived=len(found), sent_again=len(places) - len(found))

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()


def _outgoing(row: asyncpg.Record) -> Outgoing:
    return Outgoing(EVENTS, row["type"], row["body"].encode(), str(row["event_id"]), row["correlation_id"])


@asynccontextmanager
async def relaying(pool: Pool, publisher: Publisher, health: Health) -> AsyncIterator[Relay]:
    """Run a relay; when left, send what is still there for a bounded time. A batch that is under way is not cut short."""
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
