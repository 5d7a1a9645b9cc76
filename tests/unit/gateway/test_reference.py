"""The reference of the API is whole, and a valid OpenAPI document. The answers themselves are held against it in tests/integration/gateway.

Seen red with a route that shapes.py does not name, and with a form whose inner form is nowhere.
"""

import json
import re
from typing import Any

import pytest
import schemathesis
from jsonschema import Draft202012Validator

from services.gateway.api.access import NEEDS, PUBLIC, SECRET_ADDRESSES
from services.gateway.api.reference import undescribed
from services.gateway.api.shapes import SHAPES
from tests.integration.gateway.described import faults, reference

REFERENCE = reference()
OPERATIONS = [(method.upper(), path, one) for path, methods in REFERENCE["paths"].items() for method, one in methods.items()]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"components": REFERENCE["components"]}


def test_every_route_is_in_it_with_its_roles() -> None:
    assert undescribed() == set()
    assert {(method, path) for method, path, _ in OPERATIONS} == {*NEEDS, *PUBLIC, *SECRET_ADDRESSES}
    assert set(SHAPES) == {*NEEDS, *PUBLIC, *SECRET_ADDRESSES}
    by_route = {(method, path): one for method, path, one in OPERATIONS}
    assert by_route["PUT", "/api/v1/sla/contracts/{contract_id}"]["x-roles"] == ["admin"]
    assert by_route["POST", "/api/v1/incidents"]["x-roles"] == ["reporter", "admin"]
    assert [route for route, one in by_route.items() if not one["security"]] == [one for one in by_route if one not in NEEDS]


def test_it_is_openapi_and_every_reference_leads_somewhere() -> None:
    text = json.dumps(REFERENCE)
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(REFERENCE["components"]["schemas"])
    assert '"#/$defs/' not in text
    operations = list(schemathesis.openapi.from_dict(REFERENCE).get_all_operations())
    assert len(operations) == len(OPERATIONS)
    ids = [one["operationId"] for _, _, one in OPERATIONS]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=[f"{method} {path}" for method, path, _ in OPERATIONS])
def test_bodies_have_examples_that_they_permit(method: str, path: str, operation: dict[str, Any]) -> None:
    shape = SHAPES.get((method, path))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    assert (body is not None) == (shape is not None and shape.takes is not None)
    if body is None:
        return
    Draft202012Validator.check_schema(resolved(body["schema"]))
    if "example" in body:
        Draft202012Validator(resolved(body["schema"])).validate(body["example"])
    assert shape is not None
    assert shape.takes is not None
    if shape.example is not None:
        shape.takes.model_validate(dict(shape.example))


def test_an_answer_that_is_not_as_it_says_is_found() -> None:
    contract = {"id": "gold", "name": "Gold", "target": "99.9", "period": "month", "services": ["a"]}
    path = "/api/v1/sla/contracts/gold"
    assert faults("GET", path, 200, "application/json", contract) == []
    assert faults("GET", path, 200, "application/json", contract | {"secret": 1})
    assert faults("GET", path, 200, "application/json", contract | {"target": 99.9})
    assert faults("GET", path, 202, "application/json", contract)
    assert faults("GET", path, 404, "application/json", {})
    assert faults("GET", path, 404, "application/problem+json", {"title": "Not found", "status": 404}) == []
