"""Resuming, as a property: clients that come and go at any moment, on any replica, see each public event once."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.live import socket
from services.gateway.live.hub import Hub
from services.gateway.live.ring import Ring
from shared.contracts.codes import Status
from shared.contracts.registry import encode
from tests.integration.gateway.rig import NOW, changed, status_of


class Pipe:
    """A client's link that keeps what it was sent; `reads` says whether it takes it."""

    def __init__(self, *, reads: bool = True) -> None:
        self.frames: list[dict[str, Any]] = []
        self.held = 0
        self.reads = reads
        self.closed: int | None = None

    def push(self, frame: bytes) -> None:
        start = 2 if frame[1] < 126 else 4 if frame[1] == 126 else 10
        if self.reads:
            self.frames.append(json.loads(frame[start:]))
        else:
            self.held += len(frame)

    def waiting(self) -> int:
        return self.held

    async def drained(self) -> None:
        if not self.reads:
            await asyncio.Event().wait()

    def cut(self, code: int, reason: str) -> None:
        assert reason
        self.closed = self.closed or code

    @property
    def gone(self) -> bool:
        return self.closed is not None


class HeldPipe(Pipe):
    """A link whose client reads when it is let: `asked` says that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.read = asyncio.Event(), asyncio.Event()

    async def drained(self) -> None:
        self.asked.set()
        await self.read.wait()


def hub_of(*, events: int = 1000, buffer: int = 10_000) -> Hub:
    hub = Hub(Ring(events, 10_000_000), clock=lambda: NOW, buffer_bytes=buffer)
    hub.model.filled = True
    hub.expect(0)
    hub.set_live(live=True)
    hub.caught_up()
    return hub


def deliver(hub: Hub, offset: int) -> None:
    one = changed(status_of(f"s{offset % 3}", Status.OPERATIONAL, version=offset + 1))
    hub.deliver(offset, str(one.id), one.type, encode(one))


STEPS = st.lists(st.sampled_from(["event", "event", "drop", "leave"]), max_size=40)


class Story:
    """Some replicas that follow the same stream, not equally fast, and one client that wanders between them."""

    def __init__(self, replicas: int) -> None:
        self.hubs = [hub_of() for _ in range(replicas)]
        self.taken = [0] * replicas
        self.told = 0
        self.here = 0
        self.pipe = Pipe()
        self.at: int | None = None
        self.seen: list[int] = []

    def event(self) -> None:
        """Say one more event; the client's replica takes it, of the others most."""
        self.told += 1
        for number in range(len(self.hubs)):
            if number == self.here or number != self.told % len(self.hubs):
                self.take(number)

    def take(self, number: int) -> None:
        """Let a replica take everything that was said."""
        while self.taken[number] < self.told:
            deliver(self.hubs[number], self.taken[number])
            self.taken[number] += 1

    def drop(self) -> None:
        """Lose the connection: events go on without the client."""
        self.hubs[self.here].clients.clear()

    async def leave(self) -> None:
        """Come to the next replica with the last offset. One that is behind what the client knows catches up while it waits."""
        self.drop()
        self.collect()
        self.here = (self.here + 1) % len(self.hubs)
        self.pipe = Pipe()
        joining = asyncio.create_task(socket.join(self.hubs[self.here], self.pipe, self.at))
        await asyncio.sleep(0)
        self.take(self.here)
        await joining

    def collect(self) -> None:
        """Note what the present connection brought."""
        frames = [frame for frame in self.pipe.frames if frame["type"] in {"event", "snapshot"}]
        assert not any(frame.get("reset") for frame in frames)
        self.seen += [frame["offset"] for frame in frames if frame["type"] == "event"]
        self.at = frames[-1]["offset"] if frames else self.at


@settings(max_examples=100)
@given(steps=STEPS, replicas=st.integers(1, 3))
def test_a_client_that_comes_back_anywhere_has_seen_each_event_once(steps: list[str], replicas: int) -> None:
    """Seen red with a client added to the broadcast before it had caught up, and with one that never caught up."""

    async def tell() -> None:
        story = Story(replicas)
        await socket.join(story.hubs[0], story.pipe, None)
        for step in steps:
            match step:
                case "event":
                    story.event()
                case "drop":
                    story.drop()
                case _:
                    await story.leave()
        await story.leave()
        story.collect()
        assert story.seen == list(range(story.told))

    asyncio.run(tell())


async def test_a_slow_client_is_cut_off_and_never_holds_more_than_its_share() -> None:
    hub = hub_of(buffer=5_000)
    slow, quick = Pipe(), Pipe()
    await asyncio.gather(socket.join(hub, slow, None), socket.join(hub, quick, None))
    slow.reads = False
    for offset in range(100):
        deliver(hub, offset)
        hub.clients = {key: link for key, link in hub.clients.items() if not link.gone}
    assert slow.closed == 1013
    assert slow.held < 6_000
    assert sum(frame["type"] == "event" for frame in quick.frames) == 100


async def test_an_offset_that_is_too_old_gets_a_snapshot_that_says_so() -> None:
    hub = hub_of(events=5)
    for offset in range(20):
        deliver(hub, offset)
    pipe = Pipe()
    await socket.join(hub, pipe, 3)
    assert [(frame["type"], frame["reset"], frame["offset"]) for frame in pipe.frames] == [("snapshot", True, 19)]


async def test_an_offset_of_the_future_gets_a_snapshot_after_a_moment(monkeypatch: Any) -> None:  # noqa: ANN401  # pytest's own
    monkeypatch.setattr(socket, "BEHIND_S", 0.02)
    hub = hub_of()
    deliver(hub, 0)
    pipe = Pipe()
    await socket.join(hub, pipe, 100)
    assert [(frame["type"], frame["reset"], frame["offset"]) for frame in pipe.frames] == [("snapshot", True, 0)]


async def test_an_event_that_the_relay_sent_twice_is_shown_once() -> None:
    hub = hub_of()
    pipe = Pipe()
    await socket.join(hub, pipe, None)
    one = changed(status_of(version=1))
    for offset in (0, 1):
        hub.deliver(offset, str(one.id), one.type, encode(one))
    assert [frame["offset"] for frame in pipe.frames if frame["type"] == "event"] == [0]
    assert hub.offset == 1


async def test_a_message_that_is_no_event_takes_its_offset_and_nothing_else() -> None:
    hub = hub_of()
    pipe = Pipe()
    await socket.join(hub, pipe, None)
    hub.deliver(0, "x", "service.of_the_future.v7", b"{}")
    hub.deliver(1, "y", "service.status_changed.v1", b"no json")
    deliver(hub, 2)
    assert [frame["offset"] for frame in pipe.frames if frame["type"] == "event"] == [2]


@pytest.mark.parametrize(("live", "expected"), [(True, {"type": "live"}), (False, {"type": "stale", "as_of": "2026-03-01T09:00:00.000Z"})])
async def test_a_client_that_comes_back_is_told_whether_this_replica_is_live(*, live: bool, expected: dict[str, Any]) -> None:
    hub = hub_of()
    deliver(hub, 0)
    hub.set_live(live=live)
    pipe = Pipe()
    await socket.join(hub, pipe, 0)
    assert pipe.frames == [expected]


async def test_a_feed_that_is_lost_while_a_client_catches_up_is_told_too() -> None:
    hub = hub_of()
    pipe = HeldPipe()
    joining = asyncio.create_task(socket.join(hub, pipe, None))
    await pipe.asked.wait()
    hub.set_live(live=False)
    pipe.read.set()
    await joining
    assert [frame["type"] for frame in pipe.frames] == ["snapshot", "stale"]
