"""Configuration as code, trials, push addresses and reported calls, as their users meet them."""

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import httpx
import pytest

from shared.contracts.codes import Role
from shared.contracts.registry import decode
from shared.topology import AGGREGATOR_CALLS, CHECKER_WATCH_LOG
from tests.integration.gateway import rig
from tests.integration.gateway.conftest import Chooser
from tests.integration.gateway.test_rest import is_problem
from tests.servers import Database, Vhost
from tests.waiting import until

PUSH = f"/api/v1/push/{rig.TOKEN}"
RESPONSE_TIMES = "/api/v1/services/face-compare/response-times"


@pytest.fixture
async def admin(running: rig.Running) -> AsyncIterator[httpx.AsyncClient]:
    async with rig.signed_in(running, Role.ADMIN) as http:
        yield http


@pytest.fixture
async def job(running: rig.Running) -> AsyncIterator[httpx.AsyncClient]:
    """Call as a job does: without a session."""
    async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
        yield http


async def letters(vhost: Vhost, name: str) -> list[bytes]:
    """Return what lies in a queue, taking it out."""
    found = []
    connection = await aio_pika.connect(vhost.amqp_url)
    async with connection:
        queue = await (await connection.channel()).get_queue(name, ensure=False)
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            found.append(message.body)
    return found


async def test_definitions_are_applied_at_once_and_read_at_once(admin: httpx.AsyncClient, database: Database) -> None:
    wanted = {"definitions": [{"id": "one"}, {"id": "two"}], "prune": True}
    planned = await admin.post("/api/v1/services/apply", json=wanted | {"dry_run": True})
    assert planned.json()["applied"] is False
    assert [(one["id"], one["action"]) for one in planned.json()["changes"]] == [
        ("one", "create"),
        ("two", "create"),
        ("face-compare", "remove"),
    ]
    assert [one["id"] for one in (await admin.get("/api/v1/services")).json()["services"]] == ["face-compare"]

    assert (await admin.post("/api/v1/services/apply", json=wanted)).json()["applied"] is True
    assert [one["id"] for one in (await admin.get("/api/v1/services")).json()["services"]] == ["one", "two"]

    conn = await asyncpg.connect(database.url("gateway"))
    rows = await conn.fetch("select subject, outcome, details from audit_log where action = 'service.apply' order by id")
    await conn.close()
    assert [(row["subject"], row["outcome"]) for row in rows] == [
        ("2 definitions, pruning, dry run", "done"),
        ("2 definitions, pruning", "done"),
    ]


async def test_fresh_definitions_are_their_owners_or_none(admin: httpx.AsyncClient, others: rig.World) -> None:
    """An export of what this replica remembers, applied with `prune`, would remove what it had not heard of yet.

    Seen red with `fresh` passed by.
    """
    others.owners.services = {"unheard": rig.definition("unheard")}
    assert [one["id"] for one in (await admin.get("/api/v1/services")).json()["services"]] == ["face-compare"]
    assert [one["id"] for one in (await admin.get("/api/v1/services?fresh=true")).json()["services"]] == ["unheard"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "definitions"),
        ({"definitions": {}}, "definitions"),
        ({"definitions": ["x"]}, "definitions.0"),
        ({"definitions": [], "dryrun": True}, "dryrun"),
        ({"definitions": [], "dry_run": "yes"}, "dry_run"),
    ],
)
async def test_a_set_that_means_nothing_is_refused_by_its_field(
    admin: httpx.AsyncClient, others: rig.World, body: dict[str, Any], field: str
) -> None:
    problem = is_problem(await admin.post("/api/v1/services/apply", json=body), 422)
    assert [one["field"] for one in problem["errors"]] == [field]
    assert not others.owners.asked


async def test_ten_thousand_definitions_fit(admin: httpx.AsyncClient, others: rig.World) -> None:
    wanted = [{"id": f"service-{number}", "description": "x" * 1_000} for number in range(10_000)]
    answer = await admin.post("/api/v1/services/apply", json={"definitions": wanted, "dry_run": True})
    assert (answer.status_code, len(answer.json()["changes"]), len(others.owners.asked[0][1].definitions)) == (200, 10_000, 10_000)
    is_problem(await admin.post("/api/v1/services/apply", json={"definitions": [{"id": "x" * 15_000_000}]}), 413)


async def test_a_check_is_tried_and_on_record(admin: httpx.AsyncClient, others: rig.World, database: Database) -> None:
    secret = "password-of-somebody"
    answer = await admin.post("/api/v1/checks/try", json={"id": "new-one", "options": {"password": secret}})
    assert answer.json()["result"]["outcome"] == "healthy"
    assert answer.json()["assertions"][0]["holds"] is True
    assert others.owners.asked[0][1].definition["options"] == {"password": secret}
    conn = await asyncpg.connect(database.url("gateway"))
    row = await conn.fetchrow("select subject, outcome, details::text from audit_log where action = 'check.try'")
    await conn.close()
    assert row is not None
    assert (row["subject"], row["outcome"]) == ("new-one", "done")
    assert secret not in row["details"]


