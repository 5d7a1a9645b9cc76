"""10,000 definitions: how long a checker takes to load, compare and apply them, and what memory it needs then."""

import time
from pathlib import Path

import httpx
import pytest

from services.checker import store
from services.checker.domain.definition import Definition
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from tests.product import Product, Replica
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until

SERVICES = 10_000
INTERVAL_MS = 60_000
MOST_S = 10.0
MOST_MIB = 300.0

pytestmark = [pytest.mark.system, pytest.mark.slow]


def _wanted(number: int, target: Target) -> Definition:
    """A definition like many: every tenth has options and assertions of its own."""
    name = f"service-{number}"
    own = number % 10 == 0
    return Definition(
        name,
        name,
        name,
        target.url(name),
        check_interval=INTERVAL_MS,
        options={"method": "GET", "expected_codes": [200, f"{2 + number % 3}xx"]} if own else {},
        assertions=({"source": "code", "comparison": "equals", "target": 200},) if own else (),
    )


async def _save(pool: Pool, wanted: list[Definition]) -> None:
    async with transaction(pool) as conn:
        await store.save(conn, wanted, revision_=await store.next_revision(conn))
        await conn.execute("update services set created_at = now() - interval '1 day'")


async def _metric(checker: Replica, name: str) -> float:
    async with httpx.AsyncClient() as client:
        lines = (await client.get(f"http://127.0.0.1:{checker.health_port}/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def _resident_mib(checker: Replica, which: str) -> float:
    assert checker.process is not None
    status = Path(f"/proc/{checker.process.pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(which)) / 1024


async def test_ten_thousand_definitions_are_taken_over_in_time_and_in_little_memory(
    database: Database, vhost: Vhost, tmp_path: Path
) -> None:
    """Measured while they are checked, too. Seen red with pages of one."""
    product = Product(database, vhost, {"SLA_LOG_FORMAT": "console", "SLA_HEALTH_HOST": "127.0.0.1"}, tmp_path)
    async with running_target() as target, open_pool(database.url("checker"), name="test", health=Health("test")) as pool:
        checker = product.add("checker")
        try:
            await checker.ready()
            bare = _resident_mib(checker, "VmRSS")
            begun = time.monotonic()
            await _save(pool, [_wanted(number, target) for number in range(SERVICES)])
            saved = time.monotonic()

            async def all_known() -> bool:
                return await _metric(checker, "sla_checker_services") == SERVICES

            async def all_checked() -> bool:
                return await _metric(checker, 'sla_checker_checks_started_total{kind="http"}') >= SERVICES

            await until(all_known, within_s=60, what="all are checked")
            took = time.monotonic() - saved
            await until(all_checked, within_s=60, what="each was checked once")
            first = _resident_mib(checker, "VmHWM")
            assert await checker.stop() == 0

            checker.start()
            started = time.monotonic()
            await checker.ready()
            await until(all_known, within_s=60, what="all are checked again")
            again = time.monotonic() - started
            await until(all_checked, within_s=60, what="each was checked once again")
            most = max(first, _resident_mib(checker, "VmHWM"))
            print(
                f"{SERVICES} definitions: written in {saved - begun:.1f} s, taken over {took:.1f} s later; a restart {again:.1f} s in all; "
                f"resident {bare:.0f} MiB bare, {most:.0f} MiB at most with all of them checked"
            )
            assert max(took, again) < MOST_S
            assert most < MOST_MIB
            assert await checker.stop() == 0
        finally:
            checker.kill()
