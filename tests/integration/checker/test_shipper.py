"""Results on their way to a real broker that comes and goes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from services.checker.domain.target import Measurement, Target
from services.checker.probes.http import HttpOptions
from services.checker.results import MAX_BATCH_BYTES, to_batch
from services.checker.scheduler import Check
from services.checker.shipper import Shipper, shipping
from services.checker.spool import SQL_APPEND, SQL_TABLE, Spool
from shared import topology
from shared.clock import utc_now
from shared.contracts.checks import CheckBatchV1, CheckerIsolatedV1
from shared.contracts.codes import Outcome
from shared.contracts.registry import decode, make_event
from shared.health import Health
from shared.messaging import open_publisher
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.waiting import until

TARGET = Target("one", "http", "http://127.0.0.1/", 1000, 900, HttpOptions(), 0, 1)
BACKLOG = 6_000
FRESH = 1_200
HEALTHY = Measurement(Outcome.HEALTHY, response_time_ms=1.0, status_code=200)


@asynccontextmanager
async def shipper_on(url: str, path: Path, *, connect: bool = True) -> AsyncIterator[tuple[Shipper, Spool]]:
    health = Health("test")
    with Spool(path, max_bytes=1_000_000_000) as spool:
        async with open_publisher(url, name="test", health=health, timeout_s=2.0) as publisher:
            if connect:
                async with asyncio.timeout(20):
                    await publisher.connected.wait()
            async with shipping(spool, publisher, region="r", checker="c", clock=utc_now, health=health) as shipper:
                yield shipper, spool


def measure(shipper: Shipper, slots: range) -> None:
    for slot in slots:
        shipper.add(Check(TARGET, slot * 1000, utc_now(), HEALTHY))


async def received(vhost: Vhost, number: int) -> list[int]:
    """Take messages from the aggregator's queue until `number` distinct slots came; return the slots in order of arrival."""
    slots: list[int] = []
    connection = await aio_pika.connect(vhost.amqp_url)
    async with connection, asyncio.timeout(20):
        channel = await connection.channel()
        queue = await channel.get_queue(topology.AGGREGATOR_CHECKS.name, ensure=False)
        async with queue.iterator() as messages:
            async for message in messages:
                event = decode(CheckBatchV1.TYPE, message.body)
                assert str(event.id) == message.message_id
                slots += [int(one.scheduled_at.timestamp()) for one in event.data.results]
                await message.ack()
                if len(set(slots)) >= number:
                    return slots
    return slots


async def empty(spool: Spool) -> None:
    async def is_empty() -> bool:
        return spool.size_bytes == 0

    await until(is_empty, within_s=20, what="an empty spool")


async def test_results_arrive_and_leave_the_spool_when_confirmed(vhost: Vhost, tmp_path: Path) -> None:
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, spool):
        measure(shipper, range(450))
        assert sorted(await received(vhost, 450)) == list(range(450))
        await empty(spool)


async def test_a_strange_result_is_told_with_the_others(vhost: Vhost, tmp_path: Path) -> None:
    """Seen red without the second try in to_batch: the flush raised, and nothing of it arrived."""
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, spool):
        measure(shipper, range(20))
        shipper.add(Check(TARGET, 20_000, utc_now(), replace(HEALTHY, details={"raw": b"\xff"})))
        measure(shipper, range(21, 40))
        assert sorted(await received(vhost, 40)) == list(range(40))
        await empty(spool)


async def test_no_batch_is_larger_than_a_broker_takes(tmp_path: Path) -> None:
    """17 MB in one flush. Seen red with a flush that counts results only."""
    large = replace(HEALTHY, details={"answers": ["x" * 170_000]})
    async with shipper_on("amqp://guest:guest@127.0.0.1:1/nowhere", tmp_path / "spool", connect=False) as (shipper, spool):
        for slot in range(100):
            shipper.add(Check(TARGET, slot * 1000, utc_now(), large))
        await shipper.flush()
        batches = spool.oldest(100)
    assert sum(batch.results for batch in batches) == 100
    assert max(len(batch.body) for batch in batches) <= MAX_BATCH_BYTES


@pytest.mark.slow
async def test_what_was_measured_while_the_broker_was_away_arrives_afterwards(vhost: Vhost, tmp_path: Path) -> None:
    """Seen red with `_publish` forgetting a batch that was not confirmed."""
    async with running_proxy(vhost.amqp_url) as proxy, shipper_on(proxy.url(vhost.amqp_url), tmp_path / "spool") as (shipper, spool):
        measure(shipper, range(100))
        await empty(spool)
        proxy.refuse()
        proxy.reset()
        for start in range(100, 1100, 100):
            measure(shipper, range(start, start + 100))
            await shipper.flush()

        async def spooled() -> bool:
            return spool.size_bytes > 10 * 100 * 100 and not shipper._broker_answers  # noqa: SLF001  # a publish was given up

        await until(spooled, within_s=10, what="results in the spool")
        proxy.accept()
        slots = await received(vhost, 1100)
        assert set(slots) == set(range(1100))
        await empty(spool)


async def test_the_next_process_sends_what_the_last_one_could_not(vhost: Vhost, tmp_path: Path) -> None:
    """Seen red without the first `_backlog.set()`, and with a flush that its loop's end cuts short."""
    async with shipper_on("amqp://guest:guest@127.0.0.1:1/nowhere", tmp_path / "spool", connect=False) as (shipper, spool):
        measure(shipper, range(300))
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, spool):
        assert set(await received(vhost, 300)) == set(range(300))
        await empty(spool)


