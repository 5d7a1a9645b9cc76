"""State and event commit together; an effect happens once: outbox and inbox on a real database and a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from shared import inbox, outbox
from shared.consuming import consuming, open_consumer, subscribe
from shared.contracts.envelope import Event
from shared.contracts.services import ServiceRemovedV1
from shared.database import Pool, transaction
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher, open_publisher
from shared.outbox import Relay, relaying
from shared.topology import INCIDENTS_EVENTS
from tests.integration.shared.facts import AT, Look, fact, outgoing
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.waiting import until

WRITERS = 8
EACH = 40
SQL_EFFECT = "insert into effect (subject) values ($1)"
SQL_WAITING = "select count(*) from outbox"


class Crash(BaseException):
    """The process is gone: nothing after this line happens."""


class CrashingPublisher:
    """Stands before a real publisher and dies: of four batches one before it is sent, and one after the broker confirmed it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.calls = 0
        self.crashes = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever else a publisher has
        return getattr(self._publisher, name)

    async def publish_many(self, messages: Sequence[Outgoing]) -> dict[str, NotConfirmed]:
        self.calls += 1
        step = self.calls % 4
        self.crashes += step % 2
        if step == 1:
            raise Crash
        failed = await self._publisher.publish_many(messages)
        if step == 3:
            raise Crash
        return failed


@pytest.fixture
async def effects(pool: Pool) -> AsyncIterator[Pool]:
    """A table of effects in the service's own schema."""
    await pool.execute("create table effect (subject text not null)")
    yield pool
    await pool.execute("drop table effect")


async def write(pool: Pool, writer: int) -> None:
    """Commit events one by one, each third of them rolled back at first."""
    for number in range(EACH):
        event = fact(number, name=f"writer-{writer}")
        if number % 3 == 0:
            with pytest.raises(Crash):
                await append_and_crash(pool, event)
        async with transaction(pool) as conn:
            await outbox.append(conn, event)


async def append_and_crash(pool: Pool, event: Event[Any]) -> None:
    """Write an event in a transaction that does not commit."""
    async with transaction(pool) as conn:
        await outbox.append(conn, event)
        raise Crash


async def relay_with_crashes(relay: Relay, pool: Pool, writers: "asyncio.Future[Any]") -> None:
    """Relay until everything was written and nothing is left, starting again after every crash."""
    while not writers.done() or await pool.fetchval(SQL_WAITING):
        try:
            await relay.send_some()
        except Crash:
            continue


