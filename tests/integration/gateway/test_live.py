"""The live feed on a real broker: nothing missing, nothing twice, whatever is cut."""

import asyncio
import json
import random
import socket as sockets
from contextlib import AsyncExitStack
from typing import Any

import aio_pika
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.gateway.cache import open_cache
from services.gateway.live import snapshot
from shared import topology
from shared.contracts.codes import Role, Status
from shared.contracts.envelope import Event
from tests.integration.gateway import rig
from tests.integration.gateway.conftest import Chooser
from tests.proxy import Proxy, running_proxy
from tests.servers import Vhost
from tests.waiting import until


def flips(count: int, *, after: int = 1) -> list[Event[Any]]:
    """Return status changes of one service."""
    return [
        rig.changed(rig.status_of(status=Status.MAJOR_OUTAGE if version % 2 else Status.OPERATIONAL, version=version))
        for version in range(after + 1, after + 1 + count)
    ]


async def frames(ws: ClientConnection, count: int, *, kind: str = "event") -> list[dict[str, Any]]:
    """Return the next frames of a kind."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            frame = json.loads(await ws.recv())
            if frame["type"] == kind:
                found.append(frame)
    return found


def cut(wire: Proxy) -> None:
    """Break every link, and let nobody through."""
    wire.refuse()
    wire.reset()


async def test_a_client_gets_a_snapshot_with_its_offset_then_every_event(running: rig.Running, others: rig.World) -> None:
    async with connect(running.ws) as ws:
        (first,) = await frames(ws, 1, kind="snapshot")
        assert first["data"]["services"][0]["status"] == "o"
        said = flips(20)
        await others.say(*said)
        got = await frames(ws, 20)
    assert [frame["event"]["id"] for frame in got] == [str(one.id) for one in said]
    assert [frame["offset"] for frame in got] == list(range(first["offset"] + 1, first["offset"] + 21))


async def test_the_feed_takes_up_again_without_gap_or_repeat_when_its_link_is_cut(choose: Chooser, vhost: Vhost, others: rig.World) -> None:
    """Clients stay; they are told `stale`, then `live`, and miss nothing of what was said meanwhile."""
    said = flips(60)
    async with running_proxy(vhost.amqp_url) as wire, rig.gateway(choose(amqp_url=wire.url(vhost.amqp_url))) as one:
        await one.ready()
        async with connect(one.ws) as ws:
            await frames(ws, 1, kind="snapshot")
            await others.say(*said[:20])
            got = await frames(ws, 20)
            for part in (said[20:40], said[40:]):
                cut(wire)
                (stale,) = await frames(ws, 1, kind="stale")
                assert stale["as_of"]
                assert (await one.status())["stale"] is True
                await others.say(*part)
                wire.accept()
                got += await frames(ws, 20)
    assert [frame["event"]["id"] for frame in got] == [str(event.id) for event in said]


async def test_who_comes_back_while_the_feed_is_cut_is_told_so(choose: Chooser, vhost: Vhost, others: rig.World) -> None:
    """An offset that is known here gets no snapshot, which would say it. Seen red as a page that said "Live"."""
    async with running_proxy(vhost.amqp_url) as wire, rig.gateway(choose(amqp_url=wire.url(vhost.amqp_url))) as one:
        await one.ready()
        async with connect(one.ws) as ws:
            await others.say(*flips(1))
            (event,) = await frames(ws, 1)
            cut(wire)
            await frames(ws, 1, kind="stale")
        async with connect(f"{one.ws}?since={event['offset']}") as ws:
            said = json.loads(await asyncio.wait_for(ws.recv(), 5))
            assert (said["type"], bool(said["as_of"])) == ("stale", True)
            wire.accept()
            await frames(ws, 1, kind="live")


async def test_a_link_that_swallows_everything_is_noticed(choose: Chooser, vhost: Vhost, others: rig.World) -> None:
    async with running_proxy(vhost.amqp_url) as wire, rig.gateway(choose(amqp_url=wire.url(vhost.amqp_url))) as one:
        await one.ready()
        async with connect(one.ws) as ws:
            await frames(ws, 1, kind="snapshot")
            wire.stall()
            await frames(ws, 1, kind="stale")
            wire.reset()
            wire.resume()
            await others.say(*flips(1))
            await frames(ws, 1)


async def test_a_client_that_was_away_has_seen_every_event_once_across_two_replicas(choose: Chooser, others: rig.World) -> None:
    """200 events; the client is cut off again and again and comes back to the other replica with its last offset.

    Seen red with a resume that starts one event late, and with one that starts one early.
    """
    said = flips(200)
    seen: list[str] = []
    chance = random.Random(7)
    async with rig.gateway(choose()) as first, rig.gateway(choose()) as second:
        await first.ready()
        await second.ready()
        telling = asyncio.create_task(others.say(*said))
        offset: int | None = None
        turn = 0
        async with asyncio.timeout(60):
            while len(seen) < len(said):
                turn += 1
                address = (first, second)[turn % 2].ws + ("" if offset is None else f"?since={offset}")
                async with connect(address) as ws:
                    for _ in range(chance.randint(1, 30)):
                        frame = json.loads(await ws.recv())
                        assert not frame.get("reset")
                        if frame["type"] == "event":
                            seen.append(frame["event"]["id"])
                        if frame["type"] in {"event", "snapshot"}:
                            offset = frame["offset"]
                        if len(seen) == len(said):
                            break
                    ws.transport.abort()
        await telling
    assert seen == [str(one.id) for one in said]
    assert turn > 5


async def test_a_client_that_reads_slowly_is_cut_off_and_the_others_are_not_kept_waiting(choose: Chooser, others: rig.World) -> None:
    owners = others.owners
    owners.services = {f"s{number}": rig.definition(f"s{number}") for number in range(3)}
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(rig.gateway(choose(ws_buffer_bytes=10_000)))
        await one.ready()
        slow = sockets.socket()
        slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        slow.setblocking(False)
        stack.callback(slow.close)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", one.port))
        request = (
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{one.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        )
        await loop.sock_sendall(slow, (request + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        assert (await loop.sock_recv(slow, 16)).startswith(b"HTTP/1.1 101")
        quick = await stack.enter_async_context(connect(one.ws))
        await frames(quick, 1, kind="snapshot")
        long_words = [rig.registered(rig.definition("s1", version=version, description="x" * 50_000)) for version in range(2, 202)]
        telling = asyncio.create_task(others.say(*long_words))
        assert len(await frames(quick, 200)) == 200
        await telling

        async def ended() -> bool:
            async with httpx.AsyncClient() as http:
                metrics = (await http.get(f"{one.url}/health/ready")).status_code
            return metrics == 200 and one.hub.connected == 1

        await until(ended, within_s=15, what="the slow client is gone")


async def test_a_stream_that_was_replaced_is_noticed_and_clients_begin_again(choose: Chooser, others: rig.World, vhost: Vhost) -> None:
    """An operator deletes the stream while the link is down: offsets begin at 0 again, and old ones mean nothing.

    Seen red without the comparison of message ids.
    """
    async with running_proxy(vhost.amqp_url) as wire, rig.gateway(choose(amqp_url=wire.url(vhost.amqp_url))) as one:
        await one.ready()
        async with connect(one.ws) as ws:
            (before,) = await frames(ws, 1, kind="snapshot")
            await others.say(*flips(5))
            await frames(ws, 5)
            cut(wire)
            await frames(ws, 1, kind="stale")
            await replace_stream(vhost)
            await others.say(*flips(9, after=6))
            wire.accept()
            with pytest.raises(ConnectionClosed) as closed:
                await frames(ws, 1)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012

        async def again() -> bool:
            return bool((await one.status()).get("services", [{}])[0].get("status_version") == 15)

        await until(again, within_s=20, what="the new stream is followed")
        async with connect(f"{one.ws}?since={before['offset'] + 100}") as ws:
            (after,) = await frames(ws, 1, kind="snapshot")
    assert after["reset"] is True
    assert after["offset"] == 8


async def replace_stream(vhost: Vhost) -> None:
    """Delete the stream and make it anew."""
    async with await aio_pika.connect(vhost.amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(topology.STATUS_STREAM)
        queue = await channel.declare_queue(topology.STATUS_STREAM, durable=True, arguments=dict(topology.STREAM_ARGUMENTS))  # type: ignore[arg-type]  # field table
        for key in topology.STREAM_BINDINGS:
            await queue.bind(topology.EVENTS, routing_key=key)


@pytest.mark.usefixtures("running")
async def test_a_new_replica_begins_from_the_snapshot_while_everything_else_is_down(
    choose: Chooser, others: rig.World, redis_url: str
) -> None:
    said = flips(10)
    await others.say(*said)

    async def saved() -> bool:
        async with open_cache(redis_url, name="test") as cache:
            body = await cache.get(snapshot.KEY)
        return body is not None and snapshot.Snapshot.model_validate_json(body).statuses[0].version == 11

    await until(saved, within_s=10, what="a saved snapshot")
    nowhere = "127.0.0.1:1"
    alone = choose(amqp_url=f"amqp://x:y@{nowhere}/", database_url=f"postgresql://x:y@{nowhere}/none")
    async with rig.gateway(alone) as one:
        await one.ready()
        state = await one.status()
        assert state["stale"] is True
        assert state["as_of"]
        assert state["services"][0]["status_version"] == 11
        async with connect(one.ws) as ws:
            (first,) = await frames(ws, 1, kind="snapshot")
            assert first["stale"] is True
        async with httpx.AsyncClient(base_url=one.url) as http:
            assert (await http.get("/health/ready")).json() == {"ready": True, "live": False, "away": ["database", "rpc client"]}
            assert "Not live" in (await http.get("/")).text
            refused = await http.post("/api/v1/session", json={"username": "admin", "password": rig.PASSWORD})
            assert refused.status_code == 503
    async with rig.gateway(choose()) as caught_up:
        await caught_up.ready()
        async with connect(f"{caught_up.ws}?since={first['offset'] - 4}") as ws:
            got = await frames(ws, 4)
    assert [frame["event"]["id"] for frame in got] == [str(event.id) for event in said[-4:]]


@pytest.mark.usefixtures("people")
async def test_without_redis_everything_still_works(choose: Chooser, others: rig.World) -> None:
    async with rig.gateway(choose(redis_url="redis://127.0.0.1:1/0")) as one:
        await one.ready()
        async with rig.signed_in(one, Role.VIEWER) as http:
            assert (await http.get("/api/v1/services/face-compare/uptime?days=3")).status_code == 200
        async with connect(one.ws) as ws:
            await frames(ws, 1, kind="snapshot")
            await others.say(*flips(1))
            await frames(ws, 1)


@pytest.mark.parametrize("since", ["", "x", "-2", "1.5", "1&since=2", "9" * 30])
async def test_a_bad_offset_is_refused_with_a_reason(running: rig.Running, since: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{running.ws}?since={since}"):
            pass
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body)["title"] == "Bad offset"


@pytest.mark.usefixtures("others")
async def test_more_clients_than_allowed_are_sent_elsewhere(choose: Chooser) -> None:
    async with rig.gateway(choose(ws_max_clients=1)) as one:
        await one.ready()
        async with connect(one.ws):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(one.ws):
                    pass
            assert refused.value.response.status_code == 503


@pytest.mark.usefixtures("others")
async def test_at_the_end_clients_are_told_to_come_back_elsewhere(choose: Chooser) -> None:
    async with rig.gateway(choose()) as one:
        await one.ready()
        ws = await connect(one.ws)
        await frames(ws, 1, kind="snapshot")
    with pytest.raises(ConnectionClosed) as closed:
        await frames(ws, 1)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_definition_that_vanished_without_an_event_is_mended_and_clients_begin_again(choose: Chooser, others: rig.World) -> None:
    async with rig.gateway(choose(refresh_every_s=1)) as one:
        await one.ready()
        async with connect(one.ws) as ws:
            await frames(ws, 1, kind="snapshot")
            others.owners.services.clear()
            (second,) = await frames(ws, 1, kind="snapshot")
    assert second["reset"] is True
    assert second["data"]["services"] == []
