"""Consuming on a real broker: what becomes of each message, whatever happens to it."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aio_pika.abc import AbstractIncomingMessage

from shared.consuming import (
    ATTEMPT_HEADER,
    ATTEMPTS,
    REASON_HEADER,
    RETRIED,
    Consumer,
    consuming,
    hears,
    open_consumer,
    subscribe,
    subscribe_batches,
)
from shared.contracts.envelope import Event
from shared.contracts.services import ServiceRemovedV1
from shared.health import Health
from shared.messaging import Publisher, open_publisher
from shared.telemetry import correlation_id
from shared.topology import INCIDENTS_EVENTS, WorkQueue
from tests.integration.shared.facts import Look, fact, garbage, outgoing
from tests.proxy import Proxy, running_proxy
from tests.servers import Vhost
from tests.waiting import until

Removed = Event[ServiceRemovedV1]
QUEUE = INCIDENTS_EVENTS


class Bug(Exception):  # noqa: N818  # what a handler of a test raises
    """Nothing that passes by itself."""


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way by the retry queue as it is, only not two seconds long."""
    arguments = dict(QUEUE.retry_arguments) | {"x-message-ttl": 100}
    monkeypatch.setattr(WorkQueue, "retry_arguments", property(lambda queue: arguments | {"x-dead-letter-routing-key": queue.name}))


@pytest.fixture
def consumer(vhost: Vhost, publisher: Publisher, health: Health) -> Consumer:
    return open_consumer(vhost.amqp_url, name="test", publisher=publisher, health=health)


@pytest.fixture
async def proxy(vhost: Vhost) -> AsyncIterator[Proxy]:
    async with running_proxy(vhost.amqp_url) as running:
        yield running


def counts(heard: list[str], wanted: int) -> Callable[[], Awaitable[bool]]:
    """Return a condition: so many different ones were heard."""

    async def enough() -> bool:
        return len(set(heard)) >= wanted

    return enough


async def dead_of(look: Look, *, number: int) -> list[AbstractIncomingMessage]:
    """Return the dead letters, once there are so many."""

    async def enough() -> bool:
        return await look.ready(QUEUE.dead) >= number

    await until(enough, within_s=15, what=f"{number} dead letters")
    taken = [await look.take(QUEUE.dead) for _ in range(await look.ready(QUEUE.dead))]
    return [message for message in taken if message]