async def test_kinds_are_described(running: rig.Running) -> None:
    async with rig.signed_in(running, Role.VIEWER) as http:
        assert (await http.get("/api/v1/kinds")).json()["kinds"][0]["name"] == "tcp"


async def test_a_push_token_is_given_and_on_record(admin: httpx.AsyncClient, database: Database) -> None:
    answer = await admin.post("/api/v1/services/face-compare/push-token")
    assert answer.json() == {"service_id": "face-compare", "token": rig.TOKEN, "path": PUSH}
    assert answer.headers["cache-control"] == "no-store"
    conn = await asyncpg.connect(database.url("gateway"))
    line = await conn.fetchval("select l::text from audit_log l where action = 'service.push_token'")
    await conn.close()
    assert "face-compare" in line
    assert rig.TOKEN not in line


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "", ("success", None)),
        ("POST", "", ("success", None)),
        ("HEAD", "", ("success", None)),
        ("POST", "/start", ("start", None)),
        ("POST", "/fail", ("fail", None)),
        ("GET", "/0", ("success", 0)),
        ("POST", "/1", ("fail", 1)),
        ("POST", "/255", ("fail", 255)),
    ],
)
async def test_a_job_tells_how_it_is(job: httpx.AsyncClient, others: rig.World, method: str, path: str, expected: tuple[str, Any]) -> None:
    answer = await job.request(method, PUSH + path, params={"duration_ms": "12.5"})
    assert (answer.status_code, answer.content) == (204, b"")
    signal = others.owners.asked[0][1]
    assert ((signal.what, signal.exit_code), signal.duration_ms, signal.log) == (expected, 12.5, "")


async def test_a_log_is_cut_and_made_storable(job: httpx.AsyncClient, others: rig.World) -> None:
    for log, kept in ((b"a\x00b\xff", "a\ufffdb\ufffd"), (b"x" * 900_000, "x" * 10_240), (b"", "")):
        others.owners.asked.clear()
        assert (await job.post(f"{PUSH}/fail", content=log)).status_code == 204
        assert others.owners.asked[0][1].log == kept


async def test_what_is_no_signal_is_refused_before_anybody_is_asked(job: httpx.AsyncClient, others: rig.World) -> None:
    for path in ("/256", "/-1", "/1000", "/stop", "/%C2%B2", "/start/again"):
        is_problem(await job.post(PUSH + path), 404)
    for bad in ("nan", "-1", "x", "1e300"):
        is_problem(await job.post(PUSH, params={"duration_ms": bad}), 422)
    is_problem(await job.post(f"/api/v1/push/{'x' * 201}"), 404)
    is_problem(await job.post("/api/v1/push/%00"), 404)
    is_problem(await job.put(PUSH), 405)
    assert not others.owners.asked


async def test_a_push_address_needs_no_session_and_no_other_site_can_misuse_one(job: httpx.AsyncClient) -> None:
    assert (await job.post(PUSH, headers={"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"})).status_code == 204
    assert "nobody" not in is_problem(await job.post("/api/v1/push/unknown"), 404)["detail"].lower()


async def test_a_job_is_told_to_come_back_while_it_cannot_be_noted(job: httpx.AsyncClient, others: rig.World) -> None:
    others.owners.silent.add("push")
    for method in ("GET", "POST"):
        answer = await job.request(method, PUSH)
        is_problem(answer, 503)
        assert answer.headers["retry-after"] == "5"


@pytest.mark.usefixtures("people")
async def test_without_the_broker_a_job_is_told_to_come_back(choose: Chooser, vhost: Vhost) -> None:
    async with rig.gateway(choose()) as one:
        async with rig.world(vhost.amqp_url):
            await one.ready()
        async with httpx.AsyncClient(base_url=one.url, timeout=20) as http:
            answer = await http.post(PUSH)
    is_problem(answer, 503)
    assert answer.headers["retry-after"] == "5"


@pytest.mark.usefixtures("others")
async def test_calls_of_one_address_are_limited_and_guesses_too(choose: Chooser) -> None:
    """Seen red with no count of the secret, and with no count of the address."""
    async with rig.gateway(choose(push_calls_per_minute=2)) as one, httpx.AsyncClient(base_url=one.url, timeout=20) as http:
        await one.ready()
        assert [(await http.get(PUSH)).status_code for _ in range(4)] == [204, 204, 429, 429]
        assert (await http.get(PUSH)).headers["retry-after"] == "60"
        guesses = [(await http.get(f"/api/v1/push/guess-{number}")).status_code for number in range(20)]
        assert guesses == [404] * 15 + [429] * 5


