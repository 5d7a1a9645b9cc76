"""Whatever is sent to the REST API is answered, and never with a defect: every kind's options, from their own schemas and beyond them.

Against the product's own processes. Seen red with a probe's `raise` on an option that its schema permits, at the place where options
are read.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis.core import NotSet
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from services.checker.domain.kinds import Kind
from services.checker.probes import KINDS
from tests.integration.gateway import rig
from tests.integration.gateway.described import faults
from tests.product import running_product
from tests.servers import Database, Vhost
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

EXAMPLES = 8
"""For each kind (or address), each way (as its schema says, or not), and each address that takes it."""
ADDRESSES = {"dns": "dns://localhost", "icmp": "icmp://127.0.0.1", "push": "push://fuzz", "group": "group://fuzz"}
ASSERTIONS = {
    "type": "array",
    "maxItems": 3,
    "items": {
        "type": "object",
        "required": ["source", "comparison"],
        "properties": {
            "source": {"enum": ["code", "json", "html", "header", "body", "phase", "certificate", "response_time", "loss"]},
            "property": {"type": "string"},
            "comparison": {"enum": ["equals", "matches", "less_than", "exists", "length_equals", "contains"]},
            "target": {"type": ["string", "number", "boolean", "null"]},
            "severity": {"enum": ["down", "degraded"]},
        },
        "additionalProperties": False,
    },
}
CALLS = {
    "type": "object",
    "required": ["calls"],
    "properties": {
        "calls": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["endpoint", "duration_ms", "measured_at"],
                "properties": {
                    "endpoint": {"type": "string"},
                    "method": {"type": "string"},
                    "status_code": {"type": ["integer", "null"]},
                    "duration_ms": {"type": "number"},
                    "measured_at": {"type": "string", "format": "date-time"},
                    "is_success": {"type": ["boolean", "null"]},
                },
            },
        }
    },
}
WANTED = {
    "type": "object",
    "required": ["definitions"],
    "properties": {
        "definitions": {"type": "array", "items": {"type": "object"}},
        "prune": {"type": "boolean"},
        "dry_run": {"const": True},
    },
}
MOMENT = {"type": "string", "format": "date-time"}
SPAN = {"starts_at": MOMENT, "ends_at": MOMENT}
PAST: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rules": (
        "POST",
        "/api/v1/services/watched/dry-run",
        {
            "from": MOMENT,
            "to": MOMENT,
            "failure_threshold": {"type": ["integer", "null"]},
            "recovery_threshold": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
            "quorum": {"enum": ["any", "majority", "all", "1", "99", None]},
            "degraded_after_ms": {"type": ["integer", "null"], "minimum": 1},
        },
    ),
    "correction": (
        "POST",
        "/api/v1/services/watched/corrections",
        SPAN | {"state": {"enum": ["up", "degraded", "partial", "down", "unknown", "inactive"]}, "reason": {"type": "string"}},
    ),
    "promise": (
        "PUT",
        "/api/v1/sla/contracts/fuzz",
        {
            "name": {"type": "string"},
            "target": {"enum": ["99.95", "100", "0.000001", "0", "abc"]},
            "period": {"enum": ["month", "quarter", "rolling"]},
            "rolling_days": {"type": "integer", "minimum": 1, "maximum": 400},
            "time_zone": {"enum": ["UTC", "Asia/Seoul", "Europe/Berlin", "Nowhere"]},
            "services": {"type": "array", "items": {"const": "watched"}},
            "partial_share": {"enum": ["0", "0.3", "0.5", "1"]},
            "count_maintenance": {"type": "boolean"},
            "count_unknown": {"type": "boolean"},
        },
    ),
    "exclusion": ("POST", "/api/v1/sla/contracts/fuzz/exclusions", SPAN | {"reason": {"type": "string"}}),
    "maintenance": (
        "POST",
        "/api/v1/maintenances",
        SPAN
        | {"title": {"type": "string"}, "description": {"type": "string"}, "services": {"type": "array", "items": {"const": "watched"}}},
    ),
}
NEEDED = {"rules": [], "promise": ["name", "target", "period", "services"]}


def of_the_past(name: str) -> dict[str, Any]:
    """Return the schema of a body about the past."""
    properties = PAST[name][2]
    return {"type": "object", "required": NEEDED.get(name, list(properties)), "properties": properties, "additionalProperties": False}


def lifted(name: str, shape: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a JSON Schema and its definitions, with references as a document of OpenAPI has them."""

    def pointed(one: object) -> Any:  # noqa: ANN401  # JSON
        return json.loads(json.dumps(one).replace('"#/$defs/', f'"#/components/schemas/{name}.'))

    inner = {f"{name}.{key}": pointed(one) for key, one in shape.get("$defs", {}).items()}
    return pointed({key: one for key, one in shape.items() if key != "$defs"}), inner


