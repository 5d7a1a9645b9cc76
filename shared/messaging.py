"""RabbitMQ: two connections per process, one that publishes and one that consumes, so that a blocked publisher stalls nobody.

Publishing is bounded in time, persistent, mandatory and confirmed. Consuming tells three things apart: bytes that mean nothing
(to the dead queue at once), a dependency that is away (held, tried again), and a bug (tried again a counted number of times by way
of the retry queue, then to the dead queue). Nothing is acked before its effect is committed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from prometheus_client import Counter

from shared import topology
from shared.database import backoff
from shared.health import Health
from shared.runtime import background
from shared.telemetry import logger

PUBLISH_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 10.0
HEARTBEAT_S = 10
GRACE_S = 4.0
"""How long handlers that run may go on when the process ends; what is not done by then is delivered again."""

PUBLISHED = Counter("sla_messages_published_total", "Messages that the broker confirmed", ["routing_key"])
UNCONFIRMED = Counter("sla_messages_unconfirmed_total", "Publishes that were not confirmed in time and are tried again")
log = logger(__name__)


class NotConfirmed(ConnectionError):  # noqa: N818  # names the fact; it is a transient one, and so an OSError
    """The broker did not confirm a message in time. It may have arrived all the same: send again with the same message id."""


class Unroutable(NotConfirmed):
    """Nobody has declared a queue for the message, or one refused it. That it is to be sent again is sure."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to send. `expiration_s` is for requests whose answer nobody awaits any more; `type` defaults to the routing key."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    correlation_id: str
    headers: dict[str, Any] = field(default_factory=dict)
    expiration_s: float | None = None
    type: str = ""
    content_type: str = "application/cloudevents+json"
    persistent: bool = True
    mandatory: bool = True


class Publisher:
    """The publishing connection of a process. Safe to use from many tasks at once: their confirms travel together."""

    def __init__(self, broker: RabbitBroker, *, url: str, timeout_s: float = PUBLISH_TIMEOUT_S) -> None:
        """Wrap a broker of its own; see `open_publisher`."""
        self.url = url
        self.connected = asyncio.Event()
        self.links = 0
        """How many links there were until now: after another one the broker may have begun anew."""
        self._broker = broker
        self._timeout_s = timeout_s
        self._exchanges = {name: RabbitExchange(name, declare=False) for name in topology.EXCHANGES}

    async def connect(self) -> None:
        """Connect, and see to it that everything of topology.py is there. Raises what the client raises."""
        await self._broker.start()
        await declare_topology(self._broker)
        channel = await self._broker.config.channel_manager.get_channel()
        channel.reopen_callbacks.add(self._count_link)
        self._count_link()
        self.connected.set()

    def _count_link(self, *_: object) -> None:
        self.links += 1

    async def publish(self, message: Outgoing) -> None:
        """Send one message and return when the broker has it. Raises `NotConfirmed`, `Unroutable`."""
        try:
            async with self._bounded("the broker did not confirm"):
                try:
                    await self._send(message)
                except DeliveryError as error:
                    msg = f"no queue takes {message.routing_key!r} on exchange {message.exchange!r}"
                    raise Unroutable(msg) from error
        except NotConfirmed:
            UNCONFIRMED.inc()
            raise
        PUBLISHED.labels(message.routing_key if message.exchange else "(direct)").inc()

    async def settled(self) -> None:
        """Return when the broker has dealt with all that was given to this link before, confirmed or not. Raises `NotConfirmed`."""
        async with self._bounded("the broker does not answer"):
            await ask_broker(self._broker)  # on the channel that publishes, whose frames are handled in their order

    @asynccontextmanager
    async def _bounded(self, otherwise: str) -> AsyncIterator[None]:
        """Bound in time what is asked of the link. Raises `NotConfirmed`, saying `otherwise`, for all that may befall it."""
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except asyncio.CancelledError:
            if task and task.cancelling() > cancelled_before:
                raise
            # aio-pika cancels the waiters of a link that died: no cancel of ours
            msg = "the link to the broker died"
            raise NotConfirmed(msg) from None
        except NotConfirmed:
            raise
        except (TimeoutError, AMQPError, ChannelInvalidStateError, IncorrectState, OSError, RuntimeError) as error:
            msg = f"{otherwise}: {type(error).__name__} {error}".rstrip()
            raise NotConfirmed(msg) from error

    async def _send(self, message: Outgoing) -> None:
        if not self.connected.is_set():
            msg = "not connected to the broker"
            raise NotConfirmed(msg)
        await self._broker.publish(
            Message(
                message.body,
                message_id=message.message_id,
                correlation_id=message.correlation_id,
                content_type=message.content_type,
                delivery_mode=DeliveryMode.PERSISTENT if message.persistent else DeliveryMode.NOT_PERSISTENT,
                headers=message.headers,
                expiration=message.expiration_s,
                type=message.type or message.routing_key,
            ),
            exchange=self._exchanges[message.exchange] if message.exchange else None,
            routing_key=message.routing_key,
            mandatory=message.mandatory,
        )

    async def publish_many(self, messages: Sequence[Outgoing]) -> dict[str, NotConfirmed]:
        """Send many at once and wait for all confirms; return what was not confirmed, by message id."""
        results = await asyncio.gather(*(self.publish(message) for message in messages), return_exceptions=True)
        failed: dict[str, NotConfirmed] = {}
        for message, result in zip(messages, results, strict=True):
            if isinstance(result, NotConfirmed):
                failed[message.message_id] = result
            elif isinstance(result, BaseException):
                raise result
        return failed


