"""Resuming, as a property: clients that come and go at any moment, on any replica, see each public event once."""

import asyncio
import json
from typing import Any

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


@settings(max_examples=60)
@given(steps=STEPS, replicas=st.integers(1, 3))
def test_a_client_that_comes_back_anywhere_has_seen_each_event_once(steps: list[str], replicas: int) -> None:
    """Seen red with a client added to the broadcast before it had caught up, and with one that never caught up."""

    async def story() -> None:
        hubs = [hub_of() for _ in range(replicas)]
        pipe, at, here = Pipe(), None, 0
        seen: list[int] = []
        told = 0
        lagging: list[int] = [0] * replicas

        def collect() -> None:
            nonlocal at
            offsets = [frame["offset"] for frame in pipe.frames if frame["type"] in {"event", "snapshot"}]
            seen.extend(frame["offset"] for frame in pipe.frames if frame["type"] == "event")
            assert not any(frame.get("reset") for frame in pipe.frames)
            at = offsets[-1] if offsets else at

        async def leave() -> None:
            nonlocal pipe, here
            collect()
            hubs[here].clients.clear()
            here = (here + 1) % replicas
            pipe = Pipe()
            joining = asyncio.create_task(socket.join(hubs[here], pipe, at))
            await asyncio.sleep(0)
            while lagging[here] < told:  # a replica that is behind what the client knows catches up while the client waits
                deliver(hubs[here], lagging[here])
                lagging[here] += 1
                await asyncio.sleep(0)
            await joining

        await socket.join(hubs[0], pipe, None)
        for step in steps:
            if step == "event":
                told += 1
                for number, hub in enumerate(hubs):
                    while lagging[number] < told and (number == here or number != told % replicas):
                        deliver(hub, lagging[number])
                        lagging[number] += 1
            elif step == "drop":  # the client is away while events go on
                hubs[here].clients.clear()
            else:
                await leave()
        while lagging[here] < told:
            deliver(hubs[here], lagging[here])
            lagging[here] += 1
        await leave()
        collect()
        assert seen == list(range(told))

    asyncio.run(story())


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
