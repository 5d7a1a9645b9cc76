"""A client that was away: what it missed comes on whichever replica it reconnects to, each event once."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, listening
from tests.product import register, running_product
from tests.servers import Database, Vhost

CHANGES = 200
AWAY_S = float(os.environ.get("SLA_TEST_AWAY_S", "30"))

pytestmark = pytest.mark.system


async def test_a_client_cut_off_during_changes_sees_every_event_once_over_two_replicas(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    """200 changes by REST on two gateways; the client is away for 30 s of them and comes back to the other replica.

    Red when the ring's resume starts at `since` instead of after it (a repeat), or one later (a gap).
    """
    async with AsyncExitStack() as stack:
        product = await stack.enter_async_context(running_product(database, vhost, redis_url, tmp_path, gateways=2))
        first, second = (one for one in product.replicas if one.service == "gateway")
        rest = [await stack.enter_async_context(product.signed_in(one)) for one in (first, second)]
        await register(rest[0], "changing", "http://127.0.0.1:9/nobody", check_interval=3_600_000, is_active=False)
        live = Live()

        async def change(number: int) -> None:
            answer = await rest[number % 2].patch("/api/v1/services/changing", json={"description": f"change {number}"})
            assert answer.status_code == 200, answer.text

        async with listening(first.url, live):
            for number in range(50):
                await change(number)
            await live.seen(lambda event: _describes(event, "change 30"), within_s=10)
        away_until = asyncio.get_running_loop().time() + AWAY_S
        for number in range(50, 150):
            await change(number)
        await asyncio.sleep(max(0.0, away_until - asyncio.get_running_loop().time()))  # the outage of the client itself has this length
        async with listening(second.url, live):
            for number in range(150, CHANGES):
                await change(number)
            await live.seen(lambda event: _describes(event, f"change {CHANGES - 1}"), within_s=15)
    ids = [event["id"] for _, _, event in live.events if event["type"] == "service.updated.v1"]
    said = [event["data"]["service"]["description"] for _, _, event in live.events if event["type"] == "service.updated.v1"]
    offsets = [offset for _, offset, _ in live.events]
    assert said == [f"change {number}" for number in range(CHANGES)]
    assert len(set(ids)) == len(ids) == CHANGES
    assert offsets == sorted(set(offsets))
    assert live.resets == 0


def _describes(event: dict[str, Any], text: str) -> bool:
    return bool(event["type"] == "service.updated.v1" and event["data"]["service"]["description"] == text)
