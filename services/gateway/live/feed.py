"""The reader of the stream: strictly in order, each offset once, coming back by itself where it stopped.

It reads again the last message it has, to be sure that the stream is still the same one. The connection is plain, and the place is kept
here: see shared/streams.py.
"""

import asyncio
from contextlib import suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

from services.gateway.live.hub import Broken, Hub
from shared import topology
from shared.database import backoff
from shared.messaging import broker_url
from shared.streams import ANSWER_S, LINK_TROUBLE, PREFETCH, Arrived, Lost, attach, close, raise_if_ours
from shared.telemetry import logger

CONNECT_S = 10.0
WATCH_EVERY_S = 3.0
"""How often the broker is asked whether it is still there: a link may swallow everything without breaking."""
QUIET_S = 0.3
"""How long nothing more comes when the newest chunk of the stream has been read."""

log = logger(__name__)


class Feed:
    """Follows the stream for a hub until cancelled."""

    def __init__(self, url: str, hub: Hub, *, name: str, watch_every_s: float = WATCH_EVERY_S) -> None:
        """Read by a connection of its own, called `name` in the broker's list."""
        self._url = broker_url(url)
        self._hub = hub
        self._name = name
        self._watch_every_s = watch_every_s

    async def run(self) -> None:
        """Connect, read, and begin again with jittered waits whenever the link is lost."""
        waits = backoff()
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    connection = await aio_pika.connect(self._url, client_properties={"connection_name": self._name})
            except LINK_TROUBLE as error:
                log.warning("waiting for the broker", part="feed", reason=str(error))
            else:
                try:
                    await self._follow(connection)
                except (*LINK_TROUBLE, asyncio.CancelledError) as error:
                    raise_if_ours(error)
                    waits = backoff() if self._hub.live else waits
                    log.warning("feed lost", offset=self._hub.offset, reason=f"{type(error).__name__}: {error}"[:200])
                finally:
                    self._hub.set_live(live=False)
                    await close(connection)
            await asyncio.sleep(next(waits))

    async def _follow(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(CONNECT_S):
            queue = await _declare(await connection.channel())
            newest = await _newest(connection, queue)
        arrived: Arrived = asyncio.Queue()
        async with asyncio.timeout(CONNECT_S):
            start = self._start(newest)
            channel = await attach(connection, start, arrived)
        self._hub.set_live(live=True)
        if newest is None or self._hub.ring.last >= newest:
            self._hub.caught_up()
        watching = asyncio.create_task(self._watch(connection, arrived), name="feed watch")
        try:
            while (message := await arrived.get()) is not None:
                await self._take(message, last_of_many=arrived.empty())
                if newest is not None and self._hub.ring.last >= newest:
                    self._hub.caught_up()
                    newest = None
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        msg = f"the broker ended the reading (channel closed: {channel.is_closed})"
        raise Lost(msg)

    def _start(self, newest: int | None) -> int:
        """Return the offset to read from: what we have last, or early enough to fill the ring."""
        hub = self._hub
        if hub.offset is not None and hub.offset > (-1 if newest is None else newest):
            hub.restart(0)
        fill = 0 if newest is None else max(0, newest + 1 - hub.ring.max_events)
        if len(hub.ring) > 0:
            return hub.ring.last
        start = fill if hub.offset is None else max(0, min(hub.offset, fill))
        hub.expect(start)
        return start

    async def _take(self, message: AbstractIncomingMessage, *, last_of_many: bool) -> None:
        offset = offset_of(message)
        arguments = (offset, message.message_id or "", message.type or message.routing_key or "", message.body)
        try:
            self._hub.deliver(*arguments)
        except Broken as reason:
            log.warning("the feed begins again", offset=offset, reason=str(reason))
            self._hub.restart(offset)
            self._hub.deliver(*arguments)
        if last_of_many or offset % (PREFETCH // 5) == 0:
            await message.ack(multiple=True)
        await asyncio.sleep(0)  # lets clients' sockets have their turn within a long run

    async def _watch(self, connection: AbstractConnection, arrived: Arrived) -> None:
        """End the reading when the broker does not answer, or no longer has the stream."""
        try:
            channel = await connection.channel()
            while True:
                await asyncio.sleep(self._watch_every_s)
                async with asyncio.timeout(ANSWER_S):
                    await channel.declare_queue(topology.STATUS_STREAM, passive=True)
        except (*LINK_TROUBLE, asyncio.CancelledError) as error:
            raise_if_ours(error)
            log.warning("the broker does not answer for the feed", reason=f"{type(error).__name__}: {error}"[:200])
        finally:
            arrived.put_nowait(None)


def offset_of(message: AbstractIncomingMessage) -> int:
    """Return a stream message's offset."""
    offset: Any = message.headers["x-stream-offset"]
    return int(offset)


async def _declare(channel: AbstractChannel) -> AbstractQueue:
    """Make the stream and its bindings if we are the first to need them."""
    exchange = await channel.declare_exchange(topology.EVENTS, topology.EXCHANGES[topology.EVENTS], durable=True)
    queue = await channel.declare_queue(topology.STATUS_STREAM, durable=True, arguments=dict(topology.STREAM_ARGUMENTS))  # type: ignore[arg-type]  # field table
    for key in topology.STREAM_BINDINGS:
        await queue.bind(exchange, routing_key=key)
    return queue


async def _newest(connection: AbstractConnection, queue: AbstractQueue) -> int | None:
    """Return the newest offset of the stream, or None if nothing is in it. Asks for the last chunk and reads to its end."""
    offsets: asyncio.Queue[int] = asyncio.Queue()
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    passive = await channel.get_queue(queue.name, ensure=False)

    async def note(message: AbstractIncomingMessage) -> None:
        offsets.put_nowait(offset_of(message))
        await message.ack()

    await passive.consume(note, arguments={"x-stream-offset": "last"})
    newest: int | None = None
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET_S if newest is not None else QUIET_S * 3):
                newest = await offsets.get()
    await channel.close()
    return newest
