"""Events to send about, and a look into the broker's queues that does not depend on its statistics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from shared.contracts.envelope import Event
from shared.contracts.registry import encode, make_event
from shared.contracts.services import ServiceDefinition, ServiceRemovedV1
from shared.messaging import Outgoing
from shared.topology import EVENTS

AT = datetime(2026, 3, 14, 9, 26, 53, 589000, tzinfo=UTC)


def fact(number: int, *, name: str = "svc") -> Event[Any]:
    """Return an event that goes to aggregator.events, incidents.events and the stream."""
    service = ServiceDefinition(
        id=f"{name}-{number}",
        name=f"{name}-{number}",
        display_name=f"{name} {number}",
        kind="http",
        endpoint_url="http://127.0.0.1:1/",
        check_interval=1000,
        timeout=500,
        failure_threshold=2,
        recovery_threshold=2,
        is_active=True,
        created_at=AT,
        updated_at=AT,
        version=1,
    )
    data = ServiceRemovedV1(service=service, removed_at=AT)
    return make_event(data, source="/checker", subject=service.id, version=1, at=AT, correlation_id=f"cause-{number}")


def outgoing(event: Event[Any]) -> Outgoing:
    """Return an event as a message to its exchange."""
    return Outgoing(EVENTS, event.type, encode(event), str(event.id), event.correlationid)


def garbage(number: int) -> Outgoing:
    """Return a message with a known type whose bytes mean nothing."""
    return Outgoing(EVENTS, ServiceRemovedV1.TYPE, b"{not json", f"garbage-{number}", "")


class Look:
    """Looks into queues over a channel of its own."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def ready(self, queue: str) -> int:
        """Return how many messages lie in a queue and are with nobody."""
        declared = await self._channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def keep(self, queue: str, exchange: str) -> None:
        """Copy everything that an exchange gets into a queue of the test's own."""
        declared = await self._channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        await declared.bind(exchange, routing_key="#")

    async def take(self, queue: str) -> AbstractIncomingMessage | None:
        """Take one message out of a queue, for good."""
        declared = await self._channel.get_queue(queue, ensure=False)
        return await declared.get(no_ack=True, fail=False)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Look]:
    """Connect to look into queues."""
    connection = await aio_pika.connect(url)
    async with connection:
        yield Look(await connection.channel())
