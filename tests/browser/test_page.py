"""The public page as people meet it."""

from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from shared.contracts.codes import MaintenanceStatus, Role, Status
from shared.contracts.maintenance import MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1
from tests.browser.conftest import PHONE, Open, shot
from tests.integration.gateway import past, rig
from tests.servers import Database
from tests.waiting import until


@pytest.mark.parametrize(("language", "sentence"), [("en", "Some services are down."), ("ko", "일부 서비스에 장애가 있습니다.")])
@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_tells_the_truth_in_both_languages_and_everybody_can_read_it(
    browse: Open, language: str, sentence: str, scheme: str, *, javascript: bool
) -> None:
    page = await browse(f"/?lang={language}", javascript=javascript, color_scheme=scheme, viewport=PHONE)
    await expect(page.locator("html")).to_have_attribute("lang", language)
    await expect(page.locator("#sentence")).to_have_text(sentence)
    await expect(page.locator("#list li")).to_have_count(5)
    await expect(page.locator("#open article")).to_have_count(1)
    await expect(page.locator("#recent article")).to_have_count(1)
    await expect(page.locator("#recent h3")).to_have_text("Slow answers <b>& more</b>")
    name = {"en": "Face Compare", "ko": "얼굴 비교"}[language]
    await expect(page.locator("#list li[data-id=face-compare] .name")).to_have_text(name)
    assert rig.SECRET not in await page.content()
    if javascript:
        await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
        width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "it fits a phone"
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    await shot(page, f"phone-{language}-{scheme}-{'script' if javascript else 'plain'}")


async def test_each_status_has_a_word_and_a_shape_of_its_own(browse: Open) -> None:
    page = await browse("/?lang=en", viewport={"width": 1000, "height": 900})
    await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
    states = await page.locator("#list .state").all_inner_texts()
    assert len(set(states)) == 5
    assert len({state[0] for state in states}) == 5
    await shot(page, "wide")


async def test_the_page_follows_by_itself_and_comes_back_where_it_stopped(browse: Open, others: rig.World, running: rig.Running) -> None:
    page = await browse("/?lang=en")
    freshness, headline = page.locator("#freshness"), page.locator("#sentence")
    await expect(freshness).to_have_attribute("data-kind", "live")
    await others.say(*(rig.changed(rig.status_of(name, Status.OPERATIONAL, version=2)) for name in ("face-liveness", "id-liveness")))
    await expect(headline).to_have_text("What we can see is working; of some services we do not know.")
    await others.say(rig.changed(rig.status_of("id-recognition", Status.OPERATIONAL, version=2)))
    await expect(headline).to_have_text("All services are working.")
    outage = rig.incident(title="Again")
    await others.say(rig.changed(rig.status_of("id-liveness", Status.MAJOR_OUTAGE, version=3)), rig.opened(outage))
    await expect(headline).to_have_text("Some services are down.")
    await expect(page.locator("#open article")).to_have_count(2)
    await expect(page.locator("#open")).to_contain_text("Again")
    running.hub.cut_all(1012, "test")
    await expect(freshness).to_have_attribute("data-kind", "offline")
    await expect(freshness).to_contain_text("Not live")
    await others.say(rig.registered(rig.definition("brand-new")))
    await expect(freshness).to_have_attribute("data-kind", "live", timeout=10_000)
    await expect(page.locator("#list")).to_contain_text("Brand New")


