"""What only a broker of the test's own can show the relay: its restart, and its memory alarm."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ops import servers
from infra.ops.servers import Server
from shared import outbox, topology
from shared.database import Pool, transaction
from shared.doubt import NoAnswer, asking
from shared.health import Health
from shared.messaging import NotConfirmed, open_publisher
from shared.outbox import Relay
from tests.integration.shared.facts import fact, looking
from tests.integration.shared.test_memory_alarm import set_memory_limit
from tests.waiting import until

LEDGER = "test.ledger"
WITNESS = "incidents.outbox"

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    """A broker of the test's own, which may be stopped."""
    if os.environ.get("SLA_TEST_SERVERS", "local") == "docker":
        pytest.skip("restarts the installed server, and limits its memory with its own rabbitmqctl")
    try:
        yield servers.start_all(tmp_path, ["rabbitmq"], durable=True)["rabbitmq"]
    finally:
        servers.stop_all(tmp_path, ["rabbitmq"], graceful=False)


@pytest.mark.parametrize("graceful", [True, False])
async def test_after_a_restart_the_witness_is_gone(broker: Server, tmp_path: Path, *, graceful: bool) -> None:
    """However the broker ended. Seen red with a persistent witness: a stream that knows more than the queues would be believed."""
    async with asking(broker.url("%2F"), witness=WITNESS) as asked:
        assert not await asked.runs_on()
        await asked.sign()
        assert await asked.runs_on()
    await asyncio.to_thread(servers.stop_all, tmp_path, ["rabbitmq"], graceful=graceful)
    again = (await asyncio.to_thread(servers.start_all, tmp_path, ["rabbitmq"], durable=True))["rabbitmq"]

    async def answered() -> bool:
        try:
            async with asking(again.url("%2F"), witness=WITNESS) as asked:
                assert not await asked.runs_on()
        except NoAnswer:
            return False
        return True

    await until(answered, within_s=30, what="the queue is there again")


async def test_what_an_alarm_held_up_in_a_socket_leaves_once(broker: Server, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a relay that sends again what was not confirmed: both left when the alarm was over."""
    monkeypatch.setattr(outbox, "SETTLE_S", 0.5)
    async with (
        open_publisher(broker.url("%2F"), name="test", health=Health("test"), timeout_s=1) as publisher,
        looking(broker.url("%2F")) as look,
    ):
        await publisher.connected.wait()
        await look.keep(LEDGER, topology.EVENTS)
        relay = Relay(pool, publisher)
        for number in range(2):
            async with transaction(pool) as conn:
                await outbox.append(conn, fact(number))
            if number == 1:
                await asyncio.to_thread(set_memory_limit, broker, "1MB")
                with pytest.raises(NotConfirmed):
                    await relay.drain()
                monkeypatch.setattr("shared.doubt.PROGRESS_S", 1.0)
                with pytest.raises(ConnectionError):
                    await relay.drain()
                await asyncio.to_thread(set_memory_limit, broker, "1GB")

            async def drained() -> bool:
                try:
                    await relay.drain()
                except ConnectionError:
                    return False
                return int(await pool.fetchval("select count(*) from outbox")) == 0

            await until(drained, within_s=20, what="an empty outbox")
        assert await look.ready(LEDGER) == 2
