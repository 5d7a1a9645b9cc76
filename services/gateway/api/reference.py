"""The reference of the API: an OpenAPI 3.1 document of every route, with its role, what it takes and gives, and its errors.

Public, as docs and source are: it names no service. It is made once, of the routes themselves and of shapes.py.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.gateway.api.access import COOKIE, NEEDS, PUBLIC, SECRET_ADDRESSES
from services.gateway.api.bodies import as_json
from services.gateway.api.problems import MEDIA_TYPE
from services.gateway.api.shapes import SHAPES, Shape
from services.gateway.domain.roles import may
from services.gateway.live.views import to_json
from shared.contracts.codes import Role
from shared.contracts.commands import Problem

router = APIRouter()

PATH = "/api/v1/openapi.json"
REF = "#/components/schemas/{model}"
ABOUT = (
    "Sign in with POST /api/v1/session: the session is a cookie. Every error is a problem (RFC 9457). Moments are RFC 3339 with a zone."
    " Changes take an Idempotency-Key where they name one: sent again, they happen once. The live feed is the WebSocket at /ws."
)
Json = dict[str, Any]
Route = tuple[str, str]


@router.get(PATH)
async def read_reference(request: Request) -> Response:
    """Return this document."""
    state = request.app.state
    if not hasattr(state, "reference"):
        state.reference = to_json(document(request.app))
    body: bytes = state.reference
    return as_json(body)


def document(app: FastAPI) -> Json:
    """Return the OpenAPI document of an application."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicate Operation ID")  # of a route of several methods; they get their ids below
        made = get_openapi(title="SLA Monitor", version="1", description=ABOUT, routes=app.routes)
    paths: dict[str, Json] = made["paths"]
    paths.setdefault("/api/v1/status", {})["get"] = {"summary": "Read Status", "description": "Return every service and the system."}
    refs, definitions = _schemas(one for shape in SHAPES.values() for one in (shape.gives, shape.takes))
    for path, methods in paths.items():
        for method, operation in methods.items():
            _describe(operation, (method.upper(), path), refs)
    definitions |= {name: one for name, one in made["components"]["schemas"].items() if name not in _THE_FRAMEWORKS}
    problem = Problem.model_json_schema(ref_template=REF)
    definitions |= problem.pop("$defs", {}) | {"Problem": problem | {"properties": problem["properties"] | _CORRELATION}}
    session = {"type": "apiKey", "in": "cookie", "name": COOKIE}
    return made | {"components": {"schemas": dict(sorted(definitions.items())), "securitySchemes": {"session": session}}}


_THE_FRAMEWORKS = frozenset({"HTTPValidationError", "ValidationError"})
"""What it would answer by itself; here every error is a problem."""
_CORRELATION = {"correlation_id": {"type": "string", "description": "Under it the logs have what happened"}}


def _schemas(models: Iterable[type[BaseModel] | None]) -> tuple[Mapping[type[BaseModel], Json], Json]:
    """Return a reference to the schema of each model, and all schemas by name. Moments are `date-time` as they are read, so all are."""
    wanted = sorted({one for one in models if one is not None}, key=lambda one: one.__name__)
    asked: list[tuple[type[BaseModel], JsonSchemaMode]] = [(one, "validation") for one in wanted]
    refs, all_of_them = models_json_schema(asked, ref_template=REF)
    return {one: refs[one, mode] for one, mode in asked}, dict(all_of_them["$defs"])


def _describe(operation: Json, route: Route, refs: Mapping[type[BaseModel], Json]) -> None:
    """Say of an operation what its code does not say by types."""
    shape = SHAPES.get(route, Shape())
    method, path = route
    operation["operationId"] = f"{method.lower()} {path.removeprefix('/api/v1/')}"
    operation["tags"] = [path.removeprefix("/api/v1/").split("/")[0]]
    problem = {"content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}}
    operation["responses"] = {str(shape.status): _given(shape, refs), "default": {"description": "What is wrong"} | problem}
    if shape.takes is not None:
        body: Json = {"schema": refs[shape.takes]} | ({} if shape.example is None else {"example": dict(shape.example)})
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    if route in NEEDS:
        roles = [role.value for role in Role if may(role, NEEDS[route])]
        operation |= {"security": [{"session": []}], "x-roles": roles}
        operation["description"] = f"{operation.get('description', '')}\n\nFor: {', '.join(roles)}."
    else:
        operation["security"] = []


def _given(shape: Shape, refs: Mapping[type[BaseModel], Json]) -> Json:
    if shape.gives is None:
        return {"description": "Done"}
    content: Json = {"application/json": {"schema": refs[shape.gives]}} | {one: {"schema": {"type": "string"}} for one in shape.files}
    return {"description": (shape.gives.__doc__ or "").strip().split("\n")[0], "content": content}


def undescribed() -> set[Route]:
    """Return the routes that somebody may use and nobody described."""
    return {*NEEDS, *PUBLIC, *SECRET_ADDRESSES} - set(SHAPES)
