"""Three checkers of one region, one of them killed, two added: their services find new hands, and no slot is lost for long."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from services.checker import store
from services.checker.domain import schedule
from services.checker.domain.definition import Definition
from shared import topology
from shared.contracts.checks import CheckBatchV1
from shared.contracts.codes import Outcome
from shared.contracts.registry import decode
from shared.database import open_pool, transaction
from shared.health import Health
from tests.product import Product
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until

SERVICES = 3000
INTERVAL_MS = 10_000
REGION = "default"
LOAD_S = float(os.environ.get("SLA_TEST_LOAD_S", "45"))
COVERED_AGAIN_S = 10.0
MOST_DOUBLES = SERVICES * 1000 // INTERVAL_MS * 300 // 1000
"""0.1 % of the checks of five minutes: what one death may cost, however short the test is."""

SQL_SHARES = "select count(*) as shards from shard_leases where region = $1 and holder is not null group by holder order by holder"

pytestmark = [pytest.mark.system, pytest.mark.slow]


@dataclass(slots=True)
class Ledger:
    """Everything that the broker accepted from checkers."""

    times: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each slot came: a check's id is made of its service, its region and its slot."""
    healthy: dict[tuple[str, int], float] = field(default_factory=dict)
    """How late a slot's check began, in seconds."""
    others: list[tuple[str, int, str | None]] = field(default_factory=list)

    def enter(self, batch: CheckBatchV1) -> None:
        """Take down the slots of a batch."""
        for one in batch.results:
            slot_ms = round(one.scheduled_at.timestamp() * 1000)
            self.times[one.service_id, slot_ms] += 1
            if one.outcome is Outcome.HEALTHY:
                self.healthy.setdefault((one.service_id, slot_ms), (one.checked_at - one.scheduled_at).total_seconds())
            else:
                self.others.append((one.service_id, slot_ms, one.error_message))

    def doubles(self, begin: float, end: float) -> int:
        """How many slots between two moments came more than once."""
        return sum(times - 1 for (_, slot_ms), times in self.times.items() if begin * 1000 < slot_ms <= end * 1000)


@asynccontextmanager
async def kept(vhost: Vhost) -> AsyncIterator[Ledger]:
    """Copy what checkers publish into a queue of the test's own, and read it until this is left."""
    ledger = Ledger()
    async with await aio_pika.connect(vhost.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("test.elastic", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(topology.CHECKS, routing_key="#")

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            event = decode(message.type or "", message.body)
            if isinstance(event.data, CheckBatchV1):
                ledger.enter(event.data)

        await queue.consume(take, no_ack=True)
        yield ledger


async def _define(database: Database, target: Target) -> None:
    """Write the definitions in one transaction, as if they had been there for long: their slots are aligned."""
    wanted = [
        Definition(name, name, name, target.url(name), check_interval=INTERVAL_MS, timeout=5000)
        for name in (f"service-{number}" for number in range(SERVICES))
    ]
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as pool, transaction(pool) as conn:
        await store.save(conn, wanted, revision_=await store.next_revision(conn))
        await conn.execute("update services set created_at = now() - interval '1 day'")


async def _shared_by(database: Database, number: int) -> float:
    """Wait until so many checkers have fair shares; return when they had."""
    conn = await asyncpg.connect(database.url("checker"))

    async def fair() -> bool:
        shares = [row["shards"] for row in await conn.fetch(SQL_SHARES, REGION)]
        return len(shares) == number and sum(shares) == 256 and max(shares) - min(shares) <= 1

    try:
        await until(fair, within_s=30, what=f"fair shares of {number} checkers")
    finally:
        await conn.close()
    return time.time()


def _expected(begin_ms: int, end_ms: int) -> set[tuple[str, int]]:
    """Return every slot after a moment and up to another."""
    slots = set()
    for name in (f"service-{number}" for number in range(SERVICES)):
        phase = schedule.phase(name, REGION, INTERVAL_MS)
        first = schedule.next_slot(begin_ms, phase_ms=phase, interval_ms=INTERVAL_MS)
        slots |= {(name, slot) for slot in range(first, end_ms + 1, INTERVAL_MS)}
    return slots


async def test_a_death_and_two_joins_cost_no_slot_for_longer_than_ten_seconds(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    """`SLA_TEST_LOAD_S=300` runs the five minutes. Seen red with a taker that begins at the current slot, whatever was done before."""
    product = Product(database, vhost, {"SLA_LOG_FORMAT": "console", "SLA_HEALTH_HOST": "127.0.0.1"}, tmp_path)
    async with running_target() as target:
        try:
            await _define(database, target)
            checkers = [product.add("checker") for _ in range(3)]
            await asyncio.gather(*(one.ready() for one in checkers))
            async with kept(vhost) as ledger:
                begun = await _shared_by(database, 3) + 2 * INTERVAL_MS / 1000
                await asyncio.sleep(max(0.0, begun - time.time()) + LOAD_S / 4)  # the steady state before has this length
                killed = time.time()
                checkers[0].kill()
                product.add("checker")
                product.add("checker")
                fair = await _shared_by(database, 4)
                await asyncio.sleep(killed + LOAD_S * 3 / 4 - time.time())  # and so has what comes after
                end = time.time() - 2.0
                assert set(await asyncio.gather(*(one.stop() for one in product.replicas[1:]))) == {0}
                await _judge(ledger, begun, killed, fair, end)
        finally:
            for replica in product.replicas:
                replica.kill()


async def _judge(ledger: Ledger, begun: float, killed: float, fair: float, end: float) -> None:
    expected = _expected(int(begun * 1000), int(end * 1000))

    async def arrived() -> bool:
        return not {one for one in expected - ledger.healthy.keys() if one[1] > (killed + COVERED_AGAIN_S) * 1000}

    try:
        await until(arrived, within_s=10, what="every slot after the ten seconds")
    finally:
        missing = expected - ledger.healthy.keys()
        later = [one for one in missing if one[1] > (killed + COVERED_AGAIN_S) * 1000]
        steady, doubles = ledger.doubles(begun, killed - 2), ledger.doubles(begun, end)
        at_first = ledger.doubles(0, begun)
        others = [one for one in ledger.others if begun * 1000 < one[1] <= end * 1000]
        late = sorted(late for slot, late in ledger.healthy.items() if slot in expected and slot[1] > (killed + COVERED_AGAIN_S) * 1000)
        print(
            f"{len(expected)} slots in {end - begun:.0f} s; fair shares {fair - killed:.1f} s after the kill; "
            f"missing {len(missing)}, more than {COVERED_AGAIN_S:g} s after the kill {len(later)}; not healthy {len(others)}"
        )
        print(f"doubles {doubles} ({doubles / len(expected):.3%}), before the kill {steady}; while the first three started {at_first}")
        print(f"lateness after the ten seconds: p50 {late[len(late) // 2] * 1000:.0f} ms, p99 {late[len(late) * 99 // 100] * 1000:.0f} ms")
    assert fair - killed <= COVERED_AGAIN_S
    assert not [one for one in missing if one[1] < killed * 1000 - 1000], "a slot was missed before anybody was killed"
    assert doubles <= MOST_DOUBLES
    assert not [one for one in others if not killed * 1000 < one[1] <= (killed + COVERED_AGAIN_S) * 1000], "told as missed for no reason"
    assert steady == 0
