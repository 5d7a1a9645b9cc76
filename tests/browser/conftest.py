"""A real browser: Chromium of the system, driven by Playwright. `SLA_CHROMIUM` names another one; screenshots go to `SLA_SCREENSHOTS`."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from shared.contracts.codes import IncidentStatus, Status
from tests.integration.gateway import rig
from tests.servers import Database, Vhost

PHONE = {"width": 360, "height": 740}
Open = Callable[..., Awaitable[Page]]


@pytest.fixture
async def others(vhost: Vhost) -> AsyncIterator[rig.World]:
    """Answer for the other services: one that works, one in part, one down, one unknown, one asleep; an open and a resolved incident."""
    states = {"o": "face-compare", "po": "face-liveness", "mo": "id-liveness", "nd": "id-recognition", "e": "curp-verifier"}
    korean = {"o": "얼굴 비교", "po": "얼굴 라이브니스", "mo": "ID 라이브니스", "nd": "ID 인식", "e": "CURP 검증"}
    services = {name: rig.definition(name, display_name_ko=korean[code], is_active=code != "e") for code, name in states.items()}
    statuses = {name: rig.status_of(name, Status(code)) for code, name in states.items()}
    resolved = rig.incident(
        title="Slow answers <b>& more</b>",
        status=IncidentStatus.RESOLVED,
        resolved_at=rig.later(3600),
        duration_minutes=60,
        severity="medium",
    )
    going_on = rig.incident()
    owners = rig.Owners(services=services, statuses=statuses, incidents={one.id: one for one in (going_on, resolved)})
    async with rig.world(vhost.amqp_url, owners) as there:
        yield there


@pytest.fixture
async def running(database: Database, vhost: Vhost, redis_url: str, others: rig.World) -> AsyncIterator[rig.Running]:  # noqa: ARG001  # needed to be there
    """Run a gateway that is ready."""
    chosen = rig.settings(database_url=database.url("gateway"), amqp_url=vhost.amqp_url, redis_url=redis_url)
    async with rig.gateway(chosen) as one:
        await one.ready()
        yield one


@pytest.fixture
async def browse(running: rig.Running) -> AsyncIterator[Open]:
    """Give a function that opens the page, with or without JavaScript, in a browser context of its own. The page's errors fail the test."""
    chromium = os.environ.get("SLA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    faults: list[str] = []
    async with AsyncExitStack() as stack:
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.push_async_callback(browser.close)

        async def opened(path: str = "/", *, javascript: bool = True, **options: object) -> Page:
            context = await browser.new_context(java_script_enabled=javascript, **options)  # type: ignore[arg-type]  # passed on
            page = await context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
            await page.goto(running.url + path)
            return page

        yield opened
    assert not faults


async def shot(page: Page, name: str) -> None:
    """Keep a picture for somebody to look at, where a folder for it is named."""
    folder = os.environ.get("SLA_SCREENSHOTS")
    if folder:
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
