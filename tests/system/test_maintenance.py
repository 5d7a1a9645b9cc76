"""Through every service: what is muted opens no incident, and opens one when its mute ends while it is down.

Seen red with incidents that open whatever the mute.
"""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from shared.contracts.commands import MAINTENANCE_CHANGE, MAINTENANCE_SCHEDULE
from shared.contracts.history import MaintenanceChange, MaintenanceDraft
from shared.health import Health
from shared.rpc import open_client
from tests.live import Live, listening
from tests.product import register, running_product
from tests.servers import Database, Vhost
from tests.target import running_target
from tests.waiting import until

pytestmark = pytest.mark.system

TIMES = {"check_interval": 1000, "timeout": 500, "failure_threshold": 2, "recovery_threshold": 2}


async def test_a_window_and_a_dependency_mute_what_they_explain_and_nothing_else(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    health = Health("asker")
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running_target())
        product = await stack.enter_async_context(running_product(database, vhost, redis_url, tmp_path))
        live = await stack.enter_async_context(listening(product.of("gateway").url, Live()))
        asker = await stack.enter_async_context(open_client(vhost.amqp_url, name="asker", health=health))
        async with product.signed_in() as client:
            for name, stands_on in (("shop", []), ("database", []), ("api", ["database"])):
                await register(client, name, target.url(name), **TIMES, depends_on=stands_on)
        for name in ("shop", "database", "api"):
            await live.seen(status(name, "o"), within_s=30)

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the asker is connected")
        window, now = uuid4(), datetime.now(UTC)
        draft = MaintenanceDraft(id=window, title="Disks", services=("shop",), starts_at=now, ends_at=now + timedelta(hours=1), actor="kim")
        await asker.call(MAINTENANCE_SCHEDULE, draft)
        await live.seen(status("shop", "o", maintenance=str(window)), within_s=15)
        for name in ("database", "api", "shop"):  # one after the other: who falls before what it stands on is told
            target.failing.add(name)
            await live.seen(status(name, "mo"), within_s=15)
        await live.seen(opened("database"), within_s=15)

        await asker.call(MAINTENANCE_CHANGE, MaintenanceChange(id=window, end=True, actor="kim"))
        (_, shop), (_, down) = [await live.seen(found, within_s=15) for found in (opened("shop"), status("shop", "mo"))]
        target.failing.discard("database")
        await live.seen(status("database", "o"), within_s=15, after=len(live.events) - 1)
        await live.seen(opened("api"), within_s=15)

    events = [event for _, _, event in live.events]
    incidents = [event["data"]["incident"]["affected_services"] for event in events if event["type"] == "incident.opened.v1"]
    assert incidents == [["database"], ["shop"], ["api"]]
    assert shop["data"]["incident"]["started_at"] == down["data"]["status"]["since"], "dated back to the first failed check"
    windows = [event["type"] for event in events if event["type"].startswith("maintenance.")]
    assert windows == ["maintenance.scheduled.v1", "maintenance.started.v1", "maintenance.ended.v1"]


def status(service_id: str, code: str, *, maintenance: str | None = None) -> Any:  # noqa: ANN401  # a condition
    """Return a condition: it is said that a service has this status."""

    def holds(event: dict[str, Any]) -> bool:
        if event["type"] != "service.status_changed.v1" or event["subject"] != service_id:
            return False
        said = event["data"]["status"]
        return bool(said["status"] == code and maintenance in {None, said["maintenance"]})

    return holds


def opened(service_id: str) -> Any:  # noqa: ANN401  # a condition
    """Return a condition: an incident of a service was opened."""
    return lambda event: event["type"] == "incident.opened.v1" and event["data"]["incident"]["affected_services"] == [service_id]
