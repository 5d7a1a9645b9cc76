"""How messages are taken from work queues: what becomes of each, whatever happens to it. See messaging.py for the rules."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from faststream import AckPolicy
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage
from prometheus_client import Counter, Histogram

from shared import topology
from shared.contracts.envelope import Event, Payload
from shared.contracts.registry import Undecodable, UnknownType, decode
from shared.database import backoff, is_transient
from shared.health import Health
from shared.messaging import (
    GRACE_S,
    NotConfirmed,
    Outgoing,
    Publisher,
    ask_broker,
    broker_url,
    declare_topology,
    durable_queue,
    keep_trying,
    stop_quietly,
    watch_connection,
)
from shared.runtime import background
from shared.telemetry import correlated, logger

HEARS_S = 1.0
ATTEMPTS = 5
"""How often a message that a bug refuses is tried before it goes to the dead queue."""
ATTEMPT_HEADER = "x-sla-attempt"
REASON_HEADER = "x-sla-reason"

P = TypeVar("P", bound=Payload)
Handler = Callable[[Event[Any]], Awaitable[None]]

HANDLED = Counter("sla_messages_handled_total", "Messages handled and acked", ["queue"])
HELD = Counter("sla_messages_held_total", "Times a message was held because a dependency was away", ["queue"])
RETRIED = Counter("sla_messages_retried_total", "Counted redeliveries after an unexpected error", ["queue"])
DEAD = Counter("sla_messages_dead_total", "Messages sent to the dead queue", ["queue"])
PASSED_BY = Counter("sla_messages_unknown_type_total", "Messages of a type that this version does not know, acked unread", ["queue"])
SECONDS = Histogram("sla_message_handling_seconds", "Time a handler took, holds included", ["queue"])
log = logger(__name__)


class Stopping(Exception):  # noqa: N818  # not an error: the message goes back, unacked
    """The process ends while a message was held; it is delivered again elsewhere."""


@dataclass(slots=True)
class Consumer:
    """The consuming connection of a process, and the publisher for what must be sent on (retries, dead letters)."""

    broker: RabbitBroker
    publisher: Publisher
    health: Health
    stopping: asyncio.Event
    loops: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]
    consuming: asyncio.Event
    """Set while the subscriptions stand."""


def open_consumer(url: str, *, name: str, publisher: Publisher, health: Health) -> Consumer:
    """Return a consumer to subscribe on; nothing is received before `consuming` is entered."""
    broker = RabbitBroker(broker_url(url), app_id=name, logger=None, apply_types=False, reconnect_interval=1.0, graceful_timeout=GRACE_S)
    return Consumer(broker, publisher, health, asyncio.Event(), [], asyncio.Event())


@asynccontextmanager
async def consuming(consumer: Consumer) -> AsyncIterator[None]:
    """Receive until this is left; handlers that run then are given `GRACE_S`, the rest is delivered again."""

    async def connect() -> None:
        await consumer.broker.connect()
        await declare_topology(consumer.broker)
        await consumer.broker.start()
        consumer.consuming.set()

    consumer.health.set("consumer", ok=False, reason="connecting")
    watch_connection(consumer.broker, "consumer link", consumer.health)
    async with _all_loops(consumer):
        try:
            async with background(consumer.health, "consumer", lambda: keep_trying("consumer", connect, consumer.health)):
                yield
        finally:
            consumer.stopping.set()
            await stop_quietly(consumer.broker)


async def hears(consumer: Consumer) -> bool:
    """Say whether the broker answers on the consuming connection right now; one second at most."""
    if not consumer.consuming.is_set():
        return False
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(HEARS_S):
            await ask_broker(consumer.broker)
    except asyncio.CancelledError:
        if task and task.cancelling():
            raise
        return False  # aio-pika cancels the waiters of a link that died
    except (AMQPError, ChannelInvalidStateError, IncorrectState, OSError, RuntimeError):
        return False
    return True


@asynccontextmanager
async def _all_loops(consumer: Consumer, index: int = 0) -> AsyncIterator[None]:
    if index == len(consumer.loops):
        yield
        return
    name, loop = consumer.loops[index]
    async with background(consumer.health, name, loop), _all_loops(consumer, index + 1):
        yield


def subscribe(consumer: Consumer, queue: topology.WorkQueue, handlers: Mapping[type[Payload], Handler]) -> None:
    """Give each event of `queue` to the handler of its type, up to `queue.prefetch` at once. A type without a handler is acked."""
    by_type = {payload.TYPE: handler for payload, handler in handlers.items()}

    async def work(event: Event[Any]) -> None:
        handler = by_type.get(event.type)
        if handler is not None:
            await _until_done(consumer, queue, lambda: handler(event))

    async def handle(message: RabbitMessage) -> None:
        await _settle(consumer, queue, message, work)

    _register(consumer, queue, handle)


def subscribe_batches(
    consumer: Consumer,
    queue: topology.WorkQueue,
    payload: type[P],
    handler: Callable[[list[Event[P]]], Awaitable[None]],
    *,
    max_messages: int,
    max_wait_s: float,
) -> None:
    """Give the events of `queue` to `handler` in lists: one transaction for many. A list that a bug refuses is tried one by one."""
    waiting: asyncio.Queue[tuple[Event[P], asyncio.Future[None]]] = asyncio.Queue()

    async def work(event: Event[Any]) -> None:
        if event.type != payload.TYPE:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.put_nowait((event, done))
        await done

    async def handle(message: RabbitMessage) -> None:
        await _settle(consumer, queue, message, work)

    async def collect() -> None:
        while True:
            batch = await _take(waiting, max_messages, max_wait_s)
            await _handle_batch(consumer, queue, handler, batch)

    consumer.loops.append((f"batches of {queue.name}", collect))
    _register(consumer, queue, handle)


async def _take(
    waiting: "asyncio.Queue[tuple[Event[P], asyncio.Future[None]]]", most: int, max_wait_s: float
) -> "list[tuple[Event[P], asyncio.Future[None]]]":
    batch = [await waiting.get()]
    try:
        async with asyncio.timeout(max_wait_s):
            while len(batch) < most:
                batch.append(await waiting.get())
    except TimeoutError:
        pass
    return batch


async def _handle_batch(
    consumer: Consumer,
    queue: topology.WorkQueue,
    handler: Callable[[list[Event[P]]], Awaitable[None]],
    batch: "list[tuple[Event[P], asyncio.Future[None]]]",
) -> None:
    try:
        # many causes share this transaction; its logs and events follow the first
        with correlated(batch[0][0].correlationid):
            await _until_done(consumer, queue, lambda: handler([event for event, _ in batch]))
    except Stopping as error:
        outcomes: list[BaseException | None] = [error] * len(batch)
    except Exception as error:  # noqa: BLE001  # given to each message's own settling, which counts it
        outcomes = [error] if len(batch) == 1 else [await _alone(consumer, queue, handler, event) for event, _ in batch]
    else:
        outcomes = [None] * len(batch)
    for (_, done), outcome in zip(batch, outcomes, strict=True):
        if done.done():
            continue
        if outcome is None:
            done.set_result(None)
        else:
            done.set_exception(outcome)


async def _alone(
    consumer: Consumer, queue: topology.WorkQueue, handler: Callable[[list[Event[P]]], Awaitable[None]], event: Event[P]
) -> BaseException | None:
    try:
        with correlated(event.correlationid):
            await _until_done(consumer, queue, lambda: handler([event]))
    except Exception as error:  # noqa: BLE001  # as above
        return error
    return None


def _register(consumer: Consumer, queue: topology.WorkQueue, handle: Callable[[RabbitMessage], Awaitable[None]]) -> None:
    async def undecoded(message: RabbitMessage) -> RabbitMessage:
        return message

    consumer.broker.subscriber(
        durable_queue(queue.name, queue.arguments),
        channel=Channel(prefetch_count=queue.prefetch),
        ack_policy=AckPolicy.MANUAL,
        decoder=undecoded,
        no_reply=True,
    )(handle)


async def _settle(consumer: Consumer, queue: topology.WorkQueue, message: RabbitMessage, work: Handler) -> None:
    """Decode a message, do its work, and settle it by how that ended: ack, given back, tried again later, or dead."""
    raw = message.raw_message
    try:
        event = decode(raw.type or raw.routing_key or "", message.body)
    except UnknownType as error:
        # a newer version says it beside what this one knows: during a rolling upgrade that is no fault
        PASSED_BY.labels(queue.name).inc()
        log.info("event of a newer version passed by", queue=queue.name, reason=str(error))
        await _ack(message)
        return
    except Undecodable as error:
        log.error("undecodable message goes to the dead queue", queue=queue.name, message_id=raw.message_id, reason=str(error))  # noqa: TRY400  # the reason says it all
        await _pass_on(consumer, queue, message, dead=True, reason=str(error))
        return
    with correlated(event.correlationid), SECONDS.labels(queue.name).time():
        try:
            await work(event)
        except Stopping:
            return  # unacked: closing the channel gives it back
        except Exception as error:
            log.exception("message failed", queue=queue.name, event_id=str(event.id), type=event.type)
            await _pass_on(consumer, queue, message, dead=_attempt(message) >= ATTEMPTS, reason=f"{type(error).__name__}: {error}"[:500])
            return
        await _ack(message)
        HANDLED.labels(queue.name).inc()


def _attempt(message: RabbitMessage) -> int:
    """Return which attempt this delivery is, counted in a header of our own: the broker's count rises with every restart."""
    value = message.headers.get(ATTEMPT_HEADER, 1)
    return value if isinstance(value, int) else ATTEMPTS


