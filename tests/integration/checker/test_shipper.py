"""Results on their way to a real broker that comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import pytest

from services.checker.domain.target import Measurement, Target
from services.checker.probes.http import HttpOptions
from services.checker.scheduler import Check
from services.checker.shipper import Shipper, shipping
from services.checker.spool import Spool
from shared import topology
from shared.clock import utc_now
from shared.contracts.checks import CheckBatchV1
from shared.contracts.codes import Outcome
from shared.contracts.registry import decode
from shared.health import Health
from shared.messaging import open_publisher
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.waiting import until

TARGET = Target("one", "http", "http://127.0.0.1/", 1000, 900, HttpOptions(), 0, 1)
HEALTHY = Measurement(Outcome.HEALTHY, response_time_ms=1.0, status_code=200)


@asynccontextmanager
async def shipper_on(url: str, path: Path, *, connect: bool = True) -> AsyncIterator[tuple[Shipper, Spool]]:
    health = Health("test")
    with Spool(path, max_bytes=10_000_000) as spool:
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


async def test_a_disk_that_refuses_keeps_nothing_from_the_broker(vhost: Vhost, tmp_path: Path) -> None:
    async with shipper_on(vhost.amqp_url, tmp_path / "spool") as (shipper, spool):
        spool._file.execute("drop table batch")  # noqa: SLF001  # stands for a disk that fails
        measure(shipper, range(100))
        assert set(await received(vhost, 100)) == set(range(100))
        spool._file.execute("create table batch (position integer primary key, batch_id text unique, results integer, body blob)")  # noqa: SLF001  # as above
