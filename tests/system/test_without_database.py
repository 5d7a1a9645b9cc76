"""A checker that is started while its database is away goes on with what it knew, and with what the database says once it is back."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest

from services.checker import store
from services.checker.domain.definition import Definition
from shared.database import open_pool, transaction
from shared.health import Health
from tests.product import Product, Replica
from tests.proxy import running_proxy
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until

NAMES = tuple(f"service-{number}" for number in range(20))
SPOOLED_S = 3.0

pytestmark = [pytest.mark.system, pytest.mark.slow]

SQL_TWICE = "select service_id from watch_server_logs group by service_id, scheduled_at having count(*) > 1"


async def _define(database: Database, target: Target) -> None:
    wanted = [Definition(name, name, name, target.url(name), check_interval=1000, timeout=900) for name in NAMES]
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as pool, transaction(pool) as conn:
        await store.save(conn, wanted, revision_=await store.next_revision(conn))


async def _checked_since(target: Target, moment: float) -> None:
    async def all_of_them() -> bool:
        return all(target.answers[name] and target.answers[name][-1][0] > moment for name in NAMES)

    await until(all_of_them, within_s=15, what="every service is checked")


async def _reasons(checker: Replica) -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{checker.health_port}/health/ready")
    return dict(answer.json()["reasons"])


async def test_a_checker_that_starts_without_its_database_goes_on_checking(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    """Seen red with nothing remembered, and with a start that waits for the database first."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running_target())
        proxy = await stack.enter_async_context(running_proxy(database.admin_url))
        spoilt = Database(database.name, database.admin_url, {name: proxy.url(url) for name, url in database.urls.items()})
        product = Product(spoilt, vhost, {"SLA_LOG_FORMAT": "console", "SLA_HEALTH_HOST": "127.0.0.1"}, tmp_path)
        await _define(database, target)
        checker = product.add("checker")
        stack.callback(checker.kill)
        await checker.ready()
        await _checked_since(target, time.time())
        await asyncio.sleep(SPOOLED_S)  # what is remembered is written every two seconds: a kill before that is another test
        checker.kill()
        proxy.refuse()
        proxy.reset()
        checker.start()
        await _checked_since(target, time.time() + 2)
        assert "database" in await _reasons(checker), "it says what it lacks"
        assert await checker.stop() == 0
        checker.start()
        await _checked_since(target, time.time() + 2)
        proxy.accept()
        await checker.ready()
        await _checked_since(target, time.time() + 2)
        assert await checker.stop() == 0
        conn = await asyncpg.connect(database.url("checker"))
        try:
            assert await conn.fetchval("select count(*) from checkers") == 0, "it took its leave"
            assert await conn.fetch(SQL_TWICE) == []
        finally:
            await conn.close()
