"""What a process says of itself."""

import asyncio
import json
from typing import Any

import pytest

from shared import health as module
from shared.health import Health, health_app


async def ask(health: Health, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Return status and body of an answer, without a server."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await health_app(health)({"type": "http", "path": path, "method": method}, None, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_process_is_ready_when_it_started_and_every_part_is() -> None:
    health = Health("checker")
    health.set("database", ok=False, reason="connecting")
    status, body = await ask(health, "/health/ready")
    assert (status, json.loads(body)["reasons"]) == (503, {"process": "starting", "database": "connecting"})
    health.set("database", ok=True)
    health.started()
    assert await ask(health, "/health/ready") == (200, b'{"service": "checker", "ready": true, "reasons": {}}')
    health.stopping()
    assert (await ask(health, "/health/ready"))[0] == 503


async def test_a_part_that_does_not_answer_or_breaks_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the bound in `_ask`: readiness itself hung."""
    monkeypatch.setattr(module, "CHECK_TIMEOUT_S", 0.05)
    health = Health("checker")
    health.started()

    async def hang() -> str | None:
        await asyncio.Event().wait()
        return None

    async def fail() -> str | None:
        raise ConnectionRefusedError

    async def fine() -> str | None:
        return None

    for name, check in (("hangs", hang), ("fails", fail), ("works", fine)):
        health.check(name, check)
    async with asyncio.timeout(2):
        assert await health.reasons() == {"hangs": "no answer within 0.05 s", "fails": "ConnectionRefusedError: "}


async def test_a_process_that_cannot_go_on_is_not_live() -> None:
    health = Health("checker")
    assert (await ask(health, "/health/live"))[0] == 200
    health.fail("outbox relay: KeyError")
    status, body = await ask(health, "/health/live")
    assert (status, json.loads(body)["reason"]) == (503, "outbox relay: KeyError")


async def test_metrics_are_served_and_unknown_paths_are_told_what_there_is() -> None:
    assert (await ask(Health("x"), "/metrics"))[0] == 200
    status, body = await ask(Health("x"), "/")
    assert (status, json.loads(body)["title"]) == (404, "Not found")
    assert await ask(Health("x"), "/health/live", method="HEAD") == (200, b"")
