"""SIGKILL each service once while 200 services are checked every second; afterwards every ledger agrees."""

import asyncio
import json
import os
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import aio_pika
import asyncpg
import httpx
import pytest

from shared import topology
from tests.product import SERVICES, Product, register, running_product
from tests.servers import Database, Vhost
from tests.target import running_target
from tests.waiting import until

CHECKED = 200
LOAD_S = float(os.environ.get("SLA_TEST_LOAD_S", "60"))
DOWN_S = 2.0
LEDGER = "test.ledger"
EVENTS_LEDGER = "test.ledger.events"

pytestmark = pytest.mark.faults

SQL_STORED = "select service_id, count(*) as n, count(distinct id) as ids from api_response_times group by service_id"
SQL_UPTIME = "select service_id, sum(total_checks)::int as n from uptime_records group by service_id"
SQL_CALLS = "select service_id, sum(total_calls)::int as n from api_call_logs group by service_id"
SQL_WATCHED = "select service_id, count(*) as n from watch_server_logs group by service_id"
SQL_STORED_IDS = "select id from api_response_times"


async def test_every_ledger_agrees_after_each_service_was_killed_under_load(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    """Stored = counted = accepted by the broker, per service; no slot twice; no event twice; no dead letter.

    Seen red with a consumer that acks before its handler has committed: what the killed aggregator had in hand was gone.
    Few events are under way when these processes are killed, so one that is sent twice would hardly be met here: that is seen red in
    test_two_aggregators.py and in tests/integration/shared/test_outbox_inbox.py.
    """
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running_target())
        product = await stack.enter_async_context(running_product(database, vhost, redis_url, tmp_path))
        ledger = await stack.enter_async_context(await aio_pika.connect(vhost.amqp_url))
        queue = await _bind_ledger(ledger, LEDGER, topology.CHECKS)
        events = await _bind_ledger(ledger, EVENTS_LEDGER, topology.EVENTS)
        async with product.signed_in() as client:
            gate = asyncio.Semaphore(10)
            await asyncio.gather(*(_register(gate, client, f"load-{number}", target.url(f"load-{number}")) for number in range(CHECKED)))
        for service in SERVICES:
            await asyncio.sleep(LOAD_S / (len(SERVICES) + 1))  # the load's length is the test's premise
            product.of(service).kill()
            await asyncio.sleep(DOWN_S)  # so is how long it stays down
            product.of(service).start()
        await asyncio.sleep(LOAD_S / (len(SERVICES) + 1))  # as above
        await asyncio.gather(*(replica.ready() for replica in product.replicas))
        await _deactivated(product)
        await until(lambda: _drained(product), within_s=60, what="every queue and outbox is empty")
        accepted, repeats = await _read_ledger(queue)
        await _compare(product, accepted)
        told = await _read_events(events)
        assert len(told) >= 2 * CHECKED, "registered and updated"
        assert not [event_id for event_id, times in told.items() if times > 1], "events were sent again"
        print(f"accepted {sum(len(ids) for ids in accepted.values())} results of {len(accepted)} services, {repeats} delivered again")


async def _register(gate: asyncio.Semaphore, client: httpx.AsyncClient, name: str, url: str) -> None:
    async with gate:
        await register(client, name, url, check_interval=1000, timeout=900)


async def _bind_ledger(connection: aio_pika.abc.AbstractConnection, name: str, exchange: str) -> aio_pika.abc.AbstractQueue:
    """Copy everything that the broker accepts on an exchange into a queue of the test's own."""
    channel = await connection.channel()
    queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange, routing_key="#")
    return queue


async def _deactivated(product: Product) -> None:
    """Stop all checks, through the API as an operator would."""
    async with product.signed_in() as client:
        gate = asyncio.Semaphore(10)

        async def off(number: int) -> None:
            async with gate:
                answer = await client.patch(f"/api/v1/services/load-{number}", json={"is_active": False})
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(off(number) for number in range(CHECKED)))
    await _wait_for_empty_spool(product)


async def _wait_for_empty_spool(product: Product) -> None:
    """Wait until the checker says that it has published everything."""
    port = product.of("checker").health_port

    async with httpx.AsyncClient() as client:

        async def empty() -> bool:
            try:
                metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            except httpx.TransportError:
                return False
            return any(line.startswith("sla_checker_spool_bytes ") and float(line.split()[1]) == 0 for line in metrics.splitlines())

        await until(empty, within_s=30, what="the spool is empty")


async def _drained(product: Product) -> bool:
    queues = {one["name"]: one.get("messages", 1) for one in product.vhost.api("GET", "/api/queues/{vhost}")}
    if any(queues[queue.name] or queues[queue.retry] for queue in topology.WORK_QUEUES):
        return False
    conn = await asyncpg.connect(product.database.admin_url)
    try:
        return not any([await conn.fetchval(f"select count(*) from {schema}.outbox") for schema in ("checker", "aggregator", "incidents")])
    finally:
        await conn.close()


async def _read_ledger(queue: aio_pika.abc.AbstractQueue) -> tuple[dict[str, set[str]], int]:
    accepted: dict[str, set[str]] = defaultdict(set)
    repeats = 0
    while (message := await queue.get(fail=False, no_ack=True, timeout=10)) is not None:
        for result in json.loads(message.body)["data"]["results"]:
            repeats += result["id"] in accepted[result["service_id"]]
            accepted[result["service_id"]].add(result["id"])
    return accepted, repeats


async def _read_events(queue: aio_pika.abc.AbstractQueue) -> Counter[str]:
    """Return how often each event was sent, by its id."""
    times: Counter[str] = Counter()
    while (message := await queue.get(fail=False, no_ack=True, timeout=10)) is not None:
        times[message.message_id or ""] += 1
    return times


async def _compare(product: Product, accepted: dict[str, set[str]]) -> None:
    dead = {one["name"]: one["messages"] for one in product.vhost.api("GET", "/api/queues/{vhost}") if one["name"].endswith(".dead")}
    assert set(dead.values()) == {0}, dead
    expected = {service: len(ids) for service, ids in accepted.items()}
    assert len(expected) == CHECKED
    conn = await asyncpg.connect(product.database.url("aggregator"))
    watcher = await asyncpg.connect(product.database.url("checker"))
    try:
        stored = {row["service_id"]: (row["n"], row["ids"]) for row in await conn.fetch(SQL_STORED)}
        assert stored == {service: (n, n) for service, n in expected.items()}
        assert {str(row["id"]) for row in await conn.fetch(SQL_STORED_IDS)} == set().union(*accepted.values())
        for sql in (SQL_UPTIME, SQL_CALLS):
            assert {row["service_id"]: row["n"] for row in await conn.fetch(sql)} == expected, sql
        assert {row["service_id"]: row["n"] for row in await watcher.fetch(SQL_WATCHED)} == expected
    finally:
        await conn.close()
        await watcher.close()