async def _pass_on(consumer: Consumer, queue: topology.WorkQueue, message: RabbitMessage, *, dead: bool, reason: str) -> None:
    """Send a copy to the retry queue or the dead queue, confirmed, before the original is acked: never neither."""
    raw = message.raw_message
    headers: dict[str, Any] = {REASON_HEADER: reason, ATTEMPT_HEADER: _attempt(message) + (0 if dead else 1)}
    copy = Outgoing(
        exchange=topology.DEAD if dead else "",
        routing_key=queue.name if dead else queue.retry,
        body=message.body,
        message_id=raw.message_id or uuid4().hex,
        correlation_id=raw.correlation_id or "",
        headers=headers,
        type=raw.type or raw.routing_key or "",
    )
    for wait in backoff():
        try:
            await consumer.publisher.publish(copy)
            break
        except NotConfirmed as error:
            log.warning("cannot pass a message on yet", queue=queue.name, reason=str(error))
            if await _stops_within(consumer, wait):
                return
    (DEAD if dead else RETRIED).labels(queue.name).inc()
    await _ack(message)


async def _until_done(consumer: Consumer, queue: topology.WorkQueue, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it ends; while what it needs is away, hold and try again. Raises `Stopping`, or what a bug raises."""
    for wait in backoff():
        try:
            await work()
        except Exception as error:
            if not is_transient(error):
                raise
            HELD.labels(queue.name).inc()
            log.warning("holding messages", queue=queue.name, reason=f"{type(error).__name__}: {error}"[:200])
            if await _stops_within(consumer, wait):
                raise Stopping from error
        else:
            return


async def _stops_within(consumer: Consumer, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await consumer.stopping.wait()
    except TimeoutError:
        return False
    return True


async def _ack(message: RabbitMessage) -> None:
    try:
        await message.ack()
    except (AMQPError, ChannelInvalidStateError, OSError) as error:
        # the effect is committed; the message comes again and its inbox claim or natural key makes the repeat nothing
        log.warning("ack did not reach the broker", reason=str(error))
