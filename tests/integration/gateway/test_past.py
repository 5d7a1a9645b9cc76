"""REST of the past: what is asked of its owner and how, what is refused before, what is on record, and reports as files."""

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
from pypdf import PdfReader

from services.gateway.api.reasons import PATTERNS, PERCENTAGE
from services.gateway.web.reports import making
from services.gateway.web.reports.press import Press
from shared.contracts.codes import Role, Status
from shared.contracts.commands import INCIDENTS_RPC, MAINTENANCE_LIST
from tests.integration.gateway import past, rig
from tests.integration.gateway.conftest import Chooser
from tests.integration.gateway.test_rest import PROMISE, SPAN, is_problem
from tests.servers import Database, Vhost
from tests.waiting import until

SERVICE = "/api/v1/services/face-compare"
CONTRACT = "/api/v1/sla/contracts/gold"
REPORT = f"{CONTRACT}/report"
WHY = {"reason": "A slip of the pen"}
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


def asked(others: rig.World, what: str) -> list[Any]:
    """Return what was asked of the owners under a name."""
    return [params for name, params in others.owners.past.asked if name == what]


async def test_a_question_reaches_its_owner_as_it_was_meant_and_is_kept_for_a_while(running: rig.Running, others: rig.World) -> None:
    """Seen red with `as_of` not passed on, without the cache, and without the history of statuses."""
    async with rig.signed_in(running, Role.VIEWER) as http:
        for _ in range(3):
            params = MARCH | {"contract": "gold", "as_of": "2026-03-20T09:00:00+09:00"}
            audit = (await http.get(f"{SERVICE}/uptime/audit", params=params)).json()
            assert audit["digest"] == "ab" * 32
            assert audit["as_of"] == "2026-03-20T00:00:00.000Z"
        (query,) = asked(others, "audit")
        assert (query.starts_at, query.ends_at, query.contract_id) == (past.START, past.END, "gold")
        assert query.as_of == datetime(2026, 3, 20, tzinfo=UTC)
        assert (await http.get(f"{SERVICE}/timeline")).json()["intervals"][0]["state"] == "up"
        (period,) = asked(others, "timeline")
        assert period.ends_at - period.starts_at == timedelta(days=30, minutes=1)
        (status,) = (await http.get(f"{SERVICE}/status/history", params=MARCH)).json()["intervals"]
        assert (status["detected_at"], status["evidence"]["regions_down"]) == ("2026-03-02T00:01:00.000Z", ["eu-west"])
        assert [(one.starts_at, one.ends_at) for one in asked(others, "statuses")] == [(past.START, past.END)]
        series = await http.get(f"{SERVICE}/response-times/series", params=MARCH | {"region": "eu", "points": "500"})
        assert series.json()["whole"]["p99"] == 31.5
        assert asked(others, "series")[0].points == 500
        rules: dict[str, Any] = {"from": MARCH["from"], "to": "2026-03-31T00:00:00Z", "failure_threshold": 5, "quorum": "all"}
        rules |= {"regions": ["eu"]}
        dry = await http.post(f"{SERVICE}/dry-run", json=rules)
        assert dry.json()["would_be_uptime_percentage"] == 99.9
        tried = asked(others, "dry_run")[0]
        assert (tried.failure_threshold, tried.quorum, tried.regions) == (5, "all", ("eu",))


async def test_history_goes_up_to_now_and_is_kept_by_the_question(running: rig.Running, others: rig.World) -> None:
    """And a timeline beyond it.

    Seen red with the minute that is not over left out, with a timeline that ends now, with the moment among what answers are kept by,
    and with `from` not.
    """
    before = datetime.now(UTC)
    first, second = ((before - timedelta(days=days)).replace(microsecond=0) for days in (3, 2))
    elsewhere = first.astimezone(ZoneInfo("Asia/Seoul"))
    async with rig.signed_in(running, Role.VIEWER) as http:
        for path in ("timeline", "status/history", "uptime/audit", "response-times/series"):
            for start in (None, None, first, elsewhere, second):
                params = {"from": start.isoformat()} if start else {}
                assert (await http.get(f"{SERVICE}/{path}", params=params)).status_code == 200
    assert all(one.ends_at > datetime.now(UTC) for one in asked(others, "timeline")), "what goes on is told without an end"
    for name in ("statuses", "audit", "series"):
        asked_for = asked(others, name)
        assert all(before - timedelta(milliseconds=1) <= one.ends_at <= datetime.now(UTC) for one in asked_for)
        assert [one.starts_at for one in asked_for[1:]] == [first, second]


