"""The aggregator's edge, on a real broker and database: batches in, events and answers out."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
import pytest

from services.aggregator.consumers import (
    Storing,
    Wiring,
    answer,
    subscribe_calls,
    subscribe_checks,
    subscribe_events,
    waiting,
    watch_silence,
)
from shared.clock import utc_now
from shared.consuming import consuming, open_consumer
from shared.contracts.checks import CallBatchV1, CheckBatchV1
from shared.contracts.codes import Status
from shared.contracts.commands import STATUS_OVERVIEW, UPTIME_READ, Nothing, UptimeQuery
from shared.contracts.envelope import Event
from shared.contracts.registry import encode, make_event
from shared.contracts.services import ServiceRegisteredV1
from shared.database import Pool
from shared.health import Health
from shared.messaging import Outgoing, Publisher, open_publisher
from shared.outbox import relaying
from shared.rpc import Refused, open_client
from shared.topology import AGGREGATOR_CALLS, AGGREGATOR_CHECKS, CHECKER_WATCH_LOG, CHECKS, EVENTS
from tests.integration.aggregator.story import batch, definition, results
from tests.integration.aggregator.test_quality import calls
from tests.servers import Vhost
from tests.waiting import until

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=20)


@asynccontextmanager
async def aggregator(pool: Pool, vhost: Vhost, *, receiving: bool = True) -> AsyncIterator[Wiring]:
    """Run the aggregator's edge inside this process; `receiving` False leaves its queues to fill."""
    health = Health("aggregator")
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_publisher(vhost.amqp_url, name="aggregator publisher", health=health))
        relay = await stack.enter_async_context(relaying(pool, publisher, health))
        consumer = open_consumer(vhost.amqp_url, name="aggregator consumer", publisher=publisher, health=health)
        wiring = Wiring(consumer, pool, relay, utc_now, Storing())
        if receiving:
            subscribe_checks(wiring, max_messages=20, max_wait_s=0.02)
            subscribe_calls(wiring)
            subscribe_events(wiring)
            answer(wiring)
        await stack.enter_async_context(consuming(consumer))
        await asyncio.wait_for(consumer.consuming.wait(), 20)
        await asyncio.wait_for(publisher.connected.wait(), 20)
        yield wiring


