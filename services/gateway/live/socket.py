"""/ws: the public feed. A snapshot with its offset, then every event; `?since=<offset>` goes on where a client stopped.

Anybody may connect, from any page: the feed carries the public projection only, the same bytes for everybody, uses no cookie and obeys no
message of the client. So there is nothing that a foreign page could gain by it, and Origin is not looked at.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from services.gateway.live.hub import CLIENTS, GOING_AWAY, TRY_LATER, Hub
from services.gateway.live.link import Link, drained_within, link_of, text_frame
from services.gateway.live.views import to_json

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

PIECE_BYTES = 256_000
"""How much of the ring is written to a client that catches up before it must have read it."""
CATCH_UP_S = 30.0
"""How long a client may take to read one piece, or its snapshot."""
BEHIND_S = 2.0
"""How long this replica may take to reach an offset that the client was given by another."""
PING_S = 20.0
PING = text_frame(b'{"type":"ping"}')
_SINCE = re.compile(r"^(-1|\d{1,18})$")


class BadSince(ValueError):  # noqa: N818  # names the fact
    """`since` is no offset."""


def since_of(query: bytes) -> int | None:
    """Return the offset to go on from, or None. Raises `BadSince`."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("since")
    if values is None:
        return None
    if len(values) > 1 or not _SINCE.match(values[0]):
        msg = "since takes one offset: the `offset` of the last frame that you have"
        raise BadSince(msg)
    return int(values[0])


async def serve(hub: Hub, scope: Any, receive: Receive, send: Send, *, max_clients: int) -> None:  # noqa: ANN401  # ASGI's own types are open
    """Serve one client until it leaves."""
    await receive()
    try:
        since = since_of(scope["query_string"])
    except BadSince as error:
        await refuse(send, 400, "Bad offset", str(error))
        return
    if not hub.ready:
        await refuse(send, 503, "Not ready", "This replica does not know the state yet. Try again in a moment.")
        return
    if hub.connected >= max_clients:
        await refuse(send, 503, "Too many clients", "This replica takes no more clients. Try again: another may.")
        return
    await send({"type": "websocket.accept"})
    link = link_of(scope)
    hub.connected += 1
    CLIENTS.set(hub.connected)
    joining = asyncio.create_task(join(hub, link, since), name="ws join")
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass  # what a client says means nothing here; reading it lets its close frame through
    finally:
        hub.connected -= 1
        CLIENTS.set(hub.connected)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        hub.clients.pop(id(link), None)


async def join(hub: Hub, link: Link, since: int | None) -> None:
    """Bring a client up to date, then let it have every event as it comes. One that reads too slowly is cut off.

    Before the first event that it gets as it comes, it is told whether more will come: an offset alone does not tell.
    """
    generation = hub.generation
    told_live: bool | None = None
    at = await _resume_at(hub, since)
    if at is None:
        generation = hub.generation
        at = -1 if hub.offset is None else hub.offset
        told_live = hub.live
        link.push(hub.snapshot_frame(reset=since is not None))
        if not await drained_within(link, CATCH_UP_S):
            link.cut(TRY_LATER, "reading too slowly")
    while hub.generation == generation and hub.offset is not None and at < hub.offset and not link.gone:
        at = await _catch_up(hub, link, at)
    if hub.generation != generation:
        link.cut(GOING_AWAY, "the feed began again")
    elif not link.gone:
        if told_live is not hub.live:
            link.push(hub.freshness_frame())
        hub.clients[id(link)] = link


async def _catch_up(hub: Hub, link: Link, at: int) -> int:
    """Give a client the next piece after `at` and return where it is then. Not more than a piece ever waits for it."""
    piece = hub.ring.since(at, max_bytes=PIECE_BYTES)
    if piece is None:
        link.cut(TRY_LATER, "reading too slowly")
        return at
    if piece.upto == at:
        await hub.reached(at + 1)
        return at
    for frame in piece.frames:
        link.push(frame)
    if not await drained_within(link, CATCH_UP_S):
        link.cut(TRY_LATER, "reading too slowly")
    return piece.upto


async def _resume_at(hub: Hub, since: int | None) -> int | None:
    """Return the offset to go on from, or None if the client must begin with a snapshot.

    An offset that is ahead of us was given by a replica that is a moment faster: that is waited for.
    """
    if since is None:
        return None
    try:
        async with asyncio.timeout(BEHIND_S):
            await hub.reached(since)
    except TimeoutError:
        return None
    return None if hub.ring.since(since, max_bytes=0) is None else since


async def refuse(send: Send, status: int, title: str, detail: str) -> None:
    """Answer the handshake with problem+json instead of a WebSocket."""
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if status == 503:  # noqa: PLR2004  # Service Unavailable
        headers.append((b"retry-after", b"2"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    body = to_json({"type": "about:blank", "title": title, "status": status, "detail": detail})
    await send({"type": "websocket.http.response.body", "body": body})


async def keep_pinging(hub: Hub, *, every_s: float = PING_S) -> None:
    """Say something to every client now and then, for ever: a page cannot see the protocol's own pings."""
    while True:
        await asyncio.sleep(every_s)
        hub.broadcast(PING)
