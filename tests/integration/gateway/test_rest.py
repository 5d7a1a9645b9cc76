"""REST as its users meet it: closed unless a role opens it, and every error says what is wrong."""

import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi.routing import APIRoute

from services.gateway.api.access import NEEDS, PUBLIC, SECRET_ADDRESSES, guard
from services.gateway.api.app import rest_app
from services.gateway.domain.roles import may
from services.gateway.usecases import NoSuchUser, NotAcceptable, UserExists, create_user, reset_password
from shared.contracts.codes import Role, Status
from tests.integration.gateway import past, rig
from tests.integration.gateway.conftest import Chooser
from tests.integration.gateway.described import conforms, reference
from tests.proxy import running_proxy
from tests.servers import Database
from tests.waiting import until

DRAFT = {"id": "new-one", "name": "new-one"}
INCIDENT = {"title": "Slow", "message": "We look", "severity": "high", "affected_services": ["face-compare"]}
SPAN = {"starts_at": "2026-03-14T09:00:00Z", "ends_at": "2026-03-14T10:00:00Z"}
PROMISE = {"name": "Gold", "target": "99.95", "period": "month", "services": ["face-compare"]}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/services"): DRAFT,
    ("PATCH", "/api/v1/services/{service_id}"): {"description": "new"},
    ("POST", "/api/v1/services/apply"): {"definitions": [DRAFT]},
    ("POST", "/api/v1/checks/try"): DRAFT,
    ("POST", "/api/v1/services/{service_id}/response-times"): {"calls": [rig.call()]},
    ("POST", "/api/v1/incidents"): INCIDENT,
    ("POST", "/api/v1/incidents/{incident_id}/updates"): {"status": "identified", "message": "Found it"},
    ("POST", "/api/v1/services/{service_id}/dry-run"): {"failure_threshold": 5},
    ("POST", "/api/v1/services/{service_id}/corrections"): SPAN | {"state": "up", "reason": "The probe's own network was down"},
    ("PUT", "/api/v1/sla/contracts/{contract_id}"): PROMISE,
    ("POST", "/api/v1/sla/contracts/{contract_id}/exclusions"): SPAN | {"reason": "Power cut"},
    ("POST", "/api/v1/sla/contracts/{contract_id}/exclusions/{exclusion_id}/revoke"): {"reason": "A slip of the pen"},
    ("POST", "/api/v1/corrections/{correction_id}/revoke"): {"reason": "A slip of the pen"},
    ("POST", "/api/v1/maintenances"): SPAN | {"title": "Upgrade", "services": ["face-compare"]},
    ("PATCH", "/api/v1/maintenances/{maintenance_id}"): {"title": "Longer upgrade"},
}


def addressed(path: str, key: UUID) -> str:
    """Return a route's path with its parameters filled in."""
    filled = path.replace("{service_id}", "face-compare").replace("{contract_id}", "gold")
    return re.sub(r"\{[a-z]+_id\}", str(key), filled)


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem in its whole form, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


def routes() -> list[tuple[str, str]]:
    """Return every route of the application, and fail on one that the guard does not stand before."""
    found = []
    for route in rest_app(None).routes:  # type: ignore[arg-type]  # only looked at
        for one in getattr(getattr(route, "original_router", None), "routes", [route]):
            assert isinstance(one, APIRoute), f"{one} bypasses the guard"
            found += [(method, one.path) for method in one.methods or ()]
    return found


def test_every_route_needs_a_role_or_is_listed_as_public() -> None:
    """Seen red with a route added that access.py does not name, and with one added by `app.add_route`."""
    app = rest_app(None)  # type: ignore[arg-type]  # only looked at
    assert [one.dependency for one in app.router.dependencies] == [guard]
    found = set(routes())
    assert found <= set(NEEDS) | PUBLIC | SECRET_ADDRESSES
    assert set(NEEDS) <= found


async def test_nobody_gets_in_without_a_session(running: rig.Running) -> None:
    for cookies in ({}, {"sla_session": "invented"}):
        async with httpx.AsyncClient(base_url=running.url, cookies=cookies) as http:
            for method, path in NEEDS:
                answer = await http.request(method, addressed(path, UUID(int=0)), content=b"not even json")
                is_problem(answer, 401)


@pytest.mark.parametrize("role", Role)
async def test_each_role_gets_exactly_what_it_may(running: rig.Running, others: rig.World, role: Role) -> None:
    known = rig.incident()
    others.owners.incidents[known.id] = known
    there = others.owners.past
    there.contracts["gold"] = past.contract(exclusions=(past.contract().exclusions[0].model_copy(update={"id": known.id}),))
    there.corrections[known.id] = past.correction(id=known.id)
    there.maintenances[known.id] = past.maintenance(key=known.id)
    async with rig.signed_in(running, role) as http:
        for (method, path), action in sorted(NEEDS.items(), key=lambda need: need[0][0] == "DELETE"):
            answer = await http.request(method, addressed(path, known.id), json=BODIES.get((method, path)))
            if may(role, action):
                assert answer.is_success, (method, path, answer.text)
            else:
                is_problem(answer, 403)