@pytest.fixture
async def heard(vhost: Vhost) -> AsyncIterator[list[dict[str, object]]]:
    """Hear what leaves on the exchange of events, as it comes."""
    found: list[dict[str, object]] = []
    connection = await aio_pika.connect(vhost.amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EVENTS, "topic", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            found.append(json.loads(message.body))

        await queue.consume(take, no_ack=True)
        yield found


async def send(publisher: Publisher, event: Event[CheckBatchV1] | Event[CallBatchV1]) -> None:
    await publisher.publish(Outgoing(CHECKS, event.type, encode(event), str(event.id), event.correlationid))


async def register(publisher: Publisher, one: ServiceRegisteredV1) -> None:
    event = make_event(one, source="/checker", subject=one.service.id, version=1, at=BEGAN, correlation_id="register")
    await publisher.publish(Outgoing(EVENTS, event.type, encode(event), str(event.id), event.correlationid))


def counted(pool: Pool, number: int) -> Callable[[], Awaitable[bool]]:
    """Return a condition: so many checks are in the daily records."""

    async def condition() -> bool:
        return bool(await pool.fetchval("select coalesce(sum(total_calls), 0) = $1 from api_call_logs", number))

    return condition


async def test_batches_become_events_and_answers(pool: Pool, vhost: Vhost, heard: list[dict[str, object]]) -> None:
    health = Health("test")
    async with aggregator(pool, vhost) as wiring, open_client(vhost.amqp_url, name="asker", health=health) as client:
        publisher = wiring.consumer.publisher
        await register(publisher, ServiceRegisteredV1(service=definition(created_at=BEGAN)))
        batches = [batch(results(sign, first=slot, start=BEGAN)) for slot, sign in enumerate("++--")]
        for one in [*batches, *batches[2:], batches[0]]:
            await send(publisher, one)

        async def outage() -> bool:
            return any(event["type"] == "service.status_changed.v1" and '"mo"' in json.dumps(event) for event in heard)

        await until(outage, within_s=10, what="the outage is said")
        await until(counted(pool, 4), within_s=10, what="four checks are counted")

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the asker is connected")
        overview = await client.call(STATUS_OVERVIEW, Nothing())
        uptime = await client.call(UPTIME_READ, UptimeQuery(service_id="id-recognition", days=2, until=BEGAN.date()))
        with pytest.raises(Refused, match="no service 'nobody'"):
            await client.call(UPTIME_READ, UptimeQuery(service_id="nobody", days=2, until=BEGAN.date()))

    assert [(one.service_id, one.status) for one in overview.statuses] == [("id-recognition", Status.MAJOR_OUTAGE)]
    assert (uptime.days[-1].total_checks, uptime.uptime_percentage) == (4, 50.0)
    assert len({str(event["id"]) for event in heard}) == len(heard)


async def test_two_replicas_share_the_queue_and_count_each_check_once(pool: Pool, vhost: Vhost) -> None:
    services = [f"service-{number}" for number in range(5)]
    batches = [batch(results("++-+", first=4 * slot, service_id=service, start=BEGAN)) for service in services for slot in range(20)]
    async with aggregator(pool, vhost) as one, aggregator(pool, vhost) as other:
        publishers = (one.consumer.publisher, other.consumer.publisher)
        await asyncio.gather(*(send(publisher, event) for event in batches for publisher in publishers))
        await until(counted(pool, 5 * 80), within_s=30, what="all checks are counted")

    assert await pool.fetchval("select count(*) from api_response_times") == 5 * 80
    assert await pool.fetchval("select sum(successful_calls) from api_call_logs") == 5 * 60


async def test_a_backlog_is_not_silence(pool: Pool, vhost: Vhost) -> None:
    """Seen red with the number of waiting messages taken for zero, and with one that aio-pika remembered from the start."""
    async with aggregator(pool, vhost) as wiring:
        await register(wiring.consumer.publisher, ServiceRegisteredV1(service=definition(created_at=BEGAN)))
        await send(wiring.consumer.publisher, batch(results("+", start=BEGAN)))
        await until(counted(pool, 1), within_s=10, what="the check is counted")
    later = BEGAN + timedelta(hours=1)

    async with aggregator(pool, vhost, receiving=False) as wiring:
        idle = Wiring(wiring.consumer, pool, wiring.relay, lambda: later, Storing())
        await send(wiring.consumer.publisher, batch(results("+", first=1, start=BEGAN)))

        async def arrived() -> bool:
            return await waiting(wiring.consumer) == 1

        await until(arrived, within_s=10, what="one message waits")
        assert (await watch_silence(idle), idle.storing.look(now=later, waiting=1)) == (0, None)

        vhost.api("DELETE", f"/api/queues/{{vhost}}/{AGGREGATOR_CHECKS.name}/contents")
        # listening since before the silence, and nothing waits now
        moments = iter([later + timedelta(seconds=second / 2) for second in range(60)])
        listening = Wiring(wiring.consumer, pool, wiring.relay, lambda: next(moments), idle.storing)
        silent = [await watch_silence(listening) for _ in range(12)]

    assert (sum(silent), silent[:6]) == (1, [0] * 6), "said once, and not before this process had listened for long enough"
    assert await pool.fetchval("select status from status_interval where ended_at is null") == "nd"


async def test_reported_calls_reach_the_aggregator_and_nobody_else(pool: Pool, vhost: Vhost) -> None:
    async with aggregator(pool, vhost) as wiring:
        one = calls(3)
        for _ in range(2):
            await send(wiring.consumer.publisher, one)
        await send(wiring.consumer.publisher, batch(results("+", start=BEGAN)))

        async def kept() -> bool:
            return bool(await pool.fetchval("select count(*) = 3 from api_response_times where source = 'reported'"))

        await until(kept, within_s=10, what="three calls are kept")
        await until(counted(pool, 1), within_s=10, what="the check is counted")
        channel = await (await wiring.consumer.broker.connect()).channel()
        waiting_ = {
            name: (await channel.declare_queue(name, passive=True)).declaration_result.message_count
            for name in (CHECKER_WATCH_LOG.name, AGGREGATOR_CALLS.name)
        }

    assert waiting_ == {CHECKER_WATCH_LOG.name: 1, AGGREGATOR_CALLS.name: 0}, "the checker's log has the check, not the calls"


async def test_what_waits_is_unknown_without_the_broker(vhost: Vhost) -> None:
    health = Health("test")
    async with open_publisher(vhost.amqp_url, name=uuid4().hex, health=health) as publisher:
        consumer = open_consumer("amqp://guest:guest@127.0.0.1:1/nowhere", name="nowhere", publisher=publisher, health=health)
        async with asyncio.timeout(10):
            assert await waiting(consumer) is None
