"""Secrets of definitions, through a real checker: sent where they belong, and found nowhere else."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from infra.ops import commands_secrets
from infra.ops.errors import OpsError
from services.checker import usecases
from services.checker.domain.hosts import HostRules
from services.checker.secrets import MASK, Sealer
from shared import topology
from shared.contracts.codes import Outcome
from shared.contracts.commands import (
    CHECKS_TRY,
    SERVICES_APPLY,
    SERVICES_CHANGE,
    SERVICES_CREATE,
    SERVICES_GET,
    SERVICES_LIST,
    SERVICES_REMOVE,
    Nothing,
    ServiceDraft,
    ServicePatch,
    ServiceRef,
    ServiceSet,
)
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from shared.rpc import Client, NoAnswer, Refused, open_client
from tests.servers import Database, Run, Vhost
from tests.waiting import until

RULES = HostRules()
KEY, NEW_KEY = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
SECRETS = ("s3cret-created", "s3cret-changed", "s3cret-applied", "s3cret-tried", "s3cret-refused", "s3cret-body")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


@asynccontextmanager
async def checker(database: Database, vhost: Vhost, folder: Path, keys: str) -> AsyncIterator[Client]:
    """Run a checker whose log is `checker.log` in the folder; give a client that it answers."""
    settings = {
        "SLA_DATABASE_URL": database.url("checker"),
        "SLA_BROKER_URL": vhost.amqp_url,
        "SLA_HEALTH_PORT": "0",
        "SLA_SPOOL_PATH": str(folder / "spool.sqlite3"),
        "SLA_LOG_LEVEL": "debug",
        "SLA_SECRET_KEYS": keys,
    }
    with (folder / "checker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.checker", env={**os.environ, **settings}, stdout=log, stderr=log
        )
        try:
            async with open_client(vhost.amqp_url, name="test", health=Health("test")) as client:

                async def answers() -> bool:
                    try:
                        await client.call(SERVICES_LIST, Nothing(), timeout_s=1)
                    except NoAnswer:
                        return False
                    return True

                await until(answers, within_s=30, what="the checker's answer")
                yield client
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def overheard(vhost: Vhost) -> AsyncIterator[list[bytes]]:
    """Give the bodies of everything that is published for others, as they come."""
    bodies: list[bytes] = []
    async with await aio_pika.connect(vhost.amqp_url) as link:
        channel = await link.channel()
        queue = await channel.declare_queue(exclusive=True)
        for exchange in (topology.EVENTS, topology.CHECKS):
            await queue.bind(exchange, "#")

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            bodies.append(message.body)

        await queue.consume(take, no_ack=True)
        yield bodies


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[str]]]:
    """Serve on a free loopback port; give the port and every request as it came."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.read(65_536)).decode())
        writer.write(b"HTTP/1.1 500 X\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfail")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


async def heard_of(secret: str, heard: list[str]) -> None:
    """Wait for a check that brings a secret."""

    async def came() -> bool:
        return any(secret in request for request in heard)

    await until(came, within_s=15, what="a check with the secret")


async def whole_database(database: Database) -> str:
    """Return every row of every table of every service, as text."""
    conn = await asyncpg.connect(database.admin_url)
    tables = await conn.fetch(
        "select schemaname, tablename from pg_tables where schemaname in ('checker', 'aggregator', 'incidents', 'gateway')"
    )
    rows: list[str] = []
    for table in tables:
        found = await conn.fetch(f'select t::text as row from "{table["schemaname"]}"."{table["tablename"]}" t')
        rows += [row["row"] for row in found]
    await conn.close()
    return "\n".join(rows)


