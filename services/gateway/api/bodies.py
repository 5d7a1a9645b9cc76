"""Reading what was sent, after it is clear who sends it."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from services.gateway.api.problems import ProblemError, invalid
from services.gateway.domain.people import Deed, Identity
from services.gateway.usecases import details_of
from shared.clock import Clock
from shared.contracts.commands import FieldProblem
from shared.telemetry import correlation_id

MOST_BYTES = 256_000
MOST_FAULTS = 20
UNSTORABLE = "holds a zero byte or half a character"
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
B = TypeVar("B", bound=BaseModel)


def json_object_up_to(most_bytes: int) -> Callable[[Request], Awaitable[dict[str, Any]]]:
    """Return the dependency that gives a route its body, a JSON object of at most so many bytes."""

    async def json_object(request: Request) -> dict[str, Any]:
        return await _json_object(request, most_bytes)

    return json_object


async def _json_object(request: Request, most_bytes: int) -> dict[str, Any]:
    """Return the body, which must be a JSON object of reasonable size. Raises `ProblemError` 413, 415, 400 or 422."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(415, "Unsupported media type", "Send application/json.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise ProblemError(413, "Too large", f"A body takes at most {most_bytes} bytes.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "Not JSON", f"The body cannot be read as JSON: {error}"[:300]) from None
    if not isinstance(value, dict):
        raise ProblemError(422, "Not valid", "The body must be a JSON object.")
    faults = tuple(FieldProblem(field=field, reason=UNSTORABLE) for field in unstorable(value))
    if faults:
        raise ProblemError(422, "Not valid", "Some fields cannot be used.", errors=faults)
    return value


def unstorable(value: Any) -> list[str]:  # noqa: ANN401  # whatever JSON may be
    """Return the fields, dotted, whose text or own name no database takes. JSON can write such text; PostgreSQL and UTF-8 cannot."""
    found: list[str] = []
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting and len(found) < MOST_FAULTS:
        path, one = waiting.pop()
        if isinstance(one, str):
            found += [path] if _UNSTORABLE.search(one) else []
        elif isinstance(one, dict | list):
            for key, inner in one.items() if isinstance(one, dict) else enumerate(one):
                name = f"{path}.{_spelt(key)}".lstrip(".")
                found += [name] if isinstance(key, str) and _UNSTORABLE.search(key) else []
                waiting.append((name, inner))
    return found[:MOST_FAULTS]


def _spelt(key: str | int) -> str:
    """Return a key as it can be answered, the unprintable escaped."""
    return _UNSTORABLE.sub(lambda bad: ascii(bad[0])[1:-1], str(key)[:100])


Body = Annotated[dict[str, Any], Depends(json_object_up_to(MOST_BYTES))]


def read(form: type[B], body: dict[str, Any]) -> B:
    """Return a body in the form that it must have. Raises `ProblemError` 422 that names the fields."""
    try:
        return form.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None


def address_of(request: Request) -> str:
    """Return where a request comes from, as far as our proxies can be believed."""
    return request.client.host if request.client else ""


def deed_of(request: Request, who: Identity, action: str, subject: str, body: dict[str, Any], clock: Clock) -> Deed:  # noqa: PLR0917  # the columns of a line
    """Return the audit line of a command."""
    return Deed(clock(), who.username, action, subject[:200], address_of(request), correlation_id(), details_of(body))


def as_json(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return bytes that are JSON already. Nobody between us and the reader keeps a copy."""
    return Response(body, status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"} | (headers or {}))
