"""From the end of the check that confirms an outage to its event on the public stream, at 1,000 results a second.

`python -m tests.bench.detecting` runs one aggregator on real servers, sends it results as checkers do (collected for a tenth of a second,
then published) and has some services fail twice in a row, another few each second. Printed are percentiles over all outages seen.
"""

import argparse
import asyncio
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import aio_pika
import asyncpg
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from shared import topology
from shared.contracts.checks import CheckBatchV1, CheckResult, check_id
from shared.contracts.codes import ErrorType, Outcome, Status
from shared.contracts.envelope import Event
from shared.contracts.registry import decode, encode
from shared.contracts.status import ServiceStatusChangedV1
from shared.health import Health
from shared.messaging import Outgoing, Publisher, open_publisher
from tests import servers
from tests.bench.folding import SQL_SERVICES
from tests.product import Replica
from tests.waiting import until

SERVICES = 1_000
REGION = "bench"
COLLECTED_S = 0.1
OUTAGES_PER_S = 20
CALM_S = 3
"""All are up first: an outage is told from that."""
GOAL_MS = 250.0


@dataclass(slots=True)
class Story:
    """When the confirming check of each outage ended, and how long its event took, in seconds."""

    confirmed: dict[str, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)


def turns(seconds: int) -> dict[str, int]:
    """Return the second in which each failing service fails first."""
    chosen = iter(random.Random(7).sample(range(SERVICES), (seconds - CALM_S - 2) * OUTAGES_PER_S))
    return {f"bench-{next(chosen)}": second for second in range(CALM_S, seconds - 2) for _ in range(OUTAGES_PER_S)}


def due(tick: int) -> Iterator[str]:
    """Give the services whose checks end in a tenth of a second."""
    return (f"bench-{number}" for number in range(tick % 10, SERVICES, 10))


async def send(publisher: Publisher, story: Story, seconds: int) -> None:
    """Send every service's result once a second, in batches of a tenth of a second."""
    failing, began = turns(seconds), time.time()
    for tick in range(seconds * 10):
        await asyncio.sleep(max(0.0, began + (tick + 1) * COLLECTED_S - time.time()))  # the load's own pace
        now, results = time.time(), []
        for service_id in due(tick):
            ended = now - random.random() * COLLECTED_S
            second = tick // 10
            failed = service_id in failing and second >= failing[service_id]
            if failed and second == failing[service_id] + 1:
                story.confirmed[service_id] = ended
            results.append(result(service_id, datetime.fromtimestamp(ended, UTC), failed=failed))
        batch_id = uuid4()
        data = CheckBatchV1(checker="bench:1", results=tuple(results))
        event = Event[CheckBatchV1](
            id=batch_id, source="/checker", type=data.TYPE, subject=REGION, time=datetime.now(UTC), correlationid=batch_id.hex, data=data
        )
        await publisher.publish(Outgoing(topology.CHECKS, data.TYPE, encode(event), str(batch_id), batch_id.hex))


def result(service_id: str, at: datetime, *, failed: bool) -> CheckResult:
    """Return one result of a slot that is its own moment."""
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    return CheckResult(
        id=check_id(service_id, REGION, at),
        service_id=service_id,
        region=REGION,
        scheduled_at=at,
        checked_at=at,
        outcome=Outcome.FAILED if failed else Outcome.HEALTHY,
        response_time_ms=None if failed else 20.0,
        status_code=503 if failed else 200,
        error_type=ErrorType.HTTP_ERROR if failed else None,
        error_message="answered 503, expected 2xx" if failed else None,
        endpoint="https://api.example.com/health",
        method="GET",
    )


async def listen(url: str, story: Story, ready: asyncio.Event) -> None:
    """Follow the public stream and note when outages are told."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1000)
        queue = await channel.declare_queue(topology.STATUS_STREAM, durable=True, passive=True)

        async def on_message(message: AbstractIncomingMessage) -> None:
            arrived = time.time()
            await message.ack()
            if message.type != ServiceStatusChangedV1.TYPE:
                return
            status = decode(ServiceStatusChangedV1.TYPE, message.body).data.status
            if status.status is Status.MAJOR_OUTAGE:
                story.took.append(arrived - story.confirmed[status.service_id])

        await queue.consume(on_message, arguments={"x-stream-offset": "next"})
        ready.set()
        await asyncio.Event().wait()


async def measure(database: servers.Database, vhost: servers.Vhost, seconds: int) -> list[float]:
    """Run one aggregator and return what each outage took, in milliseconds, ascending."""
    conn = await asyncpg.connect(database.url("aggregator"))
    await conn.execute(SQL_SERVICES, datetime.now(UTC) - timedelta(days=9), SERVICES)
    await conn.execute("update service set failure_threshold = 2, recovery_threshold = 2")
    await conn.close()
    story = Story()
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "SLA_DATABASE_URL": database.url("aggregator"),
            "SLA_BROKER_URL": vhost.amqp_url,
            "SLA_HEALTH_HOST": "127.0.0.1",
        }
        replica = Replica("aggregator", env, Path(folder) / "aggregator.log")
        replica.start()
        try:
            await replica.ready()
            ready = asyncio.Event()
            listener = asyncio.create_task(listen(vhost.amqp_url, story, ready))
            await asyncio.wait_for(ready.wait(), 10)
            async with open_publisher(vhost.amqp_url, name="bench", health=Health("bench")) as publisher:
                await publisher.connected.wait()
                await send(publisher, story, seconds)

                async def all_told() -> bool:
                    return len(story.took) >= len(story.confirmed)

                await until(all_told, within_s=10, what="every outage is told")
            listener.cancel()
        finally:
            replica.kill()
    return sorted(one * 1000 for one in story.took)


def main() -> int:
    """Measure, print, and say whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    chosen = parser.parse_args()
    run = servers.Run(servers.run_folder(f"bench-{secrets.token_hex(4)}"))
    try:
        server = run.server("postgresql")
        servers.make_template(run, server)
        with servers.fresh_database(run, server, servers.TEMPLATE) as database, servers.fresh_vhost(run.server("rabbitmq")) as vhost:
            took = uvloop.run(measure(database, vhost, chosen.seconds))
    finally:
        run.leave()
    share = statistics.quantiles(took, n=100, method="inclusive")
    met = share[98] <= GOAL_MS
    print(f"From the end of the confirming check to the event on the stream, {SERVICES} results/s, {len(took)} outages:")
    print(f"p50 {share[49]:.0f} ms, p95 {share[94]:.0f} ms, p99 {share[98]:.0f} ms, at most {took[-1]:.0f} ms")
    print(f"goal: p99 at most {GOAL_MS:g} ms: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