@pytest.mark.parametrize(("language", "words"), [("en", "because of Id Liveness"), ("ko", "ID 라이브니스 때문")])
@pytest.mark.parametrize("javascript", [True, False])
async def test_the_page_says_because_of_whom_a_service_is_down(
    browse: Open, others: rig.World, running: rig.Running, language: str, words: str, *, javascript: bool
) -> None:
    """As long as that one is down. Seen red without it in the template, without it in the script, and shown when the cause works again."""
    down = rig.status_of("face-compare", Status.MAJOR_OUTAGE, version=2, muted_by="dependency:id-liveness")
    early = rig.status_of("face-liveness", Status.PARTIAL_OUTAGE, version=2, muted_by="dependency:nobody")
    await others.say(rig.changed(down), rig.changed(early))

    async def known() -> bool:
        return sum(one["because_of"] is not None for one in (await running.status())["services"]) == 2

    await until(known, within_s=10, what="the events")
    page = await browse(f"/?lang={language}", javascript=javascript, viewport=PHONE)
    cause = page.locator("#list .cause")
    await expect(cause).to_have_count(1)
    await expect(page.locator("#list li[data-id=face-compare] .cause")).to_have_text(words)
    if javascript:
        await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    await shot(page, f"cause-{language}-{'script' if javascript else 'plain'}")
    await others.say(rig.changed(rig.status_of("id-liveness", Status.OPERATIONAL, version=2)))
    if javascript:
        await expect(cause).to_have_count(0)
        await others.say(rig.changed(rig.status_of("id-liveness", Status.MAJOR_OUTAGE, version=3)))
        await expect(cause).to_have_text(words)


PLANNED: dict[str, Any] = {
    "title": "Database <b>upgrade</b>",
    "description": "Answers may be slow.",
    "services": ("face-compare", "id-liveness"),
}


@pytest.mark.parametrize(
    ("language", "word", "tag", "unstable"), [("en", "In progress", "In maintenance", "Unstable"), ("ko", "진행 중", "점검 중", "불안정")]
)
@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_announces_maintenance_and_says_who_is_in_it(
    browse: Open,
    others: rig.World,
    running: rig.Running,
    language: str,
    word: str,
    tag: str,
    scheme: str,
    *,
    unstable: str,
    javascript: bool,
) -> None:
    """Beside it, who is flapping. Seen red without maintenance in the template, and without it in the script; likewise for flapping."""
    window = past.maintenance(**PLANNED, version=2, status=MaintenanceStatus.IN_PROGRESS)
    inside = rig.status_of("id-liveness", Status.MAJOR_OUTAGE, version=2, maintenance=window.id)
    slow = rig.status_of("face-liveness", Status.PARTIAL_OUTAGE, version=2, degraded=True, flapping=True)
    begun = rig.event(MaintenanceStartedV1(maintenance=window), str(window.id), 2)
    await others.say(begun, rig.changed(inside), rig.changed(slow))

    async def known() -> bool:
        told = await running.status()
        return bool(told["maintenances"]) and any(one["degraded"] for one in told["services"])

    await until(known, within_s=10, what="the events")
    page = await browse(f"/?lang={language}", javascript=javascript, color_scheme=scheme, viewport=PHONE)
    card = page.locator("#planned article")
    await expect(card).to_have_count(1)
    await expect(card.locator("h3")).to_have_text("Database <b>upgrade</b>")
    await expect(card).to_contain_text(word)
    await expect(card).to_contain_text("ID 라이브니스" if language == "ko" else "Id Liveness")
    await expect(page.locator("#list li[data-id=id-liveness] .tag")).to_have_text(tag)
    await expect(page.locator("#list li[data-id=face-liveness] .tag")).to_have_text(unstable)
    await expect(page.locator("#list .tag")).to_have_count(2)
    degraded = {"en": "Degraded", "ko": "성능 저하"}[language]
    await expect(page.locator("#list li[data-id=face-liveness] .state")).to_contain_text(degraded)
    assert "reporter-who-is-private" not in await page.content()
    if javascript:
        await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
        width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "it fits a phone"
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    await shot(page, f"maintenance-{language}-{scheme}-{'script' if javascript else 'plain'}")


