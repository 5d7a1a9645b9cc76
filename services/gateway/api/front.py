"""The front door: what is hot or public goes straight to its bytes; the rest goes to the framework, under a correlation id."""

import re
from typing import Any
from uuid import uuid4

from services.gateway.api import status
from services.gateway.api.app import rest_app
from services.gateway.live import socket
from services.gateway.live.views import to_json
from services.gateway.parts import Parts
from services.gateway.web.page import Page
from shared.health import Health
from shared.telemetry import correlated

_ID = re.compile(r"^[A-Za-z0-9._:-]{1,64}$")
READING = frozenset({"GET", "HEAD"})
SECURITY = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"), (b"x-frame-options", b"DENY")]
HSTS = (b"strict-transport-security", b"max-age=31536000")


class Front:
    """The ASGI application of the gateway."""

    def __init__(self, parts: Parts, page: Page, degraded: Health) -> None:
        """`degraded` knows what is away that reading goes on without."""
        self._parts = parts
        self._page = page
        self._degraded = degraded
        self._rest = rest_app(parts)
        self._headers = [*SECURITY, HSTS] if parts.settings.cookie_secure else SECURITY

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types are open
        """Answer one request or serve one WebSocket."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        path, reading = scope["path"], scope["method"] in READING
        if path == status.PATH and reading:
            await status.answer(self._parts.hub, scope, send)
        elif path == "/health/ready" and reading:
            await self._ready(send)
        elif reading and self._page.serves(path):
            await self._page.answer(scope, self._secure(send))
        else:
            await self._framework(scope, receive, send)

    async def _websocket(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        if scope["path"] == "/ws":
            await socket.serve(self._parts.hub, scope, receive, send, max_clients=self._parts.settings.ws_max_clients)
        else:
            await receive()
            await socket.refuse(send, 404, "Not found", "The feed is at /ws.")

    async def _ready(self, send: Any) -> None:  # noqa: ANN401
        """Say whether this replica has something true to show. What else is away is named, without its reasons: this port is public."""
        hub = self._parts.hub
        away = sorted(await self._degraded.reasons())
        body = to_json({"ready": hub.ready, "live": hub.live, "away": away})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200 if hub.ready else 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _framework(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = given if _ID.match(given) else uuid4().hex
        with correlated(request_id):
            await self._rest(scope, receive, self._secure(send, (b"x-request-id", request_id.encode())))

    def _secure(self, send: Any, *more: tuple[bytes, bytes]) -> Any:  # noqa: ANN401
        async def sending(message: Any) -> None:  # noqa: ANN401
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers, *more]
            await send(message)

        return sending
