"""The public page as people meet it."""

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from shared.contracts.codes import Status
from tests.browser.conftest import PHONE, Open, shot
from tests.integration.gateway import rig


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