def broker_url(url: str) -> str:
    """Return the URL with the heartbeat in it, where aio-pika looks for it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"heartbeat": str(HEARTBEAT_S)}
    return urlunsplit(parts._replace(query=urlencode(query)))


def durable_queue(name: str, arguments: Mapping[str, object]) -> RabbitQueue:
    """Return a quorum queue or a stream, whichever its arguments (topology.py) say."""
    if arguments["x-queue-type"] == "stream":
        return RabbitQueue(name, queue_type=QueueType.STREAM, arguments=cast("Any", arguments))
    return RabbitQueue(name, queue_type=QueueType.QUORUM, arguments=cast("Any", arguments))


async def declare_topology(broker: RabbitBroker) -> None:
    """Make everything of topology.py that is not there yet: whoever comes first, so that no start order is needed.

    Past FastStream's own declaring, which remembers each queue with the channel that declared it: a subscriber would then consume
    on this channel, without its prefetch.
    """
    channel: AbstractChannel = await broker.config.channel_manager.get_channel()
    exchanges = {name: await channel.declare_exchange(name, kind, durable=True) for name, kind in topology.EXCHANGES.items()}

    async def declare(name: str, arguments: Mapping[str, object]) -> AbstractQueue:
        return await channel.declare_queue(name, durable=True, arguments=cast("Any", dict(arguments)))

    for queue in topology.WORK_QUEUES:
        dead = await declare(queue.dead, queue.dead_arguments)
        await dead.bind(exchanges[topology.DEAD], routing_key=queue.name)
        await declare(queue.retry, queue.retry_arguments)
        work = await declare(queue.name, queue.arguments)
        for key in queue.bindings:
            await work.bind(exchanges[queue.exchange], routing_key=key)
    stream = await declare(topology.STATUS_STREAM, topology.STREAM_ARGUMENTS)
    for key in topology.STREAM_BINDINGS:
        await stream.bind(exchanges[topology.EVENTS], routing_key=key)


async def keep_trying(what: str, attempt: Callable[[], Coroutine[Any, Any, None]], health: Health) -> None:
    """Run `attempt` until it succeeds, saying meanwhile in `health` what is awaited."""
    for wait in backoff():
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await attempt()
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise
            health.set(what, ok=False, reason=f"{type(error).__name__}: {error}"[:200])
            log.warning("waiting for the broker", part=what, reason=str(error))
            await asyncio.sleep(wait)
        else:
            health.set(what, ok=True)
            return


async def stop_quietly(broker: RabbitBroker) -> None:
    """Close a broker's connection within a bound, whatever state it is in."""
    try:
        async with asyncio.timeout(GRACE_S + 1):
            await broker.stop()
    except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError, RuntimeError, ExceptionGroup) as error:
        log.warning("broker connection closed uncleanly: unacked messages are delivered again", reason=str(error))


def watch_connection(broker: RabbitBroker, part: str, health: Health) -> None:
    """Ask the broker itself whenever readiness is asked for: a flag of the client says nothing."""

    async def ask() -> str | None:
        await ask_broker(broker)
        return None

    health.check(part, ask)


async def ask_broker(broker: RabbitBroker) -> None:
    """Return when the broker has answered on this connection. Raises whatever the client raises where it does not; bound it in time."""
    channel = await broker.config.channel_manager.get_channel()
    await channel.declare_exchange(topology.EVENTS, topology.EXCHANGES[topology.EVENTS], durable=True, robust=False)


@asynccontextmanager
async def open_publisher(url: str, *, name: str, health: Health, timeout_s: float = PUBLISH_TIMEOUT_S) -> AsyncIterator[Publisher]:
    """Give the process's publisher at once and connect in the background; until then publishing raises `NotConfirmed`."""
    broker = RabbitBroker(
        broker_url(url),
        default_channel=Channel(on_return_raises=True, publisher_confirms=True),
        app_id=name,
        logger=None,
        apply_types=False,
        reconnect_interval=1.0,
    )
    publisher = Publisher(broker, url=broker_url(url), timeout_s=timeout_s)
    health.set("publisher", ok=False, reason="connecting")
    watch_connection(broker, "publisher link", health)
    try:
        async with background(health, "publisher", lambda: keep_trying("publisher", publisher.connect, health)):
            yield publisher
    finally:
        await stop_quietly(broker)
