"""Services start in any order, also before their database exists, and each ends cleanly while it still waits."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest

from infra.ops import database as ops
from tests.product import Product, Replica
from tests.servers import Database, Run, Vhost
from tests.waiting import until

pytestmark = pytest.mark.system


def _product(server_run: Run, vhost: Vhost, redis_url: str, folder: Path) -> Product:
    """A product whose database nobody has made yet; its roles exist, as the run's other tests use them."""
    name = f"test_{secrets.token_hex(6)}"
    admin_url = server_run.server("postgresql").url(name)
    urls = {
        service: ops.with_credentials(admin_url, user=ops.role(service), password=password)
        for service, password in server_run.passwords().items()
    }
    return Product(Database(name, admin_url, urls), vhost, {"SLA_REDIS_URL": redis_url, "SLA_LOG_FORMAT": "console"}, folder)


async def _waits(replica: Replica) -> bool:
    """Say whether a process lives, and says that it is not ready and why."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{replica.health_port}") as client:
        try:
            live, ready = await client.get("/health/live"), await client.get("/health/ready")
        except httpx.TransportError:
            return False
    return live.status_code == httpx.codes.OK and ready.status_code == httpx.codes.SERVICE_UNAVAILABLE and bool(ready.json()["reasons"])


@pytest.mark.parametrize("order", [("gateway", "incidents", "aggregator", "checker"), ("aggregator", "checker", "gateway", "incidents")])
@pytest.mark.usefixtures("template")
async def test_services_wait_for_a_database_that_is_made_after_them(
    order: tuple[str, ...], server_run: Run, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    """Seen red with `open_pool` that gives up at its first refused connection."""
    product = _product(server_run, vhost, redis_url, tmp_path)
    async with AsyncExitStack() as stack:
        stack.callback(_kill_all, product)
        for service in order:
            replica = product.add(service)
            await until(lambda replica=replica: _waits(replica), within_s=20, what=f"{service} lives and says what it waits for")  # type: ignore[misc]  # a lambda's default
        impatient = product.add("aggregator")
        await until(lambda: _waits(impatient), within_s=20, what="one more waits")
        assert await impatient.stop() == 0, "ends cleanly while it waits"
        product.replicas.remove(impatient)
        await ops.migrate(product.database.admin_url, server_run.passwords())
        stack.push_async_callback(_drop, server_run, product.database.name)
        await asyncio.gather(*(replica.ready() for replica in product.replicas))
        assert set(await asyncio.gather(*(replica.stop() for replica in product.replicas))) == {0}


async def _drop(server_run: Run, name: str) -> None:
    conn = await asyncpg.connect(server_run.server("postgresql").url("postgres"))
    try:
        await conn.execute(f'drop database "{name}" with (force)')
    finally:
        await conn.close()


def _kill_all(product: Product) -> None:
    for replica in product.replicas:
        replica.kill()