async def test_point_6_handlers_run_at_once_but_never_more_than_the_prefetch(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """Seen red with a Channel without prefetch_count: all 96 ran at once."""
    go, running = asyncio.Event(), []

    async def hold(event: Removed) -> None:
        running.append(event.subject)
        await go.wait()

    subscribe(consumer, QUEUE, {ServiceRemovedV1: hold})
    await publisher.publish_many([outgoing(fact(number)) for number in range(3 * QUEUE.prefetch)])
    async with consuming(consumer):
        await until(counts(running, QUEUE.prefetch), within_s=10, what="as many handlers as the prefetch")
        assert (await look.ready(QUEUE.name), len(running)) == (2 * QUEUE.prefetch, QUEUE.prefetch)
        go.set()
        await until(counts(running, 3 * QUEUE.prefetch), within_s=10, what="all of them")


async def test_point_7_a_bug_is_tried_five_times_and_ends_in_the_dead_queue(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """Seen red with a bug sent to the dead queue at once (one try), and with the attempt never counted (no end)."""
    tries: Counter[str] = Counter()

    async def fail_on_one(event: Removed) -> None:
        tries[event.subject] += 1
        if event.subject == "svc-1":
            msg = "does not compute"
            raise Bug(msg)

    subscribe(consumer, QUEUE, {ServiceRemovedV1: fail_on_one})
    await publisher.publish_many([outgoing(fact(number)) for number in range(3)])
    async with consuming(consumer):
        [dead] = await dead_of(look, number=1)
    assert tries == {"svc-0": 1, "svc-1": ATTEMPTS, "svc-2": 1}
    assert dead.body == outgoing(fact(1)).body
    assert dead.message_id == str(fact(1).id)
    assert dead.headers[REASON_HEADER] == "Bug: does not compute"
    assert dead.headers[ATTEMPT_HEADER] == ATTEMPTS
    assert [await look.ready(queue) for queue in (QUEUE.name, QUEUE.retry)] == [0, 0]


async def test_point_7_poison_goes_to_the_dead_queue_at_once(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """Seen red with dead=False for the undecodable: five rounds for nothing."""
    heard: list[str] = []

    async def hear(event: Removed) -> None:
        heard.append(event.subject)

    subscribe(consumer, QUEUE, {ServiceRemovedV1: hear})
    await publisher.publish_many([outgoing(fact(0)), garbage(1), outgoing(fact(2))])
    async with consuming(consumer):
        [dead] = await dead_of(look, number=1)
        await until(counts(heard, 2), within_s=5, what="the good ones")
    assert (dead.message_id, dead.body, dead.headers[ATTEMPT_HEADER]) == ("garbage-1", b"{not json", 1)
    assert "Invalid JSON" in str(dead.headers[REASON_HEADER])


async def test_an_event_of_a_newer_version_is_passed_by(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """A rolling upgrade says it beside the old one. Seen red with unknown types taken for poison: it lay in the dead queue."""
    heard: list[str] = []

    async def hear(event: Removed) -> None:
        heard.append(event.subject)

    subscribe(consumer, QUEUE, {ServiceRemovedV1: hear})
    newer = dataclasses.replace(outgoing(fact(0)), type="service.removed.v2", message_id="newer")
    await publisher.publish_many([newer, outgoing(fact(1))])
    async with consuming(consumer):
        await until(counts(heard, 1), within_s=5, what="the one that is known")
    assert [await look.ready(queue) for queue in (QUEUE.name, QUEUE.retry, QUEUE.dead)] == [0, 0, 0]


async def test_a_batch_is_handled_under_the_correlation_id_of_its_first(consumer: Consumer, publisher: Publisher) -> None:
    """Seen red without `correlated` in `_handle_batch`: what the batch caused had an id that nobody had given."""
    heard: list[str] = []

    async def hear(_events: list[Removed]) -> None:
        heard.append(correlation_id())

    subscribe_batches(consumer, QUEUE, ServiceRemovedV1, hear, max_messages=10, max_wait_s=0.05)
    await publisher.publish(outgoing(fact(0)))
    async with consuming(consumer):
        await until(counts(heard, 1), within_s=5, what="the batch")
    assert heard == ["cause-0"]


async def test_a_dependency_that_is_away_holds_a_message_and_is_not_counted(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """Seen red with is_transient always false: it went round by the retry queue."""
    tries: list[str] = []
    before = RETRIED.labels(QUEUE.name)._value.get()  # noqa: SLF001  # a counter has no public reading

    async def away_at_first(event: Removed) -> None:
        tries.append(event.subject)
        if len(tries) < ATTEMPTS + 2:
            raise ConnectionRefusedError

    subscribe(consumer, QUEUE, {ServiceRemovedV1: away_at_first})
    await publisher.publish(outgoing(fact(1)))
    async with consuming(consumer):

        async def done() -> bool:
            return len(tries) == ATTEMPTS + 2

        await until(done, within_s=20, what="the try that succeeds")
    assert RETRIED.labels(QUEUE.name)._value.get() == before  # noqa: SLF001  # as above
    assert [await look.ready(queue) for queue in (QUEUE.name, QUEUE.retry, QUEUE.dead)] == [0, 0, 0]


async def test_the_correlation_id_of_the_message_is_that_of_the_handler(consumer: Consumer, publisher: Publisher) -> None:
    """Seen red without `correlated` in `_settle`."""
    heard: list[str] = []

    async def hear(_event: Removed) -> None:
        heard.append(correlation_id())

    subscribe(consumer, QUEUE, {ServiceRemovedV1: hear})
    await publisher.publish_many([outgoing(fact(number)) for number in range(3)])
    async with consuming(consumer):
        await until(counts(heard, 3), within_s=5, what="three events")
    assert sorted(heard) == ["cause-0", "cause-1", "cause-2"]


async def test_point_8_ten_graceful_restarts_with_full_prefetch_lose_nothing_and_bury_nothing(
    vhost: Vhost, publisher: Publisher, health: Health, look: Look
) -> None:
    """Each stop finds a full prefetch held, as when the database is away. Seen red with x-delivery-limit 3 on RabbitMQ 3.10."""
    held: list[str] = []
    done: list[str] = []

    async def hold(event: Removed) -> None:
        held.append(event.subject)
        raise ConnectionRefusedError

    async def hear(event: Removed) -> None:
        done.append(event.subject)

    await publisher.publish_many([outgoing(fact(number)) for number in range(2 * QUEUE.prefetch)])
    for _ in range(10):
        held.clear()
        consumer = open_consumer(vhost.amqp_url, name="test", publisher=publisher, health=health)
        subscribe(consumer, QUEUE, {ServiceRemovedV1: hold})
        async with consuming(consumer):
            await until(counts(held, QUEUE.prefetch), within_s=10, what="a full prefetch")
    last = open_consumer(vhost.amqp_url, name="test", publisher=publisher, health=health)
    subscribe(last, QUEUE, {ServiceRemovedV1: hear})
    async with consuming(last):
        await until(counts(done, 2 * QUEUE.prefetch), within_s=15, what="every message handled")
    assert [await look.ready(queue) for queue in (QUEUE.name, QUEUE.retry, QUEUE.dead)] == [0, 0, 0]


async def test_point_9_poison_among_good_ones_in_a_batch_goes_alone(consumer: Consumer, publisher: Publisher, look: Look) -> None:
    """Undecodable and refused ones among twenty good. Seen red with a refused batch not tried one by one: good ones were buried too."""
    done: Counter[str] = Counter()

    async def fold(events: list[Removed]) -> None:
        if any(event.subject == "svc-5" for event in events):
            msg = "does not compute"
            raise Bug(msg)
        done.update(event.subject for event in events)

    subscribe_batches(consumer, QUEUE, ServiceRemovedV1, fold, max_messages=16, max_wait_s=0.1)
    messages = [outgoing(fact(number)) for number in range(21)]
    for place in (0, 7, 14):
        messages.insert(place, garbage(place))
    await publisher.publish_many(messages)
    async with consuming(consumer):
        dead = await dead_of(look, number=4)

        async def all_done() -> bool:
            return len(done) == 20

        await until(all_done, within_s=10, what="the good ones")
    assert {message.message_id for message in dead} == {"garbage-0", "garbage-7", "garbage-14", str(fact(5).id)}
    assert set(done.values()) == {1}


async def test_point_9_acking_a_good_one_does_not_ack_the_poison_before_it(
    vhost: Vhost, proxy: Proxy, publisher: Publisher, health: Health, look: Look
) -> None:
    """The poison cannot be passed on, because the publisher is stalled; it must still be there for the next process.

    Seen red with `ack(multiple=True)`: the good ones behind it took it along.
    """
    heard: list[str] = []

    async def fold(events: list[Removed]) -> None:
        heard.extend(event.subject for event in events)

    async with AsyncExitStack() as stack:
        far = await stack.enter_async_context(open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=0.5))
        await far.connected.wait()
        proxy.stall()
        first = open_consumer(vhost.amqp_url, name="first", publisher=far, health=health)
        subscribe_batches(first, QUEUE, ServiceRemovedV1, fold, max_messages=16, max_wait_s=0.1)
        for message in [garbage(1), *(outgoing(fact(number)) for number in range(5))]:
            await publisher.publish(message)
        async with consuming(first):
            await until(counts(heard, 5), within_s=10, what="the good ones")
        assert await look.ready(QUEUE.dead) == 0
    second = open_consumer(vhost.amqp_url, name="second", publisher=publisher, health=health)
    subscribe_batches(second, QUEUE, ServiceRemovedV1, fold, max_messages=16, max_wait_s=0.1)
    async with consuming(second):
        [dead] = await dead_of(look, number=1)
    assert dead.message_id == "garbage-1"


async def test_point_10_a_consumer_starts_without_a_broker_says_so_and_consumes_when_it_comes(
    vhost: Vhost, proxy: Proxy, publisher: Publisher, health: Health
) -> None:
    """Seen red with one attempt only (`keep_trying` returning after an error): never ready."""
    heard: list[str] = []

    async def hear(event: Removed) -> None:
        heard.append(event.subject)

    proxy.refuse()
    consumer = open_consumer(proxy.url(vhost.amqp_url), name="test", publisher=publisher, health=health)
    subscribe(consumer, QUEUE, {ServiceRemovedV1: hear})
    await publisher.publish(outgoing(fact(1)))
    async with consuming(consumer):

        async def said() -> bool:
            return (await health.reasons()).get("consumer", "connecting") != "connecting"

        await until(said, within_s=10, what="the reason why it is not ready")
        assert heard == []
        proxy.accept()
        await until(counts(heard, 1), within_s=20, what="the event that waited")
        assert await health.reasons() == {"process": "starting"}


async def test_point_10_readiness_asks_the_broker_and_not_a_flag(vhost: Vhost, proxy: Proxy, publisher: Publisher, health: Health) -> None:
    """Seen red with broker.ping(): still "ready" on a link that swallows everything."""
    consumer = open_consumer(proxy.url(vhost.amqp_url), name="test", publisher=publisher, health=health)
    async with consuming(consumer):
        await consumer.consuming.wait()
        assert "consumer link" not in await health.reasons()
        proxy.stall()
        assert (await health.reasons())["consumer link"] == "no answer within 2 s"
        proxy.resume()


async def test_whether_the_broker_can_be_heard_is_asked_of_it_and_asking_breaks_nothing(
    vhost: Vhost, proxy: Proxy, publisher: Publisher, health: Health
) -> None:
    """Seen red with the consumer's own flag in place of the question."""
    heard: list[str] = []

    async def note(event: Removed) -> None:
        heard.append(event.subject)

    consumer = open_consumer(proxy.url(vhost.amqp_url), name="test", publisher=publisher, health=health)
    subscribe(consumer, QUEUE, {ServiceRemovedV1: note})
    assert not await hears(consumer), "not connected yet"

    async def again() -> bool:
        return await hears(consumer)

    async with consuming(consumer):
        await until(again, within_s=10, what="a broker that is heard")
        proxy.stall()
        assert [await hears(consumer) for _ in range(3)] == [False] * 3
        proxy.resume()
        await until(again, within_s=20, what="the broker after the stall")
        proxy.refuse()
        proxy.reset()
        assert not await hears(consumer)
        proxy.accept()
        await until(again, within_s=20, what="the broker after a broken link")
        await publisher.publish(outgoing(fact(1)))
        await until(counts(heard, 1), within_s=20, what="an event after all that")


async def test_a_link_that_is_reset_mid_work_delivers_again_and_goes_on(
    vhost: Vhost, proxy: Proxy, publisher: Publisher, health: Health, look: Look
) -> None:
    heard: list[str] = []
    go = asyncio.Event()

    async def hold(event: Removed) -> None:
        heard.append(event.subject)
        await go.wait()

    consumer = open_consumer(proxy.url(vhost.amqp_url), name="test", publisher=publisher, health=health)
    subscribe(consumer, QUEUE, {ServiceRemovedV1: hold})
    await publisher.publish_many([outgoing(fact(number)) for number in range(5)])
    async with consuming(consumer):
        await until(counts(heard, 5), within_s=10, what="five handlers at work")
        proxy.reset()
        go.set()

        async def each_twice() -> bool:
            return set(Counter(heard).values()) == {2}

        await until(each_twice, within_s=20, what="the redelivery of what could not be acked")

        async def settled() -> bool:
            return await look.ready(QUEUE.name) == 0

        await until(settled, within_s=10, what="an empty queue")
    assert [await look.ready(queue) for queue in (QUEUE.name, QUEUE.retry, QUEUE.dead)] == [0, 0, 0]
