"""A WebSocket client of the live feed, as a subscriber would write it: it remembers its offset and what it has seen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect


@dataclass(slots=True)
class Live:
    """What one client has received, with the time of each event's arrival."""

    offset: int | None = None
    snapshot: dict[str, Any] | None = None
    resets: int = 0
    events: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, frame: dict[str, Any]) -> None:
        """Note one frame."""
        async with self.changed:
            match frame["type"]:
                case "snapshot":
                    self.snapshot, self.offset = frame["data"], frame["offset"]
                    self.resets += bool(frame.get("reset"))
                case "event":
                    self.events.append((time.time(), frame["offset"], frame["event"]))
                    self.offset = frame["offset"]
            self.changed.notify_all()

    async def seen(self, wanted: Callable[[dict[str, Any]], bool], *, within_s: float, after: int = 0) -> tuple[float, dict[str, Any]]:
        """Return arrival time and event of the first wanted one among those after the first `after`; fails when it does not come."""

        def found() -> tuple[float, dict[str, Any]] | None:
            return next(((at, event) for at, _, event in self.events[after:] if wanted(event)), None)

        async with asyncio.timeout(within_s), self.changed:
            await self.changed.wait_for(lambda: found() is not None)
        hit = found()
        assert hit is not None
        return hit


@asynccontextmanager
async def listening(base_url: str, live: Live) -> AsyncIterator[Live]:
    """Connect to /ws, with the client's last offset if it has one, until left."""
    since = "" if live.offset is None else f"?since={live.offset}"
    async with connect(base_url.replace("http://", "ws://") + f"/ws{since}", max_size=None) as socket:

        async def read() -> None:
            async for text in socket:
                await live.take(json.loads(text))

        reader = asyncio.create_task(read())
        try:
            yield live
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
