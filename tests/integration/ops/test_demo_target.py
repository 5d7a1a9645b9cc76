"""The demo's services answer as they were switched to, seen by a client over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from infra.demo.__main__ import Switchboard
from infra.demo.targets import HTTP_IDS, IDS, TCP_ID, port_of
from infra.ops.ports import free_block
from infra.ops.settings import DemoSettings
from tests.waiting import until

SIX_AND_CONTROL = len(IDS) + 1


@pytest.fixture
async def control() -> AsyncIterator[str]:
    settings = DemoSettings(demo_port=free_block(SIX_AND_CONTROL))
    stop = asyncio.Event()
    serving = asyncio.create_task(Switchboard(settings).serve(stop))
    url = f"http://127.0.0.1:{settings.demo_port}"
    await until(lambda: reachable(settings.demo_port), within_s=5, what="the demo listens")
    yield url
    stop.set()
    await serving


async def reachable(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


async def switch(control: str, target: str, mode: str) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.post(f"{control}/control/{target}", params={"mode": mode})).status_code


async def ask(control: str, target: str, timeout_s: float = 5.0) -> int:
    port = port_of(target, int(control.rpartition(":")[2]))
    async with httpx.AsyncClient(timeout=timeout_s) as client:
        return (await client.get(f"http://127.0.0.1:{port}/health")).status_code


async def test_every_service_is_well_at_first(control: str) -> None:
    assert [await ask(control, target) for target in HTTP_IDS] == [200] * len(HTTP_IDS)


async def test_one_fails_and_recovers_alone(control: str) -> None:
    assert await switch(control, "face-compare", "fail") == 200
    assert await ask(control, "face-compare") == 500
    assert await ask(control, "id-liveness") == 200
    assert await switch(control, "face-compare", "ok") == 200
    assert await ask(control, "face-compare") == 200


async def test_hanging_never_answers_and_slow_answers_late(control: str) -> None:
    await switch(control, "face-liveness", "hang")
    with pytest.raises(httpx.ReadTimeout):
        await ask(control, "face-liveness", timeout_s=0.3)
    await switch(control, "face-liveness", "slow")
    with pytest.raises(httpx.ReadTimeout):
        await ask(control, "face-liveness", timeout_s=0.3)
    assert await ask(control, "face-liveness") == 200


@pytest.mark.parametrize("target", ["curp-verifier", TCP_ID])
async def test_refusing_has_nobody_listening(control: str, target: str) -> None:
    port = port_of(target, int(control.rpartition(":")[2]))
    assert await reachable(port)
    await switch(control, target, "refuse")
    assert not await reachable(port)
    await switch(control, target, "ok")
    assert await reachable(port)


async def test_refusing_also_resets_who_waits_for_an_answer(control: str) -> None:
    await switch(control, "id-recognition", "hang")
    waiting = asyncio.create_task(ask(control, "id-recognition"))
    await asyncio.wait({waiting}, timeout=0.2)
    await switch(control, "id-recognition", "refuse")
    with pytest.raises(httpx.TransportError):
        await waiting


@pytest.mark.parametrize(
    ("path", "status"), [("/control/nobody?mode=ok", 404), ("/control/face-compare?mode=odd", 422), ("/elsewhere", 404)]
)
async def test_a_wrong_request_is_told_what_is_right(control: str, path: str, status: int) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(control + path)
    assert answer.status_code == status
    assert answer.json()["detail"]