async def test_a_time_that_cannot_be_meant_is_refused_by_its_field(running: rig.Running, others: rig.World) -> None:
    """Seen red without the bound on the length."""
    wrong: list[tuple[str, dict[str, str], str]] = [
        ("uptime/audit", {"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "from"),
        ("uptime/audit", {"from": "2020-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "from"),
        ("uptime/audit", {"from": "2126-03-02T00:00:00Z"}, "from"),
        ("uptime/audit", {"from": "2026-03-01"}, "from"),
        ("uptime/audit", {"as_of": "yesterday"}, "as_of"),
        ("uptime/audit", {"contract": "\0"}, "contract"),
        ("timeline", {"to": "0001-01-01T00:00:00Z"}, "to"),
        ("status/history", {"from": "2020-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "from"),
        ("response-times/series", {"points": "501"}, "points"),
        ("response-times/series", {"from": "2010-01-01T00:00:00Z"}, "from"),
    ]
    bodies: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", f"{SERVICE}/dry-run", {"failure_threshold": 0}, "failure_threshold"),
        ("POST", f"{SERVICE}/dry-run", {"quorum": "most"}, "quorum"),
        ("POST", f"{SERVICE}/dry-run", {"regions": [""]}, "regions.0"),
        ("POST", f"{SERVICE}/dry-run", {"check_interval": 60_000}, "check_interval"),
        ("POST", f"{SERVICE}/dry-run", {"timeout": 500}, "timeout"),
        ("POST", f"{SERVICE}/dry-run", {"from": "2020-01-01T00:00:00Z"}, "from"),
        ("POST", f"{SERVICE}/dry-run", {"faliure_threshold": 2}, "faliure_threshold"),
        ("POST", f"{SERVICE}/corrections", SPAN | {"state": "fine", "reason": "x"}, "state"),
        ("POST", f"{SERVICE}/corrections", SPAN | {"state": "up", "reason": ""}, "reason"),
        ("POST", f"{SERVICE}/corrections", SPAN | {"state": "up", "reason": "x", "starts_at": SPAN["ends_at"]}, "ends_at"),
        ("POST", f"{SERVICE}/corrections", SPAN | {"state": "up", "reason": "x", "ends_at": "2126-01-01T00:00:00Z"}, "ends_at"),
        ("PUT", CONTRACT, PROMISE | {"target": "100.01"}, "target"),
        ("PUT", CONTRACT, PROMISE | {"target": "0"}, "target"),
        ("PUT", CONTRACT, PROMISE | {"time_zone": "Mars/Olympus"}, "time_zone"),
        ("PUT", CONTRACT, PROMISE | {"time_zone": "America"}, "time_zone"),
        ("PUT", CONTRACT, PROMISE | {"services": ["nobody"]}, "services"),
        ("PUT", CONTRACT, PROMISE | {"partial_share": "0.4"}, "partial_share"),
        ("PUT", CONTRACT, PROMISE | {"count_unkown": True}, "count_unkown"),
        ("PUT", "/api/v1/sla/contracts/Not-Kebab", PROMISE, "id"),
        ("POST", f"{CONTRACT}/exclusions", SPAN | {"reason": "x", "ends_at": SPAN["starts_at"]}, "ends_at"),
        ("POST", "/api/v1/maintenances", SPAN | {"title": "x", "services": ["nobody"]}, "services"),
        ("POST", "/api/v1/maintenances", SPAN | {"title": "x", "services": ["face-compare"], "ends_at": SPAN["starts_at"]}, "ends_at"),
        ("PATCH", f"/api/v1/maintenances/{uuid4()}", {"status": "completed"}, "status"),
    ]
    async with rig.signed_in(running, Role.ADMIN) as http:
        for path, params, field in wrong:
            problem = is_problem(await http.get(f"{SERVICE}/{path}", params=params), 422)
            assert field in {one["field"] for one in problem["errors"]}, (path, params, problem)
        for method, path, body, field in bodies:
            problem = is_problem(await http.request(method, path, json=body), 422)
            assert field in {one["field"] for one in problem["errors"]}, (path, body, problem)
        for asked_for in ({"first_day": "2126-01-01"}, {"first_day": "2026-02-30"}, {"month": "2026-03", "first_day": "2026-03-02"}):
            assert is_problem(await http.get(REPORT, params=asked_for), 422)["errors"][0]["field"] == "first_day"
        for month in ("2026-13", "2126-01", "March", "2026-3"):
            assert is_problem(await http.get(REPORT, params={"month": month}), 422)["errors"][0]["field"] == "month"
        is_problem(await http.get(f"{SERVICE}/%00/timeline"), 404)
        is_problem(await http.get("/api/v1/sla/contracts/no_such/standing"), 404)
        is_problem(await http.get(REPORT), 404)
        is_problem(await http.post(f"/api/v1/corrections/{uuid4()}/revoke", json=WHY), 404)
        for address in (f"/api/v1/corrections/{uuid4()}/revoke", f"{CONTRACT}/exclusions/{uuid4()}/revoke"):
            assert is_problem(await http.post(address, json={"reason": " "}), 422)["errors"][0]["field"] == "reason"
        is_problem(await http.post(f"{CONTRACT}/exclusions/{uuid4()}/revoke", json=WHY), 404)
        is_problem(await http.get("/api/v1/sla/contracts/no-such/exclusions"), 404)
        is_problem(await http.post(f"/api/v1/maintenances/{uuid4()}/end"), 404)
        key = is_problem(await http.post(f"{SERVICE}/corrections", json=SPAN, headers={"idempotency-key": "mine"}), 422)
        assert key["errors"][0]["field"] == "idempotency-key"
    assert {name for name, _ in others.owners.past.asked} <= {"maintenances", "change", "report"}


async def test_what_is_wrong_is_said_in_a_sentence_that_says_what_to_send(running: rig.Running) -> None:
    """Seen red with pydantic's own words, and with a length of ids that is not the owner's."""
    id_ = "needs small letters, digits and single hyphens between them, at most 63: eu-gold"
    moment = "must be a moment with its time zone, as 2026-03-01T09:00:00Z is"
    bodies: list[tuple[str, dict[str, Any], str, str]] = [
        ("contracts/Not-Kebab", PROMISE, "id", id_),
        (f"contracts/{'x' * 64}", PROMISE, "id", id_),
        ("contracts/gold%0A", PROMISE, "id", id_),
        ("contracts/gold", PROMISE | {"target": "100.01"}, "target", PATTERNS[PERCENTAGE]),
        ("contracts/gold", PROMISE | {"target": "much"}, "target", PATTERNS[PERCENTAGE]),
        ("contracts/gold", PROMISE | {"time_zone": "Mars"}, "time_zone", "must be a time zone of the IANA database, as Asia/Seoul is"),
        ("contracts/gold", PROMISE | {"partial_share": "0.4"}, "partial_share", "must be '0', '0.3', '0.5' or '1'"),
        ("contracts/gold", PROMISE | {"period": "week"}, "period", "must be 'month', 'quarter' or 'rolling'"),
        ("contracts/gold", PROMISE | {"services": []}, "services", "needs at least 1, not 0"),
        ("contracts/gold", PROMISE | {"name": ""}, "name", "needs at least 1 characters"),
        ("contracts/gold", PROMISE | {"name": "x" * 201}, "name", "takes at most 200 characters"),
        ("contracts/gold", PROMISE | {"rolling_days": 0}, "rolling_days", "must be at least 1"),
        ("contracts/gold", PROMISE | {"rolling_days": 1.5}, "rolling_days", "must be a whole number"),
        ("contracts/gold", PROMISE | {"count_unknown": "yes"}, "count_unknown", "must be true or false"),
        ("contracts/gold", PROMISE | {"count_unkown": True}, "count_unkown", "is not known here: leave it out, or look at its spelling"),
        ("contracts/gold", {}, "target", "is required"),
    ]
    reads: list[tuple[str, dict[str, str], str, str]] = [
        (f"{SERVICE}/timeline", {"from": "2026-03-01"}, "from", moment),
        (f"{SERVICE}/timeline", {"from": "yesterday"}, "from", moment),
        (f"{SERVICE}/timeline", {"from": "2026-03-01T00:00:00"}, "from", moment),
        (f"{SERVICE}/response-times/series", {"points": "501"}, "points", "must be at most 500"),
        (f"{SERVICE}/uptime/audit", {"contract": "\0"}, "contract", "must be some text without a zero byte"),
        (REPORT, {"month": "March"}, "month", "must be a month, as 2026-03 is"),
        (REPORT, {"first_day": "2026-02-30"}, "first_day", "must be a day, as 2026-03-01 is"),
    ]
    async with rig.signed_in(running, Role.ADMIN) as http:
        answers = [(await http.put(f"/api/v1/sla/{path}", json=body), field, said) for path, body, field, said in bodies]
        answers += [(await http.get(path, params=params), field, said) for path, params, field, said in reads]
        timeout = await http.post(f"{SERVICE}/dry-run", json={"timeout": 500})
        answers.append((timeout, "timeout", "cannot be tried on stored results: checks that were not made then cannot be made now"))
    for answer, field, reason in answers:
        assert {"field": field, "reason": reason} in is_problem(answer, 422)["errors"], answer.text


async def test_what_was_corrected_is_read_at_once_and_is_on_record(running: rig.Running, others: rig.World, database: Database) -> None:
    """Seen red with answers kept across a correction, the daily records among them."""
    key = str(uuid4())
    async with rig.signed_in(running, Role.ADMIN) as http:
        assert (await http.get(f"{SERVICE}/corrections")).json() == {"corrections": []}
        assert (await http.get(f"{SERVICE}/uptime")).is_success
        for _ in range(2):
            body = SPAN | {"state": "up", "reason": "Our own network"}
            made = await http.post(f"{SERVICE}/corrections", json=body, headers={"idempotency-key": key})
            assert (made.status_code, made.json()["id"], made.json()["made_by"]) == (201, key, "admin")
        assert len((await http.get(f"{SERVICE}/corrections")).json()["corrections"]) == 1
        assert (await http.get(f"{SERVICE}/uptime")).is_success
        assert [what for what, _ in others.owners.asked].count("uptime") == 2, "asked anew, as a correction changes downtime"
        revoked = await http.post(f"/api/v1/corrections/{key}/revoke", json=WHY)
        assert (revoked.json()["revoked_by"], revoked.json()["revoked_reason"]) == ("admin", WHY["reason"])
        assert (await http.get(f"{SERVICE}/corrections")).json()["corrections"][0]["revoked_by"] == "admin"
        assert (await http.put(CONTRACT, json=PROMISE)).json()["version"] == 1
        assert (await http.get(CONTRACT)).json()["name"] == "Gold"
        excluded = await http.post(f"{CONTRACT}/exclusions", json=SPAN | {"reason": "Power cut"}, headers={"idempotency-key": key})
        assert excluded.json()["exclusions"][0]["id"] == key
        assert len((await http.get("/api/v1/sla/contracts")).json()["contracts"][0]["exclusions"]) == 1
        assert (await http.put(CONTRACT, json=PROMISE | {"name": "Gold 2"})).json()["exclusions"][0]["reason"] == "Power cut"
        assert (await http.get(f"{CONTRACT}/exclusions")).json()["exclusions"][0]["revoked_by"] is None
        regretted = await http.post(f"{CONTRACT}/exclusions/{key}/revoke", json=WHY)
        assert (regretted.status_code, regretted.json()["revoked_by"], regretted.json()["revoked_reason"]) == (200, "admin", WHY["reason"])
        assert (await http.get(CONTRACT)).json()["exclusions"] == []
        assert (await http.get(f"{CONTRACT}/exclusions")).json()["exclusions"] == [regretted.json()]
        assert (await http.get(f"{CONTRACT}/standing")).json()["worst"] == "id-liveness"
        assert (await http.delete(CONTRACT)).status_code == 204
        is_problem(await http.get(CONTRACT), 404)
    assert UUID(key) in others.owners.past.corrections
    conn = await asyncpg.connect(database.url("gateway"))
    rows = await conn.fetch("select actor, action, subject, outcome from audit_log where action <> 'session.open' order by id")
    await conn.close()
    assert [tuple(row) for row in rows] == [
        ("admin", "correction.make", f"face-compare {key}", "done"),
        ("admin", "correction.make", f"face-compare {key}", "done"),
        ("admin", "correction.revoke", key, "done"),
        ("admin", "contract.put", "gold", "done"),
        ("admin", "contract.exclude", f"gold {key}", "done"),
        ("admin", "contract.put", "gold", "done"),
        ("admin", "contract.revoke_exclusion", f"gold {key}", "done"),
        ("admin", "contract.remove", "gold", "done"),
    ]


async def test_a_report_is_data_a_page_a_pdf_or_a_table_and_its_page_runs_nothing(running: rig.Running, others: rig.World) -> None:
    others.owners.past.contracts["gold"] = past.contract()
    async with rig.signed_in(running, Role.VIEWER) as http:
        data = (await http.get(REPORT, params={"month": "2026-03"})).json()
        assert data["digest"] == "ef" * 32
        assert str(asked(others, "report")[0].first_day) == "2026-03-01"
        page = await http.get(REPORT, params={"month": "2026-03", "format": "html", "language": "ko"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-language"] == "ko"
        assert "script-src" not in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert "face-compare 서비스" in page.text
        paper = await http.get(REPORT, params={"month": "2026-03", "format": "pdf", "language": "en"})
        assert paper.headers["content-type"] == "application/pdf"
        assert paper.headers["content-disposition"] == 'inline; filename="sla-gold-2026-03-01-en.pdf"'
        assert "SLA report" in PdfReader(io.BytesIO(paper.content)).pages[0].extract_text()
        table = await http.get(REPORT, params={"month": "2026-03", "format": "csv", "rows": "outages"})
        assert table.headers["content-disposition"].startswith("attachment")
        assert len(table.text.splitlines()) == 6
        assert (await http.get(REPORT, params={"first_day": "2026-03-15"})).status_code == 200
        assert str(asked(others, "report")[-1].first_day) == "2026-03-15"
        spoken = await http.get(REPORT, params={"format": "html"}, headers={"accept-language": "ko-KR,ko;q=0.9"})
        assert '<html lang="ko">' in spoken.text
    assert asked(others, "report")[-1].first_day is None, "which window ended last is for the contract's owner to say"


async def test_drawing_holds_nobody_up_and_too_many_are_told_to_come_again(
    running: rig.Running, others: rig.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is done beside: test_press.py. Seen red without the limit."""
    others.owners.past.contracts["gold"] = past.contract()
    released = asyncio.Event()

    async def drawing(_press: Press, _told: object) -> bytes:
        await asyncio.wait_for(released.wait(), 10)
        return b"%PDF-"

    monkeypatch.setattr(Press, "pdf", drawing)
    monkeypatch.setattr(making, "MOST_WAITING", 3)
    async with rig.signed_in(running, Role.VIEWER) as http:
        waiting = {asyncio.create_task(http.get(REPORT, params={"month": "2026-03", "format": "pdf"})) for _ in range(5)}
        refused: list[httpx.Response] = []
        while len(refused) < 2:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused += [one.result() for one in done]
        assert (await http.get("/api/v1/status")).status_code == 200
        released.set()
        drawn = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in drawn] == [200, 200, 200]
    for answer in refused:
        is_problem(answer, 503)


async def test_maintenance_is_planned_by_reporters_and_shown_to_everybody(running: rig.Running, others: rig.World) -> None:
    plan = {"title": "Upgrade", "description": "Slow answers", "services": ["face-compare"]}
    times = {"starts_at": "2126-03-02T01:00:00Z", "ends_at": "2126-03-02T03:00:00Z"}
    key = str(uuid4())
    async with rig.signed_in(running, Role.REPORTER) as http:
        for _ in range(2):
            made = await http.post("/api/v1/maintenances", json=plan | times, headers={"idempotency-key": key})
            assert (made.status_code, made.json()["id"], made.json()["status"]) == (201, key, "scheduled")
        shown = (await running.status())["maintenances"]
        assert [(one["title"], one["services"]) for one in shown] == [("Upgrade", ["face-compare"])]
        assert "created_by" not in shown[0]
        changed = await http.patch(f"/api/v1/maintenances/{key}", json={"title": "Longer upgrade"})
        assert (changed.json()["title"], changed.json()["version"]) == ("Longer upgrade", 2)
        listed = (await http.get("/api/v1/maintenances", params={"service": "face-compare"})).json()
        assert (listed["complete"], [one["title"] for one in listed["maintenances"]]) == (True, ["Longer upgrade"])
        assert (await http.post(f"/api/v1/maintenances/{key}/end")).json()["status"] == "cancelled"
        assert (await running.status())["maintenances"] == []
    assert len(others.owners.past.maintenances) == 1


@pytest.mark.usefixtures("people")
async def test_windows_are_known_from_the_owner_when_a_replica_starts_and_from_memory_while_the_owner_is_away(
    choose: Chooser, vhost: Vhost
) -> None:
    """Seen red without maintenance in the bootstrap, and without it in the saved snapshot."""
    owners = rig.Owners(services={"face-compare": rig.definition()})
    window = past.maintenance()
    owners.past.maintenances[window.id] = window
    async with rig.world(vhost.amqp_url, owners), rig.gateway(choose()) as one:
        await one.ready()

        async def known() -> bool:
            return len((await one.status()).get("maintenances", [])) == 1

        await until(known, within_s=10, what="the window that its owner knows")
    async with rig.gateway(choose()) as other:

        async def shown() -> bool:
            return len((await other.status()).get("maintenances", [])) == 1

        await until(shown, within_s=20, what="the window of the saved snapshot")
        async with rig.signed_in(other, Role.VIEWER) as http:
            listed = (await http.get("/api/v1/maintenances")).json()
            assert (listed["complete"], len(listed["maintenances"])) == (False, 1)


@pytest.mark.usefixtures("people")
async def test_an_owner_of_the_version_before_that_knows_no_maintenance_does_not_keep_the_page_from_starting(
    choose: Chooser, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen red with maintenance asked for before a replica is ready."""
    owners = rig.Owners(services={"face-compare": rig.definition()})
    without = owners.answers()
    without[INCIDENTS_RPC] = {method: answer for method, answer in without[INCIDENTS_RPC].items() if method is not MAINTENANCE_LIST}
    monkeypatch.setattr(owners, "answers", lambda: without)
    async with rig.world(vhost.amqp_url, owners), rig.gateway(choose()) as one:
        await one.ready()
        assert (await one.status())["maintenances"] == []


async def test_rest_says_why_a_status_is_what_it_is(running: rig.Running, others: rig.World) -> None:
    window = uuid4()
    news: dict[str, Any] = {"degraded": True, "maintenance": window, "flapping": True, "muted_by": f"maintenance:{window}"}
    await others.say(rig.changed(rig.status_of(status=Status.PARTIAL_OUTAGE, version=2, **news)))
    async with rig.signed_in(running, Role.VIEWER) as http:

        async def arrived() -> bool:
            return bool((await http.get(SERVICE)).json()["status_version"] == 2)

        await until(arrived, within_s=10, what="the event")
        one = (await http.get(SERVICE)).json()
    assert (one["status"], one["status_word"], one["degraded"], one["flapping"]) == ("po", "degraded", True, True)
    assert (one["maintenance"], one["muted_by"]) == (str(window), f"maintenance:{window}")
    assert {"first_failed_at", "confirmed_at", "reason"} <= one["evidence"].keys()
    public = (await running.status())["services"][0]
    assert "muted_by" not in public
    assert (public["status_word"], public["maintenance"]) == ("degraded", str(window))


async def test_without_a_session_nothing_of_the_past_is_told(running: rig.Running) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        for path in (REPORT, f"{SERVICE}/uptime/audit", "/api/v1/maintenances"):
            is_problem(await http.get(path), 401)
