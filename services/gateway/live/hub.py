"""Where the stream meets the clients: applies each event once, in the order of offsets, and hands it on.

Everything here happens without waiting, in one step per event, so a client that joins sees either the state with an event
or the state before it and then the event; never both, never neither.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter, Gauge

from services.gateway.live.link import Link, text_frame
from services.gateway.live.projection import public_event
from services.gateway.live.readmodel import Answers, Facts, ReadModel
from services.gateway.live.ring import Frame, Ring
from services.gateway.live.views import Document, Views, to_json
from shared.clock import Clock
from shared.contracts.base import rfc3339
from shared.contracts.registry import Undecodable, decode
from shared.telemetry import logger

Told = Callable[[], None]

GOING_AWAY = 1012
TRY_LATER = 1013

EVENTS = Counter("sla_feed_events_total", "Events read from the stream", ["type"])
UNREADABLE = Counter("sla_feed_unreadable_total", "Messages of the stream that are no event known to this version")
RESTARTS = Counter("sla_feed_restarts_total", "Times that clients had to begin again, because the stream was replaced or had a hole")
CUT = Counter("sla_ws_cut_total", "Clients that were cut off because they read too slowly")
CLIENTS = Gauge("sla_ws_clients", "WebSocket clients connected")
LIVE = Gauge("sla_feed_live", "1 while the stream is being followed")
log = logger(__name__)


class Broken(Exception):  # noqa: N818  # names the fact
    """The stream does not go on where it stopped: it was replaced, or events between were lost."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the stream, and what stands there: the proof that it is still the same stream."""

    offset: int
    message_id: str


