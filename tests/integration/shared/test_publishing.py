"""Publishing on a real broker: bounded, confirmed, persistent, mandatory, and honest about dead links."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared import messaging
from shared.consuming import consuming, open_consumer, subscribe
from shared.contracts.envelope import Event
from shared.contracts.services import ServiceRemovedV1
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher, Unroutable, open_publisher
from shared.topology import EVENTS, INCIDENTS_EVENTS
from tests.integration.shared.facts import Look, fact, outgoing
from tests.proxy import Proxy, running_proxy
from tests.servers import Vhost
from tests.waiting import until

TIMEOUT_S = 1.0


@pytest.fixture
async def proxy(vhost: Vhost) -> AsyncIterator[Proxy]:
    async with running_proxy(vhost.amqp_url) as running:
        yield running


@pytest.fixture
async def far(vhost: Vhost, proxy: Proxy, health: Health) -> AsyncIterator[Publisher]:
    """A publisher whose link goes through the proxy."""
    async with open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=TIMEOUT_S) as opened:
        await opened.connected.wait()
        yield opened
        proxy.resume()


async def test_point_1_publishing_over_a_stalled_link_is_bounded(far: Publisher, proxy: Proxy) -> None:
    """Seen red without asyncio.timeout in `publish`: hung until the test's own bound."""
    await far.publish(outgoing(fact(1)))
    proxy.stall()
    began = time.monotonic()
    async with asyncio.timeout(5):
        with pytest.raises(NotConfirmed, match="TimeoutError"):
            await far.publish(outgoing(fact(2)))
    assert time.monotonic() - began < TIMEOUT_S + 1


async def test_point_2_a_publish_that_timed_out_may_have_arrived_and_keeps_its_id(far: Publisher, proxy: Proxy, look: Look) -> None:
    """What the inbox needs to count the two as one. Seen red with a message id made anew in `_send`."""
    proxy.stall(answers_only=True)
    with pytest.raises(NotConfirmed):
        await far.publish(outgoing(fact(1)))
    await until(lambda: look.ready(INCIDENTS_EVENTS.name), within_s=5, what="the message whose confirm is held back")
    proxy.resume()
    await far.publish(outgoing(fact(1)))
    arrived = [await look.take(INCIDENTS_EVENTS.name), await look.take(INCIDENTS_EVENTS.name)]
    assert [message.message_id for message in arrived if message] == [str(fact(1).id)] * 2


async def test_point_3_a_link_that_dies_during_a_publish_is_an_error_and_no_cancel(
    vhost: Vhost, proxy: Proxy, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen red without the `except asyncio.CancelledError` in `publish`: the cancel of aio-pika ended the caller."""
    monkeypatch.setattr(messaging, "HEARTBEAT_S", 1)
    async with open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=30) as publisher:
        await publisher.connected.wait()
        proxy.stall()
        with pytest.raises(NotConfirmed, match="the link to the broker died"):
            await publisher.publish(outgoing(fact(1)))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        proxy.resume()


async def test_point_3_a_link_that_is_reset_is_an_error_and_the_next_publish_finds_a_new_one(
    far: Publisher, proxy: Proxy, look: Look
) -> None:
    proxy.stall(answers_only=True)
    waiting = asyncio.create_task(far.publish(outgoing(fact(1))))
    await until(lambda: look.ready(INCIDENTS_EVENTS.name), within_s=5, what="the message whose confirm is held back")
    proxy.reset()
    with pytest.raises(NotConfirmed):
        await waiting
    proxy.resume()

    async def published() -> bool:
        try:
            await far.publish(outgoing(fact(2)))
        except NotConfirmed:
            return False
        return True

    await until(published, within_s=15, what="a publish over a new link")


async def test_point_3_a_real_cancel_still_cancels(far: Publisher, proxy: Proxy, look: Look) -> None:
    """Seen red with `raise NotConfirmed` for every CancelledError: a drain could not end the task."""
    proxy.stall(answers_only=True)
    task = asyncio.create_task(far.publish(outgoing(fact(1))))
    await until(lambda: look.ready(INCIDENTS_EVENTS.name), within_s=2, what="the message whose confirm is held back")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_point_4_what_no_queue_takes_is_refused(publisher: Publisher) -> None:
    """Seen red without on_return_raises: the message was returned in silence, and the caller believed it sent."""
    nobody = Outgoing(EVENTS, "nobody.listens.v1", b"{}", "1", "")
    with pytest.raises(Unroutable, match=r"no queue takes 'nobody\.listens\.v1' on exchange 'sla\.events'"):
        await publisher.publish(nobody)


async def test_point_4_messages_are_persistent_and_carry_ids_and_type(publisher: Publisher, look: Look) -> None:
    """Seen red with delivery_mode left out: 1, gone with the broker."""
    await publisher.publish(outgoing(fact(7)))
    message = await look.take(INCIDENTS_EVENTS.name)
    assert message is not None
    assert message.delivery_mode == 2
    assert (message.message_id, message.correlation_id) == (str(fact(7).id), "cause-7")
    assert (message.type, message.content_type) == (ServiceRemovedV1.TYPE, "application/cloudevents+json")


async def test_what_was_not_confirmed_of_many_is_told_by_id(publisher: Publisher, look: Look) -> None:
    nobody = Outgoing(EVENTS, "nobody.listens.v1", b"{}", "lost", "")
    failed = await publisher.publish_many([outgoing(fact(1)), nobody, outgoing(fact(2))])
    assert list(failed) == ["lost"]
    assert await look.ready(INCIDENTS_EVENTS.name) == 2


async def test_point_5_a_blocked_publisher_does_not_stall_the_consumer(
    vhost: Vhost, far: Publisher, proxy: Proxy, publisher: Publisher, health: Health
) -> None:
    """Two connections per process. Seen red with the consumer on the publisher's broker: nothing was received any more."""
    heard: list[str] = []

    async def hear(event: Event[ServiceRemovedV1]) -> None:
        heard.append(event.subject)

    consumer = open_consumer(vhost.amqp_url, name="test", publisher=far, health=health)
    subscribe(consumer, INCIDENTS_EVENTS, {ServiceRemovedV1: hear})
    async with consuming(consumer):
        await consumer.consuming.wait()
        proxy.stall()
        with pytest.raises(NotConfirmed):
            await far.publish(outgoing(fact(1)))
        for number in range(2, 12):
            await publisher.publish(outgoing(fact(number)))

        async def all_heard() -> bool:
            return len(set(heard) - {"svc-1"}) == 10

        await until(all_heard, within_s=5, what="ten events while the publisher is blocked")


async def test_publishing_before_there_is_a_broker_is_refused_and_begins_when_it_comes(vhost: Vhost, proxy: Proxy, health: Health) -> None:
    """Point 10 for the publishing side."""
    proxy.refuse()
    async with open_publisher(proxy.url(vhost.amqp_url), name="early", health=health) as publisher:
        with pytest.raises(NotConfirmed, match="not connected"):
            await publisher.publish(outgoing(fact(1)))
        assert "publisher" in await health.reasons()
        proxy.accept()
        async with asyncio.timeout(15):
            await publisher.connected.wait()
        await publisher.publish(outgoing(fact(1)))
        assert await health.reasons() == {"process": "starting"}
