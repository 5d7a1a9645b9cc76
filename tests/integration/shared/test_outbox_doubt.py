"""What somebody began to send and did not end is sent once, on a real database and a real broker; and again rather than never."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared import migrate as migrating
from shared import outbox, streams, topology
from shared.contracts.envelope import Event
from shared.contracts.registry import PAYLOADS
from shared.database import Pool, transaction
from shared.doubt import asking
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher, open_publisher
from shared.migrate import migrate
from shared.outbox import Relay, relaying
from tests.integration.shared.facts import Look, fact, looking, outgoing
from tests.proxy import running_proxy
from tests.servers import Database, Vhost
from tests.waiting import until

LEDGER = "test.ledger"
WITNESS = "incidents.outbox"
SETTLE_S = 0.3
SQL_WAITING = "select count(*) from outbox"
SQL_MARKED = "select count(sending_since) from outbox"


class Killed(BaseException):
    """The process is gone: nothing after this line happens."""


class Dying:
    """Stands before a real publisher; the process is killed with the first batch, before it was published or after it was confirmed."""

    def __init__(self, publisher: Publisher, *, confirmed: bool) -> None:
        self._publisher = publisher
        self._confirmed = confirmed

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else a publisher has
        return getattr(self._publisher, name)

    async def publish_many(self, messages: Sequence[Outgoing]) -> dict[str, NotConfirmed]:
        if self._confirmed:
            assert not await self._publisher.publish_many(messages)
        raise Killed


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a socket of this machine arrives sooner than elsewhere."""
    monkeypatch.setattr(outbox, "SETTLE_S", SETTLE_S)


@pytest.fixture
async def ledger(vhost: Vhost, publisher: Publisher) -> AsyncIterator[Look]:
    """A queue of the test's own that gets every event."""
    assert publisher.connected.is_set()
    async with looking(vhost.amqp_url) as look:
        await look.keep(LEDGER, topology.EVENTS)
        yield look


async def sent(ledger: Look) -> list[str]:
    """Return the subjects' message ids in the ledger, in order, and empty it."""
    ids = []
    while (message := await ledger.take(LEDGER)) is not None:
        ids.append(message.message_id or "")
    return ids


async def say(pool: Pool, *events: Event[Any]) -> list[str]:
    async with transaction(pool) as conn:
        await outbox.append_many(conn, events)
    return [str(event.id) for event in events]


async def die(pool: Pool, publisher: Publisher, *, confirmed: bool) -> None:
    """Run a relay that is killed with its first batch."""
    with pytest.raises(Killed):
        await Relay(pool, Dying(publisher, confirmed=confirmed)).drain()  # type: ignore[arg-type]  # stands before the real one
    assert await pool.fetchval(SQL_MARKED) > 0


async def emptied(pool: Pool) -> bool:
    return int(await pool.fetchval(SQL_WAITING)) == 0


async def test_what_a_killed_relay_had_sent_is_not_sent_again(pool: Pool, publisher: Publisher, ledger: Look) -> None:
    """Seen red with `ids_since` that finds nothing: both were sent twice."""
    told = await say(pool, fact(1), fact(2))
    await die(pool, publisher, confirmed=True)
    told += await say(pool, fact(3))
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == told
    assert await emptied(pool)


async def test_what_a_killed_relay_had_not_sent_is_sent_once_and_before_what_came_later(
    pool: Pool, publisher: Publisher, ledger: Look
) -> None:
    """Seen red with every row in doubt deleted (lost), and without the wait for rows that were just begun (overtaken)."""
    told = await say(pool, fact(1), fact(2))
    await die(pool, publisher, confirmed=False)
    told += await say(pool, fact(3))
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == told
    assert await emptied(pool)


async def test_of_a_batch_that_was_half_sent_the_other_half_is_sent(pool: Pool, publisher: Publisher, ledger: Look) -> None:
    told = await say(pool, fact(1), fact(2), fact(3))
    await die(pool, publisher, confirmed=False)
    await publisher.publish(outgoing(fact(2)))
    await Relay(pool, publisher).drain()
    assert sorted(await sent(ledger)) == sorted(told)


async def test_what_another_process_left_is_found_without_a_restart(pool: Pool, publisher: Publisher, ledger: Look, health: Health) -> None:
    """Seen red with a look at the beginning only."""
    async with relaying(pool, publisher, health):
        told = await say(pool, fact(1))
        await until(lambda: emptied(pool), within_s=5, what="the first is sent")
        told += await say(pool, fact(2))
        await die(pool, publisher, confirmed=True)
        await until(lambda: emptied(pool), within_s=5, what="the second is found out about")
    assert await sent(ledger) == told


async def test_what_was_not_confirmed_and_arrived_is_not_sent_again(pool: Pool, vhost: Vhost, ledger: Look, health: Health) -> None:
    """Seen red with rows freed that were not confirmed."""
    async with (
        running_proxy(vhost.amqp_url) as proxy,
        open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=0.5) as far,
    ):
        await far.connected.wait()
        told = await say(pool, fact(0))
        relay = Relay(pool, far)
        await relay.drain()
        told += await say(pool, fact(1))
        proxy.stall(answers_only=True)
        with pytest.raises(NotConfirmed):
            await relay.drain()
        proxy.resume()
        await relay.drain()
        assert await sent(ledger) == told
        assert await emptied(pool)