async def test_the_page_follows_a_maintenance_from_its_announcement_to_its_end(browse: Open, others: rig.World) -> None:
    """Seen red with the headline of services in maintenance counted like others', in the script."""
    page = await browse("/?lang=en")
    await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
    await expect(page.locator("#maintenance")).to_be_hidden()
    window = past.maintenance(**PLANNED)
    await others.say(rig.event(MaintenanceScheduledV1(maintenance=window), str(window.id), 1))
    await expect(page.locator("#planned")).to_contain_text("Announced")
    names = ("face-liveness", "id-recognition")
    await others.say(*(rig.changed(rig.status_of(name, Status.OPERATIONAL, version=2)) for name in names))
    begun = past.maintenance(key=window.id, **PLANNED, version=2, status=MaintenanceStatus.IN_PROGRESS)
    inside = rig.status_of("id-liveness", Status.MAJOR_OUTAGE, version=2, maintenance=window.id)
    await others.say(rig.event(MaintenanceStartedV1(maintenance=begun), str(window.id), 2), rig.changed(inside))
    await expect(page.locator("#planned")).to_contain_text("In progress")
    await expect(page.locator("#sentence")).to_have_text("Announced maintenance is in progress. Everything else is working.")
    await expect(page.locator("#list li[data-id=id-liveness] .state")).to_contain_text("Major outage")
    ended = past.maintenance(key=window.id, **PLANNED, version=3, status=MaintenanceStatus.COMPLETED)
    after = rig.status_of("id-liveness", Status.PARTIAL_OUTAGE, version=3, degraded=True)
    await others.say(rig.event(MaintenanceEndedV1(maintenance=ended), str(window.id), 3), rig.changed(after))
    await expect(page.locator("#maintenance")).to_be_hidden()
    await expect(page.locator("#sentence")).to_have_text("Some services answer, but not as they should.")
    await expect(page.locator("#list .tag")).to_have_count(0)


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_a_report_can_be_read_by_everybody_and_fits_a_phone(
    browse: Open, others: rig.World, running: rig.Running, database: Database, language: str
) -> None:
    """Seen red with tables that cannot be scrolled by keyboard, and with colours too faint."""
    others.owners.past.contracts["gold"] = past.contract()
    await rig.add_people(database)
    async with rig.signed_in(running, Role.VIEWER) as http:
        session = http.cookies["sla_session"]
    page = await browse(f"/?lang={language}", viewport=PHONE)
    await page.context.add_cookies([{"name": "sla_session", "value": session, "url": running.url}])
    address = f"{running.url}/api/v1/sla/contracts/gold/report?month=2026-03&format=html&language={language}"
    await page.goto(address)
    await expect(page.locator("html")).to_have_attribute("lang", language)
    await expect(page.locator("tbody tr").first).to_be_visible()
    width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], "it fits a phone"
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    await shot(page, f"report-{language}-phone")


async def test_the_page_says_when_its_source_is_lost(browse: Open, running: rig.Running) -> None:
    page = await browse("/?lang=ko", viewport=PHONE)
    await expect(page.locator("#freshness")).to_have_attribute("data-kind", "live")
    running.hub.set_live(live=False)
    await expect(page.locator("#freshness")).to_contain_text("실시간이 아닙니다")
    await shot(page, "stale-ko")


async def test_a_page_that_comes_back_to_a_replica_without_its_feed_does_not_say_live(browse: Open, running: rig.Running) -> None:
    page = await browse("/?lang=en")
    freshness = page.locator("#freshness")
    await expect(freshness).to_have_attribute("data-kind", "live")
    running.hub.cut_all(1012, "test")
    await expect(freshness).to_have_attribute("data-kind", "offline")
    running.hub.set_live(live=False)
    await expect(freshness).to_have_attribute("data-kind", "stale", timeout=10_000)
    await expect(freshness).to_contain_text("Not live")


async def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_inline(running: rig.Running) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        answer = await http.get("/", headers={"accept-language": "ko"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert '<html lang="ko"' in answer.text
        assert "http://" not in answer.text.replace(running.url, "")
        script = await http.get("/static/page.js")
        assert (await http.get("/static/page.js", headers={"if-none-match": script.headers["etag"]})).status_code == 304
        assert (await http.get("/static/../page.py")).status_code == 404


async def test_the_chosen_language_is_kept(browse: Open, running: rig.Running) -> None:
    page = await browse("/", locale="en-US")
    await page.click("text=한국어")
    await expect(page.locator("html")).to_have_attribute("lang", "ko")
    await page.goto(running.url)
    await expect(page.locator("html")).to_have_attribute("lang", "ko")
