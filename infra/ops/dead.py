"""Dead letters: what no consumer could handle. Looked at without losing any, sent back to work, or dropped on purpose."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from infra.ops.errors import OpsError
from shared.consuming import ATTEMPT_HEADER, REASON_HEADER
from shared.topology import WORK_QUEUES, WorkQueue

TIMEOUT_S = 10.0

_OURS = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", ATTEMPT_HEADER, REASON_HEADER)
"""Headers that tell of the failed tries; a replay begins anew."""

Wanted = Callable[["Letter"], bool]


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as an operator sees it."""

    message_id: str
    type: str
    correlation_id: str
    reason: str
    """Why it died, as far as its headers tell."""
    body: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many lie in one dead queue; None if no consumer has declared the queue yet."""

    queue: WorkQueue
    letters: int | None


def work_queue(name: str) -> WorkQueue:
    """Return the work queue by its own or its dead queue's name; raises OpsError that names the queues there are."""
    for queue in WORK_QUEUES:
        if name in {queue.name, queue.dead}:
            return queue
    message = f"no queue {name!r}; there are {', '.join(queue.name for queue in WORK_QUEUES)}"
    raise OpsError(message)


async def counts(url: str) -> list[Count]:
    """Return how many letters each dead queue holds. Raises OpsError."""
    found = []
    async with _connected(url) as link:
        for queue in WORK_QUEUES:
            try:
                async with link.channel() as channel:
                    declared = await channel.declare_queue(queue.dead, passive=True)
                found.append(Count(queue, declared.declaration_result.message_count))
            except ChannelNotFoundEntity:  # which closes the channel: hence one for each
                found.append(Count(queue, None))
    return found


async def show(url: str, queue: WorkQueue, limit: int) -> list[Letter]:
    """Return the oldest letters; all stay where they are."""
    return [letter for letter, _ in await _go_through(url, queue, limit, wanted=lambda _: False)]


async def replay(url: str, queue: WorkQueue, wanted: Wanted) -> list[Letter]:
    """Send the wanted letters back to their work queue under their own message ids and return them.

    Each is confirmed by the broker before it leaves the dead queue: a crash in between leaves it in both,
    and the consumer's inbox drops the repeat.
    """
    return [letter for letter, done in await _go_through(url, queue, None, wanted=wanted, back_to=queue.name) if done]


async def drop(url: str, queue: WorkQueue, wanted: Wanted) -> list[Letter]:
    """Remove the wanted letters for good and return them."""
    return [letter for letter, done in await _go_through(url, queue, None, wanted=wanted) if done]


async def _go_through(
    url: str, queue: WorkQueue, limit: int | None, *, wanted: Wanted, back_to: str | None = None
) -> list[tuple[Letter, bool]]:
    """Look at each letter that lies there now; settle the wanted, put back the others in their order."""
    async with _connected(url) as link, link.channel(publisher_confirms=True, on_return_raises=True) as channel:
        try:
            dead = await channel.declare_queue(queue.dead, passive=True)
        except ChannelNotFoundEntity:
            return []
        seen: list[tuple[Letter, bool]] = []
        kept: list[AbstractIncomingMessage] = []
        there = dead.declaration_result.message_count or 0
        for _ in range(there if limit is None else min(limit, there)):
            message = await dead.get(fail=False, timeout=TIMEOUT_S)
            if message is None:
                break
            letter = _letter(message)
            seen.append((letter, wanted(letter)))
            if not seen[-1][1]:
                kept.append(message)
                continue
            if back_to is not None:
                await _send_back(channel, message, back_to)
            await message.ack()
        for message in kept:
            await message.nack(requeue=True)
        return seen


async def _send_back(channel: AbstractChannel, message: AbstractIncomingMessage, queue: str) -> None:
    headers = {name: value for name, value in message.headers.items() if not name.startswith(_OURS)}
    copy = aio_pika.Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        type=message.type,
        timestamp=message.timestamp,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await channel.default_exchange.publish(copy, routing_key=queue, mandatory=True, timeout=TIMEOUT_S)


def _letter(message: AbstractIncomingMessage) -> Letter:
    reason = message.headers.get(REASON_HEADER) or message.headers.get("x-first-death-reason") or "unknown"
    return Letter(
        message_id=message.message_id or "",
        type=message.type or message.routing_key or "",
        correlation_id=message.correlation_id or "",
        reason=str(reason),
        body=message.body.decode("utf-8", errors="backslashreplace"),
    )


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[aio_pika.abc.AbstractConnection]:
    try:
        link = await aio_pika.connect(url, timeout=TIMEOUT_S)
    except (OSError, AMQPError, TimeoutError) as error:
        message = f"the broker does not answer ({type(error).__name__} {error})"
        raise OpsError(message) from error
    async with link:
        yield link
