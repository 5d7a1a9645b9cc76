"""The wire under one WebSocket client: uvicorn's protocol, opened a little, so that a frame encoded once goes to every client as it is.

Writing never waits. What a slow client has not read yet lies in its transport's buffer, whose size we watch; one that lets it grow
too far is cut off. (ASGI's own `send` would encode per client and wait for the slow ones.)
"""

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

EXTENSION = "sla.link"
"""Where a scope's `extensions` hold the link."""
LAST_WORD_S = 5.0
"""How long a client that is cut off may take to read its close frame before the connection is reset."""


class Link(Protocol):
    """What the live side needs of a client's connection."""

    def push(self, frame: bytes) -> None:
        """Send a whole encoded frame; never waits."""

    def waiting(self) -> int:
        """Return how many bytes the client has not taken yet."""

    async def drained(self) -> None:
        """Return when the client has taken nearly everything, or is gone."""

    def cut(self, code: int, reason: str) -> None:
        """Close with a code, without waiting for the client."""

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""


def text_frame(payload: bytes) -> bytes:
    """Return an unmasked text frame, as servers send it (RFC 6455, 5.2)."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class LinkedProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol, which also hands its wire to the application and resets clients that do not answer."""

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401  # websockets' request
        """Put the link where the application finds it."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][EXTENSION] = self

    def push(self, frame: bytes) -> None:
        """Send a whole encoded frame; never waits."""
        if not self.gone:
            self.transport.write(frame)

    def waiting(self) -> int:
        """Return how many bytes the client has not taken yet."""
        return 0 if self.gone else self.transport.get_write_buffer_size()

    async def drained(self) -> None:
        """Return when the client has taken nearly everything, or is gone."""
        await self.writable.wait()

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.close_sent or self.disconnected or self.transport.is_closing()

    def cut(self, code: int, reason: str) -> None:
        """Say why and close; a client that does not read it is reset a few seconds later, and its buffer with it."""
        if self.gone:
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(LAST_WORD_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """Reset the connection: closing it would wait for a client that does not read."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """Say 1012, so that the client comes back elsewhere; reset the connection if it does not read that."""
        super().shutdown()
        if self.transport.get_write_buffer_size() > 0:
            self.loop.call_later(1.0, self.transport.abort)


def link_of(scope: Any) -> Link:  # noqa: ANN401  # ASGI's own types are open
    """Return the link of a WebSocket scope. Raises KeyError under a server that is not ours."""
    link: Link = scope["extensions"][EXTENSION]
    return link


async def drained_within(link: Link, seconds: float) -> bool:
    """Wait until a client has taken what it was sent; say whether it did in time."""
    try:
        async with asyncio.timeout(seconds):
            await link.drained()
    except TimeoutError:
        return False
    return not link.gone