@pytest.mark.usefixtures("others")
async def test_every_error_is_a_problem(running: rig.Running) -> None:
    async with rig.signed_in(running, Role.ADMIN) as http:
        is_problem(await http.get("/nowhere"), 404)
        is_problem(await http.put("/api/v1/services"), 405)
        is_problem(await http.get("/api/v1/services/unknown"), 404)
        is_problem(await http.get("/api/v1/incidents/not-a-uuid"), 422)
        is_problem(await http.get(f"/api/v1/incidents/{uuid4()}"), 404)
        is_problem(await http.post("/api/v1/services", content=b"{", headers={"content-type": "application/json"}), 400)
        is_problem(await http.post("/api/v1/services", content=b"[]", headers={"content-type": "application/json"}), 422)
        is_problem(await http.post("/api/v1/services", content=b"a=b"), 415)
        is_problem(await http.post("/api/v1/services", json={"x": "y" * 300_000}), 413)
        refused = is_problem(await http.post("/api/v1/services", json={"id": "x"}), 422)
        assert refused["errors"] == [{"field": "name", "reason": "is needed"}]
        for days in ("0", "367", "x"):
            assert is_problem(await http.get(f"/api/v1/services/face-compare/uptime?days={days}"), 422)["errors"][0]["field"] == "days"
        unknown = is_problem(await http.post("/api/v1/incidents", json=INCIDENT | {"affected_services": ["nobody"]}), 422)
        assert unknown["errors"][0]["field"] == "affected_services"
        missing = is_problem(await http.post("/api/v1/incidents", json={}), 422)
        assert {one["field"] for one in missing["errors"]} == {"title", "message", "severity", "affected_services"}


NUL, HALF = '"a\\u0000"', '"a\\ud800"'
"""JSON of text that no database takes: a NUL, and half of a surrogate pair."""


@pytest.mark.parametrize("bad", [NUL, HALF])
async def test_text_that_cannot_be_stored_is_refused_by_its_field(
    running: rig.Running, others: rig.World, database: Database, bad: str
) -> None:
    async def refused(http: httpx.AsyncClient, path: str, body: str, field: str) -> None:
        answer = await http.post(path, content=body, headers={"content-type": "application/json"})
        assert [one["field"] for one in is_problem(answer, 422)["errors"]] == [field]

    async with httpx.AsyncClient(base_url=running.url) as http:
        await refused(http, "/api/v1/session", f'{{"username": {bad}, "password": "x"}}', "username")
        await refused(http, "/api/v1/session", f'{{"username": "x", "password": {bad}}}', "password")
    async with rig.signed_in(running, Role.ADMIN) as http:
        for body, field in (
            (f'{{"id": {bad}}}', "id"),
            (f'{{"options": {{"headers": [{{"x": {bad}}}]}}}}', "options.headers.0.x"),
            (f'{{"options": {{{bad}: 1}}}}', f"options.{bad[1:-1].replace('u0000', 'x00')}"),
        ):
            await refused(http, "/api/v1/services", body, field)
        title = f'{{"title": {bad}, "message": "m", "severity": "high", "affected_services": ["face-compare"]}}'
        await refused(http, "/api/v1/incidents", title, "title")
    assert not others.owners.asked
    conn = await asyncpg.connect(database.url("gateway"))
    assert await conn.fetchval("select count(*) from audit_log where action <> 'session.open'") == 0
    await conn.close()


async def test_an_address_that_nothing_can_have_is_refused_before_anything_is_asked(running: rig.Running, others: rig.World) -> None:
    async with rig.signed_in(running, Role.ADMIN) as http:
        is_problem(await http.patch("/api/v1/services/%00", json={"description": "new"}), 404)
        is_problem(await http.delete("/api/v1/services/%00"), 404)
        is_problem(await http.get("/api/v1/services/%00"), 404)
        is_problem(await http.get("/api/v1/services/%00/uptime"), 404)
        is_problem(await http.patch(f"/api/v1/services/{'x' * 201}", json={"description": "new"}), 404)
        for name, value in (
            ("service", "\0"),
            ("before", "0001-01-01T00:00:00+14:00"),
            ("before", "9999-12-31T23:59:59-14:00"),
        ):
            problem = is_problem(await http.get("/api/v1/incidents", params={name: value}), 422)
            assert problem["errors"][0]["field"] == name
        assert (await http.get("/api/v1/incidents", params={"before": "2026-03-01T09:00:00+09:00"})).status_code == 200
    assert not others.owners.asked


