"""The fixtures themselves: what each gives is fresh, reachable and closed to the wrong role."""

import asyncpg
import pytest
import redis.asyncio as redis_client
from aio_pika import connect

from tests.servers import Database, Vhost


@pytest.mark.parametrize("service", ["checker", "aggregator", "incidents", "gateway"])
async def test_each_role_enters_its_own_schema_only(database: Database, service: str) -> None:
    conn = await asyncpg.connect(database.url(service))
    try:
        assert await conn.fetchval("select current_schema()") == service
        assert await conn.fetchval("select count(*) from outbox") == 0
        for other in {"checker", "aggregator", "incidents", "gateway"} - {service}:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.fetchval(f"select count(*) from {other}.outbox")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("create table public.mine (id int)")
    finally:
        await conn.close()


async def test_the_reports_role_reads_every_schema_and_writes_none(database: Database) -> None:
    conn = await asyncpg.connect(database.url("readonly"))
    try:
        assert await conn.fetchval("select count(*) from incidents.outbox") == 0
        assert await conn.fetchval("select count(*) from schema_migration") > 0
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await conn.execute("delete from checker.outbox")
        await conn.execute("set default_transaction_read_only to off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("delete from checker.outbox")
    finally:
        await conn.close()


async def test_a_vhost_is_empty_and_takes_a_stream_and_a_quorum_queue(vhost: Vhost) -> None:
    assert vhost.api("GET", "/api/queues/{vhost}") == []
    async with await connect(vhost.amqp_url) as link:
        channel = await link.channel()
        for kind in ("stream", "quorum"):
            await channel.declare_queue(kind, durable=True, arguments={"x-queue-type": kind})
    assert {queue["name"] for queue in vhost.api("GET", "/api/queues/{vhost}")} == {"stream", "quorum"}


async def test_redis_answers_and_is_empty(redis_url: str) -> None:
    async with redis_client.from_url(redis_url) as redis:
        assert await redis.dbsize() == 0
        await redis.set("a", "1")
