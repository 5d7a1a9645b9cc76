"""Between memory and spool no result is lost, whoever is faster."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.checker.domain.target import Measurement, Target
from services.checker.probes.http import HttpOptions
from services.checker.scheduler import Check
from services.checker.shipper import Shipper
from services.checker.spool import Batch, Spool
from shared.clock import utc_now
from shared.contracts.codes import Outcome
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher

TARGET = Target("one", "http", "http://127.0.0.1/", 1000, 900, HttpOptions(), 0, 1)


class Deaf(Publisher):
    """A broker that is away."""

    def __init__(self) -> None:
        """Need nothing."""

    async def publish(self, message: Outgoing) -> None:
        raise NotConfirmed(message.message_id)


class SlowSpool(Spool):
    """A disk that takes as long as the test wants."""

    gate = threading.Event()

    def append(self, batch: Batch) -> int:
        assert self.gate.wait(10)
        return super().append(batch)


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Shipper, SlowSpool]]:
    with SlowSpool(tmp_path / "spool", max_bytes=1_000_000) as spool:
        spool.gate = threading.Event()
        shipper = Shipper(spool, Deaf(), region="r", checker="c", clock=utc_now, health=Health("test"))
        yield shipper, spool
        spool.gate.set()
        await shipper.close()


async def test_a_batch_confirmed_while_it_is_written_takes_no_other_with_it(slow: tuple[Shipper, SlowSpool]) -> None:
    """Seen red with `popleft` after the write, whatever stands first by then."""
    shipper, spool = slow
    first, second = Batch("first", 1, b"1"), Batch("second", 1, b"2")
    shipper._unspooled.append(first)  # noqa: SLF001  # the disk refused it before
    keeping = asyncio.create_task(shipper._keep(second))  # noqa: SLF001  # one step of flush()
    await asyncio.sleep(0)
    await shipper._forget(first)  # noqa: SLF001  # the broker confirmed it meanwhile
    spool.gate.set()
    await keeping
    assert "second" in [one.batch_id for one in spool.oldest(5)]


async def test_a_slow_disk_at_the_end_loses_nothing(slow: tuple[Shipper, SlowSpool]) -> None:
    """Seen red with spooling under the bound of publishing."""
    shipper, spool = slow
    for slot in range(450):
        shipper.add(Check(TARGET, slot * 1000, utc_now(), Measurement(Outcome.HEALTHY, response_time_ms=1.0, status_code=200)))
    asyncio.get_running_loop().call_later(0.3, spool.gate.set)
    await shipper.drain(within_s=0.05)
    assert sum(one.results for one in spool.oldest(10)) == 450


async def test_a_full_spool_is_said_once_a_minute_and_in_the_health_until_there_is_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen red without the health part, and with a line for every batch."""
    health = Health("test")
    with Spool(tmp_path / "spool", max_bytes=100) as spool:
        shipper = Shipper(spool, Deaf(), region="r", checker="c", clock=utc_now, health=health)
        for number in range(30):
            await shipper._keep(Batch(f"batch-{number}", 10, bytes(30)))  # noqa: SLF001  # one step of flush()
        reasons = await health.reasons()
        assert reasons["spool room"] == "full: the oldest results are given up, 270 so far"
        assert capsys.readouterr().out.count("the oldest results are given up") == 1
        spool.delete(spool.oldest(10))
        await shipper._keep(Batch("last", 1, bytes(30)))  # noqa: SLF001  # as above
        assert "spool room" not in await health.reasons()
        await shipper.close()
