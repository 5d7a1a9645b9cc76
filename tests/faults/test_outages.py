"""The checker's database, then everybody's broker, goes away under load: slots go on, nothing is lost, each result counts once."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.product import Product, register, running_product
from tests.proxy import running_proxy
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until

CHECKED = 20
AWAY_S = 8.0

SQL_STORED = "select service_id, count(*) as n from api_response_times group by service_id"
SQL_COUNTED = "select service_id, sum(total_checks)::int as n from uptime_records group by service_id"

pytestmark = pytest.mark.faults


async def _checked_while_away(target: Target) -> None:
    """Every service is checked about once a second for as long as something is away: that length is the test's premise."""
    before = {name: len(answers) for name, answers in target.answers.items()}
    await asyncio.sleep(AWAY_S)  # how long it is away
    for name, answers in target.answers.items():
        assert len(answers) - before[name] >= AWAY_S - 2, name


async def _stored_is_all_that_was_asked(product: Product, target: Target) -> None:
    """Compare, per service, what the target was asked with what was stored and counted, once both stand still."""

    async def equal() -> bool:
        conn = await asyncpg.connect(product.database.url("aggregator"))
        try:
            stored = {row["service_id"]: row["n"] for row in await conn.fetch(SQL_STORED)}
            counted = {row["service_id"]: row["n"] for row in await conn.fetch(SQL_COUNTED)}
        finally:
            await conn.close()
        return stored == counted == {name: len(answers) for name, answers in target.answers.items()}

    await until(equal, within_s=40, what="asked = stored = counted")


@pytest.mark.parametrize("away", ["database", "broker"])
async def test_checks_go_on_and_all_results_arrive_when_a_dependency_was_away(
    away: str, database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    """Links are reset and refused for eight seconds. Seen red with a checker that forgets what it could not publish."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running_target())
        url = database.admin_url if away == "database" else vhost.amqp_url
        proxy = await stack.enter_async_context(running_proxy(url))
        spoilt = {
            "database": Database(database.name, database.admin_url, {name: proxy.url(one) for name, one in database.urls.items()}),
            "broker": database,
        }[away]
        reached = vhost if away == "database" else Vhost(vhost.name, proxy.url(vhost.amqp_url), vhost.server)
        product = await stack.enter_async_context(running_product(spoilt, reached, redis_url, tmp_path))
        async with product.signed_in() as client:
            for number in range(CHECKED):
                await register(client, f"s-{number}", target.url(f"s-{number}"), check_interval=1000, timeout=900)
            await until(lambda: _all_asked(target), within_s=15, what="every service is checked")
            proxy.refuse()
            proxy.reset()
            await _checked_while_away(target)
            proxy.accept()
            await asyncio.gather(*(replica.ready() for replica in product.replicas))
            for number in range(CHECKED):
                await until(lambda number=number: _switched_off(client, f"s-{number}"), within_s=20, what="commands work again")  # type: ignore[misc]  # a lambda's default
        await _stored_is_all_that_was_asked(product, target)


async def _all_asked(target: Target) -> bool:
    return len(target.answers) == CHECKED


async def _switched_off(client: httpx.AsyncClient, name: str) -> bool:
    answer = await client.patch(f"/api/v1/services/{name}", json={"is_active": False})
    return answer.status_code == httpx.codes.OK