@pytest.mark.usefixtures("people")
async def test_a_command_that_is_not_answered_says_whether_it_may_have_been_applied(choose: Chooser, others: rig.World) -> None:
    async with rig.gateway(choose(rpc_timeout_s=0.5)) as one:
        await one.ready()
        async with rig.signed_in(one, Role.ADMIN) as http:
            others.owners.silent.add("create")
            assert "may have been applied" in is_problem(await http.post("/api/v1/services", json=DRAFT), 504)["detail"]


@pytest.mark.usefixtures("people")
async def test_without_the_owners_commands_are_refused_and_reading_goes_on(choose: Chooser, vhost: Any) -> None:  # noqa: ANN401  # the fixture's
    owners = rig.Owners(services={"face-compare": rig.definition()})
    async with rig.gateway(choose()) as one:
        async with rig.world(vhost.amqp_url, owners):
            await one.ready()
            async with rig.signed_in(one, Role.ADMIN) as http:
                assert (await http.get("/api/v1/incidents")).json()["complete"] is True
        async with rig.signed_in(one, Role.ADMIN) as http:
            assert "It was not applied" in is_problem(await http.post("/api/v1/services", json=DRAFT), 503)["detail"]
            assert (await http.get("/api/v1/services")).json()["services"][0]["id"] == "face-compare"
            assert (await http.get("/api/v1/incidents")).json()["complete"] is False
            is_problem(await http.get("/api/v1/services/face-compare/uptime"), 503)


async def test_what_was_written_is_read_at_once_and_is_on_record(running: rig.Running, database: Database) -> None:
    async with rig.signed_in(running, Role.ADMIN) as http:
        created = await http.post("/api/v1/services", json=DRAFT, headers={"x-request-id": "my-request-7"})
        assert created.status_code == 201
        assert created.headers["x-request-id"] == "my-request-7"
        assert (created.json()["status"], created.json()["status_word"]) == ("nd", "no_data")
        assert (await http.get(created.headers["location"])).json()["id"] == "new-one"
        assert (await http.delete("/api/v1/services/new-one")).status_code == 204
        is_problem(await http.get("/api/v1/services/new-one"), 404)
        await http.post("/api/v1/services", json={"id": "refused"})
    conn = await asyncpg.connect(database.url("gateway"))
    rows = await conn.fetch("select actor, action, subject, outcome, correlation_id, details from audit_log order by id")
    await conn.close()
    said = [(row["actor"], row["action"], row["subject"], row["outcome"]) for row in rows]
    assert said == [
        ("admin", "session.open", "admin", "done"),
        ("admin", "service.create", "new-one", "done"),
        ("admin", "service.remove", "new-one", "done"),
        ("admin", "service.create", "refused", "refused"),
    ]
    assert rows[1]["correlation_id"] == "my-request-7"


async def test_sign_in_sets_a_cookie_that_scripts_and_other_sites_do_not_get(running: rig.Running) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        answer = await http.post("/api/v1/session", json={"username": " Admin ", "password": rig.PASSWORD})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert (await http.get("/api/v1/session")).json()["role"] == "admin"
        assert (await http.delete("/api/v1/session")).status_code == 204
        is_problem(await http.get("/api/v1/session"), 401)
        forged = {"origin": "https://evil.example"}
        is_problem(await http.post("/api/v1/session", json={"username": "admin", "password": rig.PASSWORD}, headers=forged), 403)


@pytest.mark.parametrize("username", ["admin", "nobody-is-called-so"])
async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(running: rig.Running, username: str) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        for password in ("wrong password 1", "x" * 100, rig.PASSWORD + "x" * 72):
            problem = is_problem(await http.post("/api/v1/session", json={"username": username, "password": password}), 401)
            assert problem["detail"] == "The user name or the password is wrong."


@pytest.mark.parametrize("with_redis", [True, False])
@pytest.mark.usefixtures("others", "people")
async def test_guessing_is_slowed_down_also_across_replicas(choose: Chooser, *, with_redis: bool) -> None:
    chosen = choose(sign_in_attempts=3, **({} if with_redis else {"redis_url": "redis://127.0.0.1:1/0"}))
    async with rig.gateway(chosen) as one, rig.gateway(chosen) as two:
        async with rig.signed_in(one, Role.VIEWER):
            pass
        async with httpx.AsyncClient() as http:

            async def attempt(where: rig.Running, name: str) -> int:
                return (await http.post(f"{where.url}/api/v1/session", json={"username": name, "password": "a wrong one"})).status_code

            assert [await attempt(one, "admin") for _ in range(5)] == [401, 401, 401, 429, 429]
            assert await attempt(one, "reporter") == 401
            if with_redis:
                assert await attempt(two, "admin") == 429