class Hub:
    """The live state of one gateway process."""

    def __init__(self, ring: Ring, *, clock: Clock, buffer_bytes: int) -> None:
        """Begin without any place in the stream. `buffer_bytes` is what may wait for one client."""
        self.model = ReadModel()
        self.views = Views(self.model)
        self.ring = ring
        self.clients: dict[int, Link] = {}
        self.buffer_bytes = buffer_bytes
        self.connected = 0
        """How many clients have a connection, also those that are still being brought up to date."""
        self.generation = 0
        """Grows when what clients were told is no longer a beginning of what is so: whoever was joining then begins again."""
        self.on_broken: Told = lambda: None
        self.offset: int | None = None
        """The newest offset that clients were told: everything up to it is in the model."""
        self.mark: Mark | None = None
        self.live = False
        self.opened = False
        """Whether clients may be served: the model is as new as the stream was when we came."""
        self.refilled = False
        """Whether the ring goes back as far as it can: before that, an old offset may still become known here."""
        self._clock = clock
        self._as_of: datetime | None = None
        self._seen: dict[str, None] = {}
        self._moved = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether there is something true to show."""
        return self.model.filled and self.opened and self.offset is not None

    @property
    def as_of(self) -> str | None:
        """Up to when the model is known to be true; None while it is followed live."""
        return None if self.live or self._as_of is None else rfc3339(self._as_of)

    def resume_from(self, mark: Mark | None, *, as_of: datetime) -> None:
        """Begin from a saved place; the model was restored up to it."""
        self.offset = mark.offset if mark else -1
        self.mark = mark
        self.ring.begin(self.offset + 1)
        self.model.filled = True
        self.opened = True
        self._as_of = as_of

    def expect(self, first: int) -> None:
        """Prepare for reading from offset `first`: an empty ring is filled from there."""
        if len(self.ring) == 0 or first < self.ring.first:
            self.ring.begin(first)
        if self.offset is None:
            self.offset = first - 1

    def deliver(self, offset: int, message_id: str, event_type: str, body: bytes) -> None:
        """Take one message of the stream. A repeat is passed over. Raises `Broken`; see `restart`."""
        if self.mark is not None and offset == self.mark.offset and message_id != self.mark.message_id:
            msg = f"another message stands at offset {offset}: the stream was replaced"
            raise Broken(msg)
        if offset <= self.ring.last:
            return
        if len(self.ring) == 0 and (self.offset is None or offset <= self.offset + 1):
            self.ring.begin(offset)
        if offset != self.ring.last + 1:
            msg = f"offset {offset} came after {self.ring.last}: what lay between is gone"
            raise Broken(msg)
        frame = self._take(offset, message_id, event_type, body)
        self.ring.append(offset, frame)
        if self.offset is None or offset > self.offset:
            self.offset = offset
            self.mark = Mark(offset, message_id)
            if frame is not None:
                self.broadcast(frame)
        self._moved.set()

    def restart(self, offset: int) -> None:
        """Begin again at `offset`, as nobody has seen what this stream says there: clients come back for a new snapshot."""
        RESTARTS.inc()
        self.generation += 1
        self.ring.begin(offset)
        self.offset = offset - 1
        self.mark = None
        self._seen.clear()
        self.cut_all(GOING_AWAY, "the feed began again")
        self.on_broken()

    def mend(self, answers: Answers, *, before: Facts) -> None:
        """Take in what the owners answered; where that takes something back, every client gets a new snapshot."""
        rewound = self.model.mend(answers, before=before)
        self.generation += rewound
        if rewound and self.ready:
            self.broadcast(self.snapshot_frame(reset=True))

    def set_live(self, *, live: bool) -> None:
        """Note that the stream is, or is no longer, followed; clients are told."""
        if live != self.live:
            self.live = live
            LIVE.set(live)
            self._as_of = self._clock()
            if self.opened:
                self.broadcast(self.freshness_frame())

    def caught_up(self) -> None:
        """Note that the newest message of the stream was taken, and everything before it that the ring can hold."""
        self.opened = True
        self.refilled = True
        self._moved.set()

    def snapshot_frame(self, *, reset: bool) -> Frame:
        """Return the public state as it is now, with the offset to go on from."""
        head = to_json({"type": "snapshot", "offset": self.offset, "reset": reset, "stale": not self.live, "as_of": self.as_of})
        return text_frame(head[:-1] + b',"data":' + self.views.public_data() + b"}")

    def freshness_frame(self) -> Frame:
        """Return whether the stream is followed now, and if not, up to when the state is known to be true."""
        return text_frame(to_json({"type": "live"} if self.live else {"type": "stale", "as_of": self.as_of}))

    def status_document(self) -> Document:
        """Return the answer of GET /api/v1/status as it is now."""
        return self.views.status_document(offset=-1 if self.offset is None else self.offset, stale=not self.live, as_of=self.as_of)

    def broadcast(self, frame: Frame) -> None:
        """Hand a frame to every client. One that does not keep up is cut off; nobody is waited for."""
        for client in list(self.clients.values()):
            if client.waiting() > self.buffer_bytes:
                CUT.inc()
                client.cut(TRY_LATER, "reading too slowly")
            else:
                client.push(frame)

    def cut_all(self, code: int, reason: str) -> None:
        """Close every client; they come back by themselves."""
        for client in list(self.clients.values()):
            client.cut(code, reason)

    async def reached(self, offset: int) -> None:
        """Return when it is decided whether what came after `offset` can be given: not before everything up to it was taken."""
        while self.offset is None or min(self.ring.last, self.offset) < offset or (offset < self.ring.first - 1 and not self.refilled):
            self._moved.clear()
            await self._moved.wait()

    def _take(self, offset: int, message_id: str, event_type: str, body: bytes) -> Frame | None:
        """Apply an event and return its frame, or None where the public gets nothing: unknown, not public, or said before."""
        try:
            event = decode(event_type, body)
        except Undecodable as error:
            UNREADABLE.inc()
            log.warning("passed over a message of the stream", offset=offset, reason=str(error))
            return None
        EVENTS.labels(event.type).inc()
        self.model.apply(event)
        if message_id in self._seen:
            return None
        self._seen[message_id] = None
        if len(self._seen) > self.ring.max_events:
            del self._seen[next(iter(self._seen))]
        shape = public_event(event)
        return None if shape is None else text_frame(b'{"type":"event","offset":%d,"event":%s}' % (offset, to_json(shape)))