class Lines(logging.Handler):
    """What this process logs, as its one handler on the root sees it. What is left out is the test's own client, and frames of the broker.

    `configure_logging` keeps those at warnings.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in {"httpx", "httpcore", "aiormq", "aio_pika"}:
            self.lines.append(f"{record.name} {record.getMessage()} {record.exc_info}")


async def test_a_token_is_written_in_no_log(job: httpx.AsyncClient, others: rig.World, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen red with uvicorn's access log switched on, and with the path in a log line of problems.py."""
    seen, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(seen)
    root.setLevel(logging.DEBUG)
    try:
        for path in ("", "/fail", "/999"):
            await job.post(PUSH + path)
        others.owners.silent.add("push")
        await job.post(PUSH)
    finally:
        root.removeHandler(seen)
        root.setLevel(level)
    printed = capsys.readouterr()  # where the product's own loggers write as long as nobody configured them
    assert [line for line in [*seen.lines, printed.out, printed.err] if rig.TOKEN in line] == []
    assert not logging.getLogger("uvicorn.access").propagate


async def test_reported_calls_reach_the_broker_once_for_a_key(running: rig.Running, vhost: Vhost) -> None:
    """Seen red with a random batch id."""
    key = {"idempotency-key": str(uuid4())}
    body = {"calls": [rig.call(), rig.call(status_code=500), rig.call(status_code=None, is_success=False, error_message="reset")]}
    async with rig.signed_in(running, Role.REPORTER) as http, rig.signed_in(running, Role.ADMIN) as other:
        answers = [
            await client.post(RESPONSE_TIMES, json=body, headers=headers)
            for client, headers in ((http, key), (http, key), (other, key), (http, {}))
        ]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert answers[0].json()["accepted"] == 3
    events = [decode("calls.reported.v1", one) for one in await letters(vhost, AGGREGATOR_CALLS.name)]
    first, again, others_key, without = (one.id for one in events)
    assert first == again == UUID(answers[0].json()["batch_id"])
    assert len({first, others_key, without}) == 3, "a key is its owner's"
    assert (events[0].data.reporter, events[0].data.service_id) == ("reporter", "face-compare")
    assert [(one.is_success, one.status_code, one.error_message) for one in events[0].data.calls] == [
        (True, 201, None),
        (False, 500, None),
        (False, None, "reset"),
    ]
    assert await letters(vhost, CHECKER_WATCH_LOG.name) == []


async def test_calls_that_mean_nothing_are_refused_by_their_field(admin: httpx.AsyncClient, vhost: Vhost) -> None:
    old = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    cases: list[tuple[Any, str]] = [
        ({}, "calls"),
        ({"calls": []}, "calls"),
        ({"calls": [rig.call()] * 1_001}, "calls"),
        ({"calls": [rig.call(), {}]}, "calls.1.endpoint"),
        ({"calls": [rig.call(duration_ms=-1)]}, "calls.0.duration_ms"),
        ({"calls": [rig.call(status_code=99)]}, "calls.0.status_code"),
        ({"calls": [rig.call(status_code=None)]}, "calls.0"),
        ({"calls": [rig.call(measured_at="2026-01-01T00:00:00")]}, "calls.0.measured_at"),
        ({"calls": [rig.call(measured_at=old)]}, "calls.0.measured_at"),
        ({"calls": [rig.call(measured_at=soon)]}, "calls.0.measured_at"),
        ({"calls": [rig.call(measured_at="9999-12-31T23:59:59-14:00")]}, "calls.0.measured_at"),
        ({"calls": [rig.call(colour="red")]}, "calls.0.colour"),
    ]
    for body, field in cases:
        assert is_problem(await admin.post(RESPONSE_TIMES, json=body), 422)["errors"][0]["field"] == field, body
    assert is_problem(await admin.post(RESPONSE_TIMES, json={"calls": [rig.call()]}, headers={"idempotency-key": "x"}), 422)
    nan = json.dumps({"calls": [rig.call()]}).replace("12.5", "NaN")
    is_problem(await admin.post(RESPONSE_TIMES, content=nan, headers={"content-type": "application/json"}), 422)
    is_problem(await admin.post("/api/v1/services/nobody/response-times", json={"calls": [rig.call()]}), 404)
    assert await letters(vhost, AGGREGATOR_CALLS.name) == []


@pytest.mark.usefixtures("people")
async def test_calls_that_the_broker_does_not_confirm_are_not_accepted(choose: Chooser, vhost: Vhost) -> None:
    owners = rig.Owners(services={"face-compare": rig.definition()})
    async with rig.gateway(choose()) as one, rig.world(vhost.amqp_url, owners):
        await one.ready()
        async with rig.signed_in(one, Role.ADMIN) as http:
            assert (await http.post(RESPONSE_TIMES, json={"calls": [rig.call()]})).status_code == 202
            vhost.api("DELETE", f"/api/queues/{{vhost}}/{AGGREGATOR_CALLS.name}")

            async def refused() -> bool:
                answer = await http.post(RESPONSE_TIMES, json={"calls": [rig.call()]})
                return answer.status_code == 503 and answer.headers["retry-after"] == "5"

            await until(refused, within_s=10, what="calls that no queue takes are refused")
