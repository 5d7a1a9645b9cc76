"""Whether that has arrived which somebody began to send, and did not end.

Every event is on the stream too, so a message that is there has arrived: the broker gives a message to all its queues in one step. Unless
the broker itself was killed in that step; then the stream may have what a work queue has not. Hence a witness, one for each outbox: a
message that is not persistent in a durable queue of its own. It is gone after a restart, and with it the belief in what the stream says.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared import streams
from shared.streams import LINK_TROUBLE, PROGRESS_S

QUEUE_ARGUMENTS: dict[str, Any] = {"x-queue-type": "classic", "x-max-length": 1}
"""Classic, because a quorum queue keeps every message over a restart."""


class NoAnswer(ConnectionError):  # noqa: N818  # names the fact
    """The broker cannot be asked now."""


class Asking:
    """One link to one run of the broker: it breaks when the broker ends."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, witness: str) -> None:
        """See `asking`."""
        self._connection = connection
        self._channel = channel
        self._witness = witness

    async def runs_on(self) -> bool:
        """Say whether the broker has been running ever since `sign`."""
        async with _bounded(PROGRESS_S):
            queue = await self._channel.declare_queue(self._witness, durable=True, arguments=QUEUE_ARGUMENTS)
        return bool(queue.declaration_result.message_count)

    async def sign(self) -> None:
        """Have the broker remember that it was asked. Returns when it takes messages: not under an alarm."""
        async with _bounded(PROGRESS_S):
            signature = Message(b"", delivery_mode=DeliveryMode.NOT_PERSISTENT)
            await self._channel.default_exchange.publish(signature, self._witness)

    async def arrived(self, message_ids: Collection[str], since: datetime) -> set[str]:
        """Return which of these came to the stream since a moment."""
        async with _bounded(None):
            return await streams.ids_since(self._connection, message_ids, since)


@asynccontextmanager
async def asking(url: str, *, witness: str) -> AsyncIterator[Asking]:
    """Connect to ask. Everything of it raises `NoAnswer` where the broker is away."""
    async with _bounded(PROGRESS_S):
        connection = await aio_pika.connect(url, client_properties={"connection_name": witness})
    try:
        async with _bounded(PROGRESS_S):
            channel = await connection.channel()
        yield Asking(connection, channel, witness)
    finally:
        await streams.close(connection)


@asynccontextmanager
async def _bounded(seconds: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (*LINK_TROUBLE, asyncio.CancelledError) as error:
        streams.raise_if_ours(error)
        msg = f"the broker cannot be asked: {type(error).__name__} {error}".rstrip()
        raise NoAnswer(msg) from error