async def test_eight_writers_and_crashes_before_and_after_the_confirm_have_one_effect_each(
    effects: Pool, vhost: Vhost, publisher: Publisher, health: Health, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one delivery each: nothing is sent twice.

    Seen red with the rows deleted and committed before the publish (lost), and without the look at the stream (twice).
    """
    monkeypatch.setattr(outbox, "BATCH", 10)
    monkeypatch.setattr(outbox, "SETTLE_S", 0.1)
    deliveries: list[str] = []

    async def hear(event: Event[ServiceRemovedV1]) -> None:
        deliveries.append(event.subject)
        async with transaction(effects) as conn:
            if await inbox.claim(conn, event.id):
                await conn.execute(SQL_EFFECT, event.subject)

    crashing = CrashingPublisher(publisher)
    relays = [Relay(effects, crashing), Relay(effects, crashing)]  # type: ignore[arg-type]  # stands before the real one
    consumer = open_consumer(vhost.amqp_url, name="test", publisher=publisher, health=health)
    subscribe(consumer, INCIDENTS_EVENTS, {ServiceRemovedV1: hear})
    async with asyncio.timeout(60), consuming(consumer):
        writers = asyncio.ensure_future(asyncio.gather(*(write(effects, number) for number in range(WRITERS))))
        await asyncio.gather(writers, *(relay_with_crashes(relay, effects, writers) for relay in relays))

        async def all_there() -> bool:
            return (
                int(await effects.fetchval("select count(*) from effect")) >= WRITERS * EACH
                and await look.ready(INCIDENTS_EVENTS.name) == 0
            )

        await until(all_there, within_s=30, what="every effect")
    rows = await effects.fetch("select subject, count(*) as times from effect group by subject")
    assert len(rows) == WRITERS * EACH
    assert {row["times"] for row in rows} == {1}
    assert crashing.crashes > 5
    assert len(deliveries) == WRITERS * EACH, "a crash caused a repeat"


async def test_an_event_is_said_only_if_its_transaction_commits(pool: Pool, publisher: Publisher, look: Look) -> None:
    """Seen red with an `append` that commits by itself."""
    with pytest.raises(Crash):
        await append_and_crash(pool, fact(1))
    async with transaction(pool) as conn:
        await outbox.append(conn, fact(2))
    await Relay(pool, publisher).drain()
    message = await look.take(INCIDENTS_EVENTS.name)
    assert message is not None
    assert (message.message_id, message.correlation_id) == (str(fact(2).id), "cause-2")
    assert await look.take(INCIDENTS_EVENTS.name) is None
    assert await pool.fetchval(SQL_WAITING) == 0


async def test_what_the_broker_did_not_confirm_stays_in_the_outbox(pool: Pool, publisher: Publisher, look: Look) -> None:
    """Seen red with every claimed row deleted."""
    async with transaction(pool) as conn:
        await outbox.append(conn, fact(1))
        await conn.execute(
            "insert into outbox (event_id, type, correlation_id, body) values (gen_random_uuid(), 'nobody.listens.v1', '', '{}')"
        )
        await outbox.append(conn, fact(2))
    with pytest.raises(NotConfirmed):
        await Relay(pool, publisher).drain()
    assert [row["type"] for row in await pool.fetch("select type from outbox")] == ["nobody.listens.v1"]
    assert await look.ready(INCIDENTS_EVENTS.name) == 2


async def test_point_2_a_timed_out_publish_that_arrived_counts_once(
    effects: Pool, vhost: Vhost, publisher: Publisher, health: Health
) -> None:
    """Both copies are delivered, one has an effect. Seen red with `inbox.claim` always True."""
    deliveries: list[str] = []

    async def hear(event: Event[ServiceRemovedV1]) -> None:
        async with transaction(effects) as conn:
            if await inbox.claim(conn, event.id):
                await conn.execute(SQL_EFFECT, event.subject)
        deliveries.append(event.subject)

    consumer = open_consumer(vhost.amqp_url, name="test", publisher=publisher, health=health)
    subscribe(consumer, INCIDENTS_EVENTS, {ServiceRemovedV1: hear})
    async with running_proxy(vhost.amqp_url) as proxy, consuming(consumer):
        async with open_publisher(proxy.url(vhost.amqp_url), name="far", health=health, timeout_s=0.5) as far:
            await far.connected.wait()
            proxy.stall(answers_only=True)
            with pytest.raises(NotConfirmed):
                await far.publish(outgoing(fact(1)))
            proxy.resume()
            await far.publish(outgoing(fact(1)))

        async def both() -> bool:
            return len(deliveries) == 2

        await until(both, within_s=10, what="both deliveries")
    assert await effects.fetchval("select count(*) from effect") == 1


async def test_the_relay_waits_for_a_broker_that_is_away_and_sends_when_it_comes(pool: Pool, vhost: Vhost, health: Health) -> None:
    async with running_proxy(vhost.amqp_url) as proxy:
        proxy.refuse()
        async with (
            open_publisher(proxy.url(vhost.amqp_url), name="early", health=health) as publisher,
            relaying(pool, publisher, health) as relay,
        ):
            async with transaction(pool) as conn:
                await outbox.append(conn, fact(1))
            relay.wake()

            async def refused() -> bool:
                return "reset" in (await health.reasons())["publisher"]

            await until(refused, within_s=5, what="a link that is refused")
            proxy.accept()

            async def sent() -> bool:
                return int(await pool.fetchval(SQL_WAITING)) == 0

            await until(sent, within_s=15, what="an empty outbox")
            assert not health.failed.is_set()


async def test_leaving_the_relay_sends_what_is_still_there(pool: Pool, publisher: Publisher, health: Health) -> None:
    """Seen red without the drain at the end of `relaying`."""
    async with relaying(pool, publisher, health), transaction(pool) as conn:
        await outbox.append(conn, fact(1))
    assert await pool.fetchval(SQL_WAITING) == 0


async def test_the_same_event_is_written_once(pool: Pool) -> None:
    """Its id is derived: a second writer of the same fact is a conflict, and its transaction with it."""
    async with transaction(pool) as conn:
        await outbox.append(conn, fact(1))
    with pytest.raises(Exception, match="outbox_event_id_key"):
        async with transaction(pool) as conn:
            await outbox.append(conn, fact(1))


@pytest.mark.parametrize(("first_commits", "second_may"), [(True, False), (False, True)])
async def test_of_two_that_claim_at_once_the_second_waits_for_the_first(pool: Pool, *, first_commits: bool, second_may: bool) -> None:
    """Seen red with a select before the insert: both were told that they were first."""
    claimed, end = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with transaction(pool) as conn:
            assert await inbox.claim(conn, "m1")
            claimed.set()
            await end.wait()
            if not first_commits:
                raise Crash

    async def second() -> bool:
        async with transaction(pool) as conn:
            return await inbox.claim(conn, "m1")

    one = asyncio.create_task(first())
    await claimed.wait()
    other = asyncio.create_task(second())

    async def waits() -> bool:
        return bool(
            await pool.fetchval("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%inbox%')")
        )

    await until(waits, within_s=5, what="the second to wait")
    end.set()
    if first_commits:
        await one
    else:
        with pytest.raises(Crash):
            await one
    assert await other is second_may


async def test_claims_are_forgotten_only_when_no_message_can_come_any_more(pool: Pool) -> None:
    async with transaction(pool) as conn:
        await inbox.claim(conn, "old")
        await inbox.claim(conn, "new")
        await conn.execute("update inbox set claimed_at = $1 where message_id = 'old'", AT - inbox.KEEP - timedelta(seconds=1))
        await conn.execute("update inbox set claimed_at = $1 where message_id = 'new'", AT - inbox.KEEP + timedelta(seconds=1))
        assert await inbox.forget(conn, now=AT) == 1
        assert await inbox.claim(conn, "old")
        assert not await inbox.claim(conn, "new")