async def test_a_new_password_ends_the_sessions(running: rig.Running, database: Database) -> None:
    conn = await asyncpg.connect(database.url("gateway"))
    try:
        async with rig.signed_in(running, Role.VIEWER) as http:
            assert (await http.get("/api/v1/session")).status_code == 200
            await reset_password(conn, username="viewer", password="another long one", cost=4)
            is_problem(await http.get("/api/v1/session"), 401)
        async with rig.signed_in(running, Role.REPORTER) as http:
            await conn.execute("update users set is_active = false where username = 'reporter'")
            is_problem(await http.get("/api/v1/session"), 401)
            is_problem(await http.post("/api/v1/session", json={"username": "reporter", "password": rig.PASSWORD}), 401)
    finally:
        await conn.close()


async def test_users_are_made_once_and_by_the_rules(database: Database) -> None:
    conn = await asyncpg.connect(database.url("gateway"))
    try:
        who = {"username": "ann", "email": "ann@example.com", "role": Role.VIEWER, "now": rig.NOW, "cost": 4}
        await create_user(conn, password=rig.PASSWORD, **who)  # type: ignore[arg-type]  # fields of several kinds
        with pytest.raises(UserExists):
            await create_user(conn, password=rig.PASSWORD, **who)  # type: ignore[arg-type]
        with pytest.raises(NotAcceptable):
            await create_user(conn, password="x" * 73, **(who | {"username": "bob"}))  # type: ignore[arg-type]
        with pytest.raises(NoSuchUser):
            await reset_password(conn, username="bob", password=rig.PASSWORD, cost=4)
        assert await conn.fetchval("select password_hash from users where username = 'ann'") != rig.PASSWORD
    finally:
        await conn.close()


async def test_the_public_status_is_ready_bytes_with_a_tag(running: rig.Running, others: rig.World) -> None:
    async with httpx.AsyncClient(base_url=running.url) as http:
        first = await http.get("/api/v1/status")
        assert first.json()["services"][0]["status_word"] == "operational"
        assert rig.SECRET not in first.text
        again = await http.get("/api/v1/status", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        await others.say(rig.changed(rig.status_of(status=Status.MAJOR_OUTAGE, version=2)))

        async def newer() -> bool:
            return (await http.get("/api/v1/status", headers={"if-none-match": first.headers["etag"]})).status_code == 200

        await until(newer, within_s=5, what="another tag")
        assert (await http.head("/api/v1/status")).content == b""


async def test_before_anything_is_known_it_says_so(choose: Chooser) -> None:
    async with rig.gateway(choose(amqp_url="amqp://x:y@127.0.0.1:1/")) as one, httpx.AsyncClient(base_url=one.url) as http:
        is_problem(await http.get("/api/v1/status"), 503)
        assert (await http.get("/health/ready")).status_code == 503
        page = await http.get("/")
        assert page.status_code == 503
        assert "not known here yet" in page.text


async def test_uptime_is_asked_once_in_ten_seconds(running: rig.Running, others: rig.World) -> None:
    async with rig.signed_in(running, Role.VIEWER) as http:
        answers = [(await http.get("/api/v1/services/face-compare/uptime?days=5")).json() for _ in range(3)]
    assert answers[0] == answers[2]
    assert answers[0]["days"][0]["status_word"] == "operational"
    assert sum(what == "uptime" for what, _ in others.owners.asked) == 1


@pytest.mark.usefixtures("people")
async def test_reading_goes_on_for_a_while_when_the_database_is_gone(choose: Chooser, others: rig.World, database: Database) -> None:
    url = database.url("gateway")
    async with running_proxy(url) as wire, rig.gateway(choose(database_url=wire.url(url))) as one:
        await one.ready()
        async with rig.signed_in(one, Role.ADMIN) as http:
            assert (await http.get("/api/v1/services")).status_code == 200
            wire.refuse()
            wire.reset()
            assert (await http.get("/api/v1/services")).status_code == 200
            is_problem(await http.post("/api/v1/services", json=DRAFT), 503)
            assert not any(what == "create" for what, _ in others.owners.asked)
            wire.accept()
            assert (await http.post("/api/v1/services", json=DRAFT)).status_code == 201


async def test_the_reference_of_the_api_is_public_and_its_answers_are_held_against_it(running: rig.Running) -> None:
    """Seen red with the framework's own document, which is a route without a role. Of the rest: `conforms` of every signed-in client."""
    async with httpx.AsyncClient(base_url=running.url, event_hooks={"response": [conforms]}) as http:
        found = await http.get("/api/v1/openapi.json")
        assert (found.status_code, found.json()) == (200, reference())
        is_problem(await http.get("/openapi.json"), 404)
        public = await http.get("/api/v1/status")
        assert public.json()["services"], "the public answer too is as it is described"