async def test_fresh_results_do_not_wait_for_the_backlog(vhost: Vhost, tmp_path: Path) -> None:
    """Seen red with fresh batches left to the backlog's loop."""
    async with shipper_on("amqp://guest:guest@127.0.0.1:1/nowhere", tmp_path / "spool", connect=False) as (shipper, _spool):
        for start in range(300):
            measure(shipper, range(start, start + 1))
            await shipper.flush()
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, _spool):
        measure(shipper, range(10_000, 10_001))
        await shipper.flush()
        slots = await received(vhost, 301)
    assert slots.index(10_000) < 150


@pytest.mark.slow
async def test_a_great_backlog_delays_nothing_fresh_by_two_seconds(vhost: Vhost, tmp_path: Path) -> None:
    """Ten minutes of 200 checks a second lie in the spool when the broker comes back; meanwhile 200 a second go on.

    From the return on, every fresh result is in the aggregator's queue within two seconds, those of the last second before included.
    Seen red with the backlog read from its old end only.
    """
    await fill(tmp_path / "spool")
    await queue_is_there(vhost)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(running_proxy(vhost.amqp_url))
        proxy.refuse()
        shipper, spool = await stack.enter_async_context(shipper_on(proxy.url(vhost.amqp_url), tmp_path / "spool", connect=False))
        arriving = asyncio.create_task(arrivals(vhost))
        measured: dict[int, float] = {}
        for tenth in range(60):
            if tenth == 10:
                assert spool.size_bytes > 40_000_000
                proxy.accept()
            for place in range(20):
                measured[tenth * 20 + place] = time.monotonic()
                shipper.add(Check(TARGET, (tenth * 20 + place) * 1000, utc_now(), HEALTHY))
            await asyncio.sleep(0.1)  # the load's own pace
        back, arrived = await asyncio.wait_for(arriving, 60)
        await empty(spool)
    slowest = max(at - max(measured[slot], back) for slot, at in arrived.items())
    print(f"slowest fresh result {slowest:.2f} s after the return")  # noqa: T201  # a figure worth seeing
    assert set(arrived) == set(range(FRESH))
    assert slowest < 2


async def fill(path: Path) -> None:
    """Make a spool as a long outage leaves it; the ids of its batches are small numbers."""
    body = to_batch([Check(TARGET, 0, utc_now(), HEALTHY)] * 20, batch_id=UUID(int=0), region="r", checker="c", at=utc_now()).body
    with Spool(path, max_bytes=1_000_000_000) as spool:
        rows = [(str(UUID(int=number)), 20, body, topology.CHECKS, CheckBatchV1.TYPE) for number in range(BACKLOG)]
        spool._file.execute("begin")  # noqa: SLF001  # thousands of commits would only take time
        spool._file.executemany(SQL_APPEND, rows)  # noqa: SLF001  # as above
        spool._file.execute("commit")  # noqa: SLF001  # as above


async def queue_is_there(vhost: Vhost) -> None:
    """Declare what the services would, on a link that is not spoilt."""
    async with open_publisher(vhost.amqp_url, name="other", health=Health("test")) as publisher, asyncio.timeout(20):
        await publisher.connected.wait()


async def arrivals(vhost: Vhost) -> tuple[float, dict[int, float]]:
    """Take messages until the whole backlog came; return when the first came, and when each fresh slot did."""
    first, backlog, fresh, done = [0.0], set[int](), dict[int, float](), asyncio.Event()

    async def take(message: AbstractIncomingMessage) -> None:
        now = time.monotonic()
        first[0] = first[0] or now
        number = UUID(message.message_id).int
        if number < BACKLOG:
            backlog.add(number)
        else:
            event = decode(CheckBatchV1.TYPE, message.body)
            fresh.update({int(one.scheduled_at.timestamp()): now for one in event.data.results})
        if len(backlog) == BACKLOG and len(fresh) == FRESH:
            done.set()

    async with await aio_pika.connect(vhost.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.AGGREGATOR_CHECKS.name, ensure=False)
        await queue.consume(take, no_ack=True)
        await done.wait()
    return first[0], fresh


async def test_events_go_the_same_way_and_survive_the_brokers_absence(vhost: Vhost, tmp_path: Path) -> None:
    """Seen red with every batch published as a batch of results."""
    said = CheckerIsolatedV1(checker="c", region="r", since=utc_now(), canaries=("tcp://127.0.0.1:1",))
    event = make_event(said, source="/checker", subject="c", version=1, at=utc_now(), correlation_id="c/1")
    async with shipper_on("amqp://guest:guest@127.0.0.1:1/nowhere", tmp_path / "spool", connect=False) as (shipper, _spool):
        shipper.say(event)
    await queue_is_there(vhost)
    async with await aio_pika.connect(vhost.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(topology.EVENTS, routing_key="checker.#")
        async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (_shipper, spool):
            await empty(spool)
        message = await queue.get(timeout=10)
        assert message is not None
        assert decode(CheckerIsolatedV1.TYPE, message.body).id == event.id
        assert (message.routing_key, message.message_id) == (CheckerIsolatedV1.TYPE, str(event.id))


async def test_a_disk_that_refuses_keeps_nothing_from_the_broker(vhost: Vhost, tmp_path: Path) -> None:
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, spool):
        spool._file.execute("drop table batch")  # noqa: SLF001  # stands for a disk that fails
        measure(shipper, range(100))
        assert set(await received(vhost, 100)) == set(range(100))
        spool._file.execute(SQL_TABLE)  # noqa: SLF001  # as above
        spool._add_columns()  # noqa: SLF001  # as above