def document() -> dict[str, Any]:
    """Return an OpenAPI document with an operation for each kind, and for what else takes a body."""
    bodies: dict[str, Any] = {"calls": CALLS, "wanted": WANTED} | {name: of_the_past(name) for name in PAST}
    schemas: dict[str, Any] = {}
    for kind in KINDS.values():
        options, inner = lifted(kind.name, kind.schema)
        schemas |= inner | {kind.name: options}
        properties = {"options": {"$ref": f"#/components/schemas/{kind.name}"}, "assertions": ASSERTIONS}
        bodies[kind.name] = {"type": "object", "required": ["options"], "properties": properties, "additionalProperties": False}
    paths = {
        f"/{name}": {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
                "responses": {"default": {"description": "any"}},
            }
        }
        for name, body in bodies.items()
    }
    return {"openapi": "3.1.0", "info": {"title": "fuzz", "version": "1"}, "paths": paths, "components": {"schemas": schemas}}


def address(kind: Kind) -> str:
    """Return an address of a kind at which nobody answers: nothing but this machine is asked."""
    return ADDRESSES.get(kind.name, f"{kind.schemes[0]}://127.0.0.1:1" + ("" if kind.needs_port else "/0"))


def search(bodies: SearchStrategy[Any], send: Callable[[Any], None]) -> None:
    """Send what the strategy makes."""

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies)
    def run(case: Any) -> None:  # noqa: ANN401  # schemathesis' own
        send(case.body)

    run()


class Sender:
    """Sends bodies to an API, and fails on an answer that is a defect."""

    def __init__(self, http: httpx.Client) -> None:
        """`http` is signed in."""
        self.http = http
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.numbers = count()

    def definition(self, kind: Kind, body: Any) -> None:  # noqa: ANN401  # anything
        """Have a definition with these options tried, planned and saved."""
        number = next(self.numbers)
        base: dict[str, Any] = {"id": f"fuzz-{number}", "name": f"Fuzz {number}", "kind": kind.name, "endpoint_url": address(kind)}
        base |= {"timeout": 200, "check_interval": 60_000, "is_active": False}
        whole = base | body if isinstance(body, dict) else body
        self.post("/api/v1/checks/try", whole)
        self.post("/api/v1/services/apply", {"definitions": [whole], "dry_run": True})
        self.post("/api/v1/services", whole)

    def post(self, path: str, body: Any, *, method: str = "POST") -> None:  # noqa: ANN401  # anything
        """Send a body, JSON or not."""
        content = body if isinstance(body, bytes) else json.dumps(body, default=repr).encode()
        answer = self.http.request(method, path, content=content, headers={"content-type": "application/json"})
        self.statuses[path, answer.status_code] += 1
        assert answer.status_code < 500, (path, body, answer.text)


def fuzz(url: str, cookies: httpx.Cookies) -> Counter[tuple[str, int]]:
    """Send everything; return how it was answered."""
    api = schemathesis.openapi.from_dict(document())
    with httpx.Client(base_url=url, cookies=cookies, timeout=30) as http:
        sender = Sender(http)
        for mode in GenerationMode:
            for kind in KINDS.values():
                bodies = api[f"/{kind.name}"]["POST"].as_strategy(generation_mode=mode)
                search(bodies, lambda body, kind=kind: sender.definition(kind, body))  # type: ignore[misc]  # bound in the loop
            for name, path in (("calls", "/api/v1/services/watched/response-times"), ("wanted", "/api/v1/services/apply")):
                bodies = api[f"/{name}"]["POST"].as_strategy(generation_mode=mode)
                search(bodies, lambda body, path=path: sender.post(path, body))  # type: ignore[misc]
            for name, (method, path, _) in PAST.items():
                bodies = api[f"/{name}"]["POST"].as_strategy(generation_mode=mode)
                search(bodies, lambda body, path=path, method=method: sender.post(path, body, method=method))  # type: ignore[misc]
    return sender.statuses


SIGNING = ("/api/v1/session", "/api/v1/push/{token}", "/api/v1/push/{token}/{signal}")
"""Not sent to: they would sign this client out, or run into the limits of attempts."""
KNOWN = {"service_id": "watched", "contract_id": "fuzz"}


