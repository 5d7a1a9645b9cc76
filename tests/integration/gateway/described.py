"""Every answer that a test of the gateway sees, held against the reference of the API: each field is named there, and of that type."""

import copy
import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from services.gateway.api.app import rest_app
from services.gateway.api.reference import document


@cache
def reference() -> dict[str, Any]:
    """Return the reference, which needs none of the application's parts."""
    return document(rest_app(None))  # type: ignore[arg-type]  # only routes are looked at


@cache
def _strict() -> dict[str, Any]:
    """Return the schemas, with objects that have no field besides those that are named."""
    components = copy.deepcopy(reference()["components"])
    for one in components["schemas"].values():
        if "properties" in one:
            one["additionalProperties"] = False
    return dict(components)


@cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return [
        (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), operation)
        for path, methods in sorted(reference()["paths"].items(), key=lambda item: item[0].count("{"))
        for method, operation in methods.items()
    ]


def faults(method: str, path: str, status: int, media_type: str, body: Any) -> list[str]:  # noqa: ANN401  # JSON
    """Return what an answer has that the reference does not say; nothing of an address that it does not know."""
    operation = next((one for verb, pattern, one in _operations() if verb == method and pattern.fullmatch(path)), None)
    if operation is None:
        return []
    told = operation["responses"].get(str(status)) or (operation["responses"]["default"] if status >= 400 else None)  # errors
    if told is None:
        return [f"{method} {path} answers {status}"]
    if not media_type:
        return [] if "content" not in told else [f"{method} {path} answers nothing"]
    content = told.get("content", {}).get(media_type)
    if content is None:
        return [f"{method} {path} answers {status} as {media_type}"]
    if body is None:
        return []
    validator = Draft202012Validator(content["schema"] | {"components": _strict()})
    return [f"{method} {path} {status} {one.json_path}: {one.message[:200]}" for one in validator.iter_errors(body)]


async def conforms(answer: httpx.Response) -> None:
    """Fail on an answer that is not as the reference says."""
    await answer.aread()
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    body = answer.json() if media_type.endswith("json") else None
    found = faults(answer.request.method, answer.request.url.path, answer.status_code, media_type, body)
    assert not found, found
