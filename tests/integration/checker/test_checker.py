"""The checker as a process: asked over the broker, checking a real server, writing down, stopping cleanly."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from shared.contracts.commands import (
    SERVICES_CHANGE,
    SERVICES_CREATE,
    SERVICES_GET,
    SERVICES_LIST,
    SERVICES_REMOVE,
    Nothing,
    ServiceDraft,
    ServicePatch,
    ServiceRef,
)
from shared.health import Health
from shared.rpc import Client, NoAnswer, Refused, open_client
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until


@asynccontextmanager
async def checker_process(database: Database, vhost: Vhost, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = {
        "SLA_DATABASE_URL": database.url("checker"),
        "SLA_BROKER_URL": vhost.amqp_url,
        "SLA_HEALTH_PORT": "0",
        "SLA_SPOOL_PATH": str(folder / "spool.sqlite3"),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.checker", env={**os.environ, **settings})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def listening(client: Client) -> None:
    async def answers() -> bool:
        try:
            await client.call(SERVICES_LIST, Nothing(), timeout_s=1)
        except NoAnswer:
            return False
        return True

    await until(answers, within_s=30, what="the checker's answer")


async def checks(conn: "asyncpg.Connection[asyncpg.Record]", service_id: str, *, at_least: int) -> None:
    async def enough() -> bool:
        return int(await conn.fetchval("select count(*) from watch_server_logs where service_id = $1", service_id)) >= at_least

    await until(enough, within_s=15, what=f"{at_least} checks of {service_id} written down")


def draft(target: Target, service_id: str) -> ServiceDraft:
    fields = {"id": service_id, "name": service_id, "endpoint_url": target.url(service_id), "check_interval": 1000, "timeout": 900}
    return ServiceDraft(definition=fields, actor="admin")


@pytest.mark.slow
async def test_from_definition_to_log_to_removal_to_a_clean_stop(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    conn = await asyncpg.connect(database.url("checker"))
    async with (
        running_target() as target,
        checker_process(database, vhost, tmp_path) as process,
        open_client(vhost.amqp_url, name="test", health=Health("test")) as client,
    ):
        await listening(client)
        for service_id in ("good", "bad", "idle"):
            await client.call(SERVICES_CREATE, draft(target, service_id))
        target.failing.add("bad")
        await client.call(SERVICES_CHANGE, ServicePatch(id="idle", changes={"is_active": False}, actor="admin"))
        await checks(conn, "good", at_least=3)
        await checks(conn, "bad", at_least=2)
        bad = await conn.fetchrow(
            "select * from watch_server_logs where service_id = 'bad' and not is_healthy order by scheduled_at limit 1"
        )
        assert bad is not None
        assert (bad["status_code"], bad["error_type"], bad["error_message"]) == (500, "http_error", "answered 500, expected 2xx")

        await client.call(SERVICES_REMOVE, ServiceRef(id="good", actor="admin"))
        with pytest.raises(Refused):
            await client.call(SERVICES_GET, ServiceRef(id="good"))
        removed_at = (await conn.fetchval("select removed_at from services where id = 'good'")).timestamp()
        await checks(conn, "bad", at_least=5)
        assert all(at < removed_at + 1.0 for at, _status in target.answers["good"])
        assert len(target.answers["idle"]) <= 2

        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert await conn.fetchval("select count(*) from outbox") == 0
    await conn.close()