def http(service_id: str, port: int, **options: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    return {
        "id": service_id,
        "name": service_id,
        "endpoint_url": f"http://127.0.0.1:{port}/",
        "check_interval": 1000,
        "timeout": 900,
        "options": options,
    }


def draft(definition: dict[str, Any]) -> ServiceDraft:
    return ServiceDraft(definition=definition, actor="admin")


@pytest.mark.slow
async def test_a_secret_goes_to_its_service_and_nowhere_else(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    """Seen red, each alone, with: options stored as written; events made of unmasked options; the draft's definition logged."""
    told: list[str] = []
    async with (
        listener() as (port, heard),
        checker(database, vhost, tmp_path, KEY.get_secret_value()) as client,
        overheard(vhost) as events,
    ):
        told.append((await client.call(SERVICES_CREATE, draft(http("one", port, bearer=SECRETS[0])))).model_dump_json())
        body = http("two", port, method="POST", body=SECRETS[5])
        told.append((await client.call(SERVICES_CREATE, draft(body))).model_dump_json())
        changed = ServicePatch(id="one", changes={"options": {"headers": {"X-Key": SECRETS[1]}}}, actor="admin")
        told.append((await client.call(SERVICES_CHANGE, changed)).model_dump_json())
        wanted = (http("one", port, headers={"X-Key": MASK}), http("three", port, bearer=SECRETS[2]))
        told.append((await client.call(SERVICES_APPLY, ServiceSet(definitions=wanted, actor="admin"))).model_dump_json())
        told.append((await client.call(CHECKS_TRY, draft(http("new", port, bearer=SECRETS[3])))).model_dump_json())
        told.append((await client.call(CHECKS_TRY, draft(http("one", port, headers={"X-Key": MASK}, method="PUT")))).model_dump_json())
        with pytest.raises(Refused) as refused:
            await client.call(SERVICES_CREATE, draft(http("bad", port, bearer=[SECRETS[4]], basic=SECRETS[4], headers={"a b": SECRETS[4]})))
        told.append(refused.value.problem.model_dump_json())
        told.append((await client.call(SERVICES_LIST, Nothing())).model_dump_json())
        told.append((await client.call(SERVICES_GET, ServiceRef(id="one"))).model_dump_json())

        async def all_checked() -> bool:
            return all(any(secret in request for request in heard) for secret in (*SECRETS[1:4], SECRETS[5])) and sum(map(len, events)) > 0

        await until(all_checked, within_s=20, what="a check of each with its secret")
        assert any(request.startswith("PUT") and SECRETS[1] in request for request in heard)
        assert [json.loads(one)["options"] for one in told[:3]] == [
            {"bearer": MASK},
            {"method": "POST", "body": MASK},
            {"headers": {"X-Key": MASK}},
        ]
        for secret in SECRETS:
            assert not [text for text in told if secret in text], secret
            assert not [body for body in events if secret.encode() in body], secret
            assert secret not in await whole_database(database), secret
            assert secret not in (tmp_path / "checker.log").read_text(encoding="utf-8"), secret
        assert "gAAAA" in await whole_database(database)
        for service_id in ("one", "two", "three"):
            await client.call(SERVICES_REMOVE, ServiceRef(id=service_id, actor="admin"))
        assert "gAAAA" not in await whole_database(database), "what is removed takes its secrets along"


@pytest.mark.slow
async def test_a_lost_key_stops_the_services_that_need_it_and_says_so(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    async with listener() as (port, heard):
        async with checker(database, vhost, tmp_path, KEY.get_secret_value()) as client:
            await client.call(SERVICES_CREATE, draft(http("sealed", port, bearer=SECRETS[0])))
            await client.call(SERVICES_CREATE, draft(http("plain", port)))
            await heard_of(SECRETS[0], heard)
        heard.clear()
        async with checker(database, vhost, tmp_path, NEW_KEY.get_secret_value()) as client:
            conn = await asyncpg.connect(database.url("checker"))

            async def said_so() -> bool:
                unknown = await conn.fetchval(
                    "select count(*) from watch_server_logs where service_id = 'sealed' and is_healthy is null and error_message like $1",
                    "not checked: its secrets cannot be read%",
                )
                return bool(unknown) and bool(heard)

            await until(said_so, within_s=20, what="the sealed service unknown, the other one checked")
            await conn.close()
            assert not [request for request in heard if SECRETS[0] in request]
            assert (await client.call(SERVICES_GET, ServiceRef(id="sealed"))).options == {"bearer": MASK}
            with pytest.raises(Refused) as refused:
                await client.call(SERVICES_CHANGE, ServicePatch(id="sealed", changes={"timeout": 800}, actor="admin"))
            assert [error.field for error in refused.value.problem.errors] == ["options"]
            again = ServicePatch(id="sealed", changes={"options": {"bearer": SECRETS[1]}}, actor="admin")
            await client.call(SERVICES_CHANGE, again)
            await heard_of(SECRETS[1], heard)


async def create(pool: Pool, definition: dict[str, Any], sealer: Sealer) -> None:
    async with transaction(pool) as conn:
        await usecases.create(conn, draft(definition), rules=RULES, sealer=sealer)


async def change(pool: Pool, service_id: str, sealer: Sealer, **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    """Change a service; return its options in clear."""
    async with transaction(pool) as conn:
        await usecases.change(conn, ServicePatch(id=service_id, changes=changes, actor="admin"), rules=RULES, sealer=sealer)
        present = await usecases.present(conn, service_id)
    assert present is not None
    return sealer.unseal(present.options)


async def test_a_mask_keeps_a_secret_only_for_the_same_kind_and_host(pool: Pool) -> None:
    """Seen red without the look at the origin: a change of the address had the secret sent to the new host."""
    sealer = Sealer([KEY])
    await create(pool, http("one", 8080, bearer="abc"), sealer)
    assert await change(pool, "one", sealer, timeout=800) == {"bearer": "abc"}
    assert await change(pool, "one", sealer, options={"bearer": MASK, "method": "HEAD"}) == {"bearer": "abc", "method": "HEAD"}
    assert await change(pool, "one", sealer, endpoint_url="http://127.0.0.1:8080/other") == {"bearer": "abc", "method": "HEAD"}
    for moved in ({"endpoint_url": "http://127.0.0.2:8080/"}, {"endpoint_url": "http://127.0.0.1:8081/", "options": {"bearer": MASK}}):
        with pytest.raises(Refused) as refused:
            await change(pool, "one", sealer, **moved)
        assert [error.field for error in refused.value.problem.errors] == ["options.bearer"]
    assert await change(pool, "one", sealer, endpoint_url="http://127.0.0.2:8080/", options={"bearer": "new"}) == {"bearer": "new"}
    assert await change(pool, "one", sealer, kind="tcp", endpoint_url="tcp://127.0.0.2:8080") == {}
    assert "gAAAA" not in str(await pool.fetch("select options from services"))


async def test_a_secret_that_stays_is_no_change(pool: Pool) -> None:
    sealer = Sealer([KEY])
    await create(pool, http("one", 8080, bearer="abc"), sealer)
    await change(pool, "one", sealer, options={"bearer": "abc"})
    assert await pool.fetchval("select version from services") == 1
    await change(pool, "one", sealer, options={"bearer": "abd"})
    assert await pool.fetchval("select version from services") == 2


async def test_without_keys_a_definition_with_secrets_is_refused(pool: Pool) -> None:
    with pytest.raises(Refused) as refused:
        await create(pool, http("one", 8080, bearer="abc"), Sealer())
    problem = refused.value.problem
    assert (problem.status, problem.errors[0].field) == (422, "options.bearer")
    assert "SLA_SECRET_KEYS" in problem.errors[0].reason
    await create(pool, http("one", 8080, method="HEAD"), Sealer())


@pytest.fixture
def passwords(server_run: Run) -> dict[str, str]:
    return server_run.passwords()


async def test_rotation_seals_everything_with_the_first_key(pool: Pool, database: Database, passwords: dict[str, str]) -> None:
    old, both, new = Sealer([KEY]), Sealer([NEW_KEY, KEY]), Sealer([NEW_KEY])
    for number in range(3):
        await create(pool, http(f"s-{number}", 8080, bearer=f"abc-{number}"), old)
    await create(pool, http("plain", 8080), old)
    versions = await pool.fetch("select id, version, revision from services order by id")
    assert await commands_secrets.reseal(database.admin_url, passwords, both) == 3
    assert await pool.fetch("select id, version, revision from services order by id") == versions
    async with pool.acquire() as conn:
        kept = [await usecases.present(conn, f"s-{number}") for number in range(3)]
    assert [new.unseal(one.options) for one in kept if one] == [{"bearer": f"abc-{number}"} for number in range(3)]
    with pytest.raises(OpsError, match=re.escape("nothing was changed; s-0: its secrets cannot be read")):
        await commands_secrets.reseal(database.admin_url, passwords, old)


async def test_a_trial_is_told_whole(database: Database, vhost: Vhost, tmp_path: Path) -> None:
    """With its phases, every verdict, and nothing left behind."""
    asked = [
        {"source": "code", "comparison": "equals", "target": 500},
        {"source": "body", "comparison": "contains", "target": "ok", "severity": "degraded"},
    ]
    async with listener() as (port, _heard), checker(database, vhost, tmp_path, "") as client:
        wanted = http("x", port, expected_codes=[500]) | {"assertions": asked}
        del wanted["id"], wanted["name"]
        trial = await client.call(CHECKS_TRY, draft(wanted))
        assert trial.result.outcome is Outcome.DEGRADED
        assert trial.result.phases.connect_ms is not None
        assert [(one.assertion.source, one.holds, one.found) for one in trial.assertions] == [
            ("code", True, "500"),
            ("body", False, "fail"),
        ]
        with pytest.raises(Refused) as refused:
            await client.call(CHECKS_TRY, draft(wanted | {"kind": "smoke"}))
        assert (refused.value.problem.status, refused.value.problem.errors[0].field) == (422, "kind")
        assert (await client.call(SERVICES_LIST, Nothing())).services == ()
