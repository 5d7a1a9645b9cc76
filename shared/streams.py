"""Reading a stream by a plain connection: in order, from a place on, with the trouble of the link told apart from a cancel of ours.

RabbitMQ's own client library would come back with the old `x-stream-offset`; so connections are plain, and who reads keeps the place.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, ChannelNotFoundEntity

from shared import topology

PREFETCH = 500
ANSWER_S = 3.0
PROGRESS_S = 10.0
"""How long a broker may take for the next step of a reading before the link counts as lost."""
FIRST_S = 2.0
"""How long the first message may take to come, where there is one: it comes by itself, within milliseconds."""
CLOCKS = timedelta(seconds=60)
"""How far the clocks of database and broker may be apart."""

LINK_TROUBLE = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError)
Arrived = asyncio.Queue[AbstractIncomingMessage | None]


class Lost(ConnectionError):  # noqa: N818  # names the fact
    """The link is no longer one that anything comes by."""


def raise_if_ours(error: BaseException) -> None:
    """Let a cancel of ours go on. A dead link surfaces as one too (aio-pika cancels its waiters): that one is trouble like any other."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


async def attach(connection: AbstractConnection, start: int | datetime, arrived: Arrived) -> AbstractChannel:
    """Begin reading at an offset or a moment: messages go to `arrived` in their order, None when the broker ends it."""
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)

    def end(*_: object) -> None:
        arrived.put_nowait(None)

    connection.close_callbacks.add(end)
    channel.close_callbacks.add(end)

    async def cancelled(_frame: object) -> None:
        end()

    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(cancelled)
    queue = await channel.get_queue(topology.STATUS_STREAM, ensure=False)
    await queue.consume(arrived.put, arguments={"x-stream-offset": start})
    return channel


async def close(connection: AbstractConnection) -> None:
    """Close a connection within a bound, whatever state it is in."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await connection.close()
    except (*LINK_TROUBLE, asyncio.CancelledError) as error:
        raise_if_ours(error)


async def ids_since(connection: AbstractConnection, wanted: Collection[str], since: datetime) -> set[str]:
    """Return which of these message ids came to the stream since a moment by the database's clock.

    None of them where there is no stream, or nothing from that time any more. Raises `Lost`, and whatever the client raises.
    """
    arrived: Arrived = asyncio.Queue()
    try:
        async with asyncio.timeout(PROGRESS_S):
            channel = await attach(connection, since - CLOCKS, arrived)
    except ChannelNotFoundEntity:
        return set()
    found: set[str] = set()
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_S):
            await _take([await arrived.get()], wanted, found)
    # The broker handles acks and questions of a channel in their order and reads on at each ack: what it sends before it answers is all
    # there was, and no wait of a guessed length says that. Asked twice, because the client hands messages on a little after they came.
    quiet = 0
    while quiet < 2 and len(found) < len(wanted):  # noqa: PLR2004  # as above
        async with asyncio.timeout(PROGRESS_S):
            await channel.declare_queue(topology.STATUS_STREAM, passive=True)
        quiet = quiet + 1 if arrived.empty() else 0
        await _take([arrived.get_nowait() for _ in range(arrived.qsize())], wanted, found)
    return found


async def _take(messages: Sequence[AbstractIncomingMessage | None], wanted: Collection[str], found: set[str]) -> None:
    for message in messages:
        if message is None:
            msg = "the broker ended the reading"
            raise Lost(msg)
        if message.message_id is not None and message.message_id in wanted:
            found.add(message.message_id)
    if messages and messages[-1] is not None:
        await messages[-1].ack(multiple=True)
