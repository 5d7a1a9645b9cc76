"""The public status: bytes that are ready, ahead of the framework, because everybody asks for it when something is down."""

from typing import Any

from services.gateway.live.hub import Hub
from services.gateway.live.views import to_json

PATH = "/api/v1/status"
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"public, max-age=0, must-revalidate"),
    (b"access-control-allow-origin", b"*"),  # public, and the same for everybody
    (b"x-content-type-options", b"nosniff"),
]


async def answer(hub: Hub, scope: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types are open
    """Answer GET or HEAD with the present state, or with 304 if the asker has it."""
    if not hub.ready:
        problem = {
            "type": "about:blank",
            "title": "Not ready",
            "status": 503,
            "detail": "The state is not known here yet. Try again in a moment.",
        }
        headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), (b"retry-after", b"2")]
        await _send(send, 503, headers, to_json(problem), head=False)
        return
    document = hub.status_document()
    headers = [*_HEADERS, (b"etag", document.etag)]
    for name, value in scope["headers"]:
        if name == b"if-none-match" and _matches(value, document.etag):
            await _send(send, 304, headers, b"", head=True)
            return
    await _send(send, 200, headers, document.body, head=scope["method"] == "HEAD")


def _matches(value: bytes, etag: bytes) -> bool:
    tags = {tag.strip().removeprefix(b"W/") for tag in value.split(b",")}
    return etag in tags or b"*" in tags


async def _send(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, head: bool) -> None:  # noqa: ANN401
    length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]  # noqa: PLR2004  # Not Modified has no body
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if head else body})