async def test_what_is_still_in_our_own_socket_is_waited_for(pool: Pool, vhost: Vhost, ledger: Look, health: Health) -> None:
    """The broker reads nothing of this link for a while, and can be asked by another. Seen red without `settled`: sent twice."""
    async with (
        running_proxy(vhost.amqp_url) as proxy,
        open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=0.5) as far,
    ):
        await far.connected.wait()
        far.url = vhost.amqp_url
        told = await say(pool, fact(0))
        relay = Relay(pool, far)
        await relay.drain()
        told += await say(pool, fact(1))
        proxy.stall()
        for _ in range(2):
            with pytest.raises(NotConfirmed):
                await relay.drain()
        proxy.resume()
        await relay.drain()
        assert await sent(ledger) == told
        assert await emptied(pool)


async def test_where_the_broker_cannot_be_asked_nothing_is_sent_until_it_can(
    pool: Pool, vhost: Vhost, publisher: Publisher, ledger: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not reached, then lost on the way. Seen red with trouble of the link taken for a missing stream: sent twice."""
    told = await say(pool, fact(1))
    await die(pool, publisher, confirmed=True)
    relay = Relay(pool, publisher)
    attach = streams.attach
    async with running_proxy(vhost.amqp_url) as proxy:

        async def lose(*arguments: Any) -> Any:  # noqa: ANN401  # as attach
            proxy.reset()
            return await attach(*arguments)

        publisher.url = proxy.url(vhost.amqp_url)
        proxy.refuse()
        with pytest.raises(ConnectionError, match="the broker cannot be asked"):
            await relay.drain()
        proxy.accept()
        with monkeypatch.context() as spoilt:
            spoilt.setattr(streams, "attach", lose)
            with pytest.raises(ConnectionError, match="the broker cannot be asked"):
                await relay.drain()
        await relay.drain()
    assert await sent(ledger) == told


async def test_without_a_stream_it_is_sent_again_rather_than_never(pool: Pool, vhost: Vhost, publisher: Publisher, ledger: Look) -> None:
    """An operator deleted it. Seen red with the missing stream as an error: never sent."""
    told = await say(pool, fact(1))
    await die(pool, publisher, confirmed=True)
    vhost.api("DELETE", f"/api/queues/{{vhost}}/{topology.STATUS_STREAM}")
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == told * 2
    assert await emptied(pool)


async def test_a_stream_that_may_know_more_than_the_queues_is_not_believed(
    pool: Pool, vhost: Vhost, publisher: Publisher, ledger: Look
) -> None:
    """The witness is gone, as after a restart of the broker in the midst of a publish. Seen red with `runs_on` always true: lost."""
    told = await say(pool, fact(1))
    await die(pool, publisher, confirmed=True)
    assert await sent(ledger) == told
    vhost.api("DELETE", f"/api/queues/{{vhost}}/{WITNESS}/contents")
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == told
    await say(pool, fact(2))
    await die(pool, publisher, confirmed=True)
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == [str(fact(2).id)], "the new run is believed"


async def test_a_relay_looks_again_for_the_witness_after_another_link(pool: Pool, vhost: Vhost, ledger: Look, health: Health) -> None:
    """Seen red with a look at the first link only: after an idle restart of the broker nobody was believed any more."""
    async with (
        running_proxy(vhost.amqp_url) as proxy,
        open_publisher(proxy.url(vhost.amqp_url), name="far", health=health) as far,
        relaying(pool, far, health),
    ):
        assert ledger

        async def signed() -> bool:
            async with asking(vhost.amqp_url, witness=WITNESS) as broker:
                return await broker.runs_on()

        await until(signed, within_s=10, what="the witness")
        vhost.api("DELETE", f"/api/queues/{{vhost}}/{WITNESS}/contents")
        proxy.reset()
        await until(signed, within_s=15, what="another witness")


async def test_a_slow_relay_does_not_send_what_another_has_taken_over(pool: Pool, publisher: Publisher, ledger: Look) -> None:
    """Stopped between mark and publish for so long that the other took it for dead. Seen red without `sending_since` in SQL_TAKE."""
    asleep, awake = asyncio.Event(), asyncio.Event()

    class Slow(Relay):
        async def _send(self, marked: Sequence[asyncpg.Record]) -> None:
            asleep.set()
            await awake.wait()
            await super()._send(marked)

    told = await say(pool, fact(1))
    slow = asyncio.create_task(Slow(pool, publisher).drain())
    await asleep.wait()
    await die(pool, publisher, confirmed=True)
    awake.set()
    await slow
    await Relay(pool, publisher).drain()
    assert await sent(ledger) == told
    assert await emptied(pool)


async def test_what_another_is_sending_is_left_to_it_however_long_it_takes(pool: Pool, publisher: Publisher, ledger: Look) -> None:
    """Seen red without the lock in SQL_TAKE: freed and sent by both."""
    under_way, answered = asyncio.Event(), asyncio.Event()

    class Long(Dying):
        async def publish_many(self, messages: Sequence[Outgoing]) -> dict[str, NotConfirmed]:
            under_way.set()
            await answered.wait()
            return await publisher.publish_many(messages)

    told = await say(pool, fact(1))
    long = asyncio.create_task(Relay(pool, Long(publisher, confirmed=True)).drain())  # type: ignore[arg-type]  # stands before the real one
    await under_way.wait()
    await asyncio.sleep(SETTLE_S * 1.5)  # how long the broker takes is the test's premise
    await Relay(pool, publisher).drain()
    answered.set()
    await long
    assert await sent(ledger) == told
    assert await emptied(pool)


async def test_two_relays_that_find_the_same_doubt_settle_it_once(pool: Pool, publisher: Publisher, ledger: Look) -> None:
    """Some sent, some not, two that look at once. Seen red with every row in doubt deleted."""
    told = await say(pool, *(fact(number) for number in range(40)))
    await die(pool, publisher, confirmed=False)
    assert not await publisher.publish_many([outgoing(fact(number)) for number in range(20)])
    await asyncio.gather(*(Relay(pool, publisher).drain() for _ in range(2)))
    await until(lambda: _drained(pool, publisher), within_s=10, what="an empty outbox")
    assert sorted(await sent(ledger)) == sorted(told)


async def _drained(pool: Pool, publisher: Publisher) -> bool:
    await Relay(pool, publisher).drain()
    return await emptied(pool)


async def test_the_usual_path_asks_nobody(pool: Pool, publisher: Publisher, ledger: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the broker was seen to run. Seen red with a look at the stream for every batch."""
    monkeypatch.setattr(outbox, "SETTLE_S", 0.0)
    relay = Relay(pool, publisher)
    await relay.drain()

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(outbox, "asking", never)
    for number in range(5):
        await say(pool, fact(number))
        await relay.drain()
    assert len(await sent(ledger)) == 5


async def test_leaving_while_a_batch_is_under_way_leaves_no_doubt(
    pool: Pool, publisher: Publisher, ledger: Look, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen red with the drain after the relay was cancelled: the batch lay in doubt for the next process."""
    monkeypatch.setattr(outbox, "SETTLE_S", 10.0)
    under_way = asyncio.Event()

    class Long(Publisher):
        async def publish_many(self, messages: Sequence[Outgoing]) -> dict[str, NotConfirmed]:
            under_way.set()
            await asyncio.sleep(SETTLE_S)  # how long the broker takes
            return await publisher.publish_many(messages)

    long = Long.__new__(Long)
    long.__dict__ = publisher.__dict__
    told = await say(pool, fact(1))
    async with relaying(pool, long, health):
        await under_way.wait()
    assert await emptied(pool)
    assert await sent(ledger) == told


async def test_every_event_goes_to_the_stream_and_is_found_there(vhost: Vhost, publisher: Publisher, ledger: Look) -> None:
    """But for what goes to the exchange of checks. Seen red with "maintenance.#" taken out of STREAM_BINDINGS."""
    assert ledger
    types = [name for name in PAYLOADS if not name.startswith(("checks.", "calls."))]
    assert not await publisher.publish_many([Outgoing(topology.EVENTS, name, b"{}", name, "") for name in types])
    async with asking(vhost.amqp_url, witness=WITNESS) as broker:
        assert await broker.arrived(types, datetime.now(UTC)) == set(types)


async def test_a_long_stream_is_read_to_its_end(vhost: Vhost, publisher: Publisher) -> None:
    """Seen red with the end taken for reached after the first piece of it."""
    many = 3 * streams.PREFETCH + 7
    facts = [Outgoing(topology.EVENTS, "sla.test.v1", b"{}", str(number), "") for number in range(many)]
    assert not await publisher.publish_many(facts)
    async with asking(vhost.amqp_url, witness=WITNESS) as broker:
        assert await broker.arrived(["0", str(many // 2), str(many - 1), "absent"], datetime.now(UTC)) == {
            "0",
            str(many // 2),
            str(many - 1),
        }


async def test_an_outbox_of_the_version_before_is_sent_after_the_upgrade(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the outbox keeps waiting, and is nobody's."""
    before = tmp_path / "before"
    before.mkdir()
    first = migrating.SHARED / "0001_messaging.sql"
    (before / first.name).write_text(first.read_text(encoding="utf-8"), encoding="utf-8")
    conn = await asyncpg.connect(database.admin_url)
    try:
        await conn.execute("create schema trial authorization sla_checker")
        with monkeypatch.context() as older:
            older.setattr(migrating, "SHARED", before)
            await migrate(conn, schema="trial", role="sla_checker", folder=tmp_path)
        await conn.execute(
            "insert into trial.outbox (event_id, type, correlation_id, body) values (gen_random_uuid(), 'service.removed.v1', '', '{}')"
        )
        assert await migrate(conn, schema="trial", role="sla_checker", folder=tmp_path) == ["0002_sending.sql"]
        await conn.execute("set search_path to trial")
        assert len(await conn.fetch(outbox.SQL_MARK, 10)) == 1
    finally:
        await conn.close()