def by_reference(url: str, cookies: httpx.Cookies) -> Counter[tuple[str, int]]:
    """Send to every address of the published reference what it says, and what it does not say; every answer is as it says."""
    statuses: Counter[tuple[str, int]] = Counter()
    with httpx.Client(base_url=url, cookies=cookies, timeout=30) as http:
        api = schemathesis.openapi.from_dict(http.get("/api/v1/openapi.json").json())

        def send(case: Any) -> None:  # noqa: ANN401  # schemathesis' own
            if isinstance(case.path_parameters, dict):
                case.path_parameters |= {name: there for name, there in KNOWN.items() if name in case.path_parameters}
            query = {name: value for name, value in (case.query or {}).items() if value is not None}
            body: dict[str, Any] = {} if isinstance(case.body, NotSet) else {"content": json.dumps(case.body, default=repr).encode()}
            headers = {"content-type": "application/json"} if body else {}
            answer = http.request(case.method, case.formatted_path, params=query, headers=headers, **body)
            statuses[f"{case.method} {case.operation.path}", answer.status_code] += 1
            assert answer.status_code < 500, (case.formatted_path, query, case.body, answer.text)
            media_type = answer.headers.get("content-type", "").partition(";")[0]
            found = faults(
                case.method, answer.url.path, answer.status_code, media_type, answer.json() if media_type.endswith("json") else None
            )
            assert not found, (answer.url, case.body, found)

        operations = [one.ok() for one in api.get_all_operations() if isinstance(one, Ok)]
        for mode in GenerationMode:
            for one in (one for one in operations if one.path not in SIGNING and one.method != "delete"):
                run = given(one.as_strategy(generation_mode=mode))(send)
                with suppress(Unsatisfiable):  # nothing can be said to some addresses, and so nothing wrong
                    settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))(run)()
    return statuses


async def test_every_address_of_the_reference_answers_as_it_says(database: Database, vhost: Vhost, redis_url: str, tmp_path: Path) -> None:
    """Seen red with an answer's field that the reference does not name."""
    async with running_product(database, vhost, redis_url, tmp_path) as product, product.signed_in() as client:
        watched = {
            "id": "watched",
            "name": "Watched",
            "kind": "tcp",
            "endpoint_url": "tcp://127.0.0.1:1",
            "check_interval": 1000,
            "timeout": 500,
        }
        assert (await client.post("/api/v1/services", json=watched)).status_code == 201
        promise = {"name": "Fuzz", "target": "99.9", "period": "rolling", "services": ["watched"]}

        async def promised() -> bool:  # the aggregator hears of the service by its event
            return (await client.put("/api/v1/sla/contracts/fuzz", json=promise)).status_code == 200

        await until(promised, within_s=20, what="a contract")
        statuses = await asyncio.to_thread(by_reference, str(client.base_url), client.cookies)
        logs = "".join(one.log.read_text(encoding="utf-8") for one in product.replicas)
    print(dict(sorted(statuses.items())))
    assert "Traceback" not in logs, logs[logs.index("Traceback") - 500 :][:4000]
    for answered in ("GET /api/v1/services/{service_id}/uptime/audit", "GET /api/v1/sla/contracts/{contract_id}/standing"):
        assert statuses[answered, 200], answered


async def test_no_body_finds_a_defect(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLA_SECRET_KEYS", Fernet.generate_key().decode())
    async with running_product(database, vhost, redis_url, tmp_path) as product, product.signed_in() as client:
        watched = {"id": "watched", "name": "Watched", "kind": "tcp", "endpoint_url": "tcp://127.0.0.1:1", "is_active": False}
        assert (await client.post("/api/v1/services", json=watched)).status_code == 201
        statuses = await asyncio.to_thread(fuzz, str(client.base_url), client.cookies)
        # another one: a set that was applied may have removed the first, as it asked for
        assert (await client.post("/api/v1/services", json=watched | {"id": "called", "name": "Called"})).status_code == 201

        async def taken() -> bool:  # the gateway hears of the service by its event
            call = await client.post("/api/v1/services/called/response-times", json={"calls": [rig.call()]})
            return call.status_code == 202

        await until(taken, within_s=20, what="a sound call")
        logs = "".join(one.log.read_text(encoding="utf-8") for one in product.replicas)

    print(dict(sorted(statuses.items())))
    assert "Traceback" not in logs, logs[logs.index("Traceback") - 500 :][:4000]
    assert statuses["/api/v1/checks/try", 200], "some definitions are sound"
    assert statuses["/api/v1/services", 201]
    assert statuses["/api/v1/services", 422]
    assert statuses["/api/v1/services/watched/dry-run", 422]
    assert statuses["/api/v1/sla/contracts/fuzz", 422]
