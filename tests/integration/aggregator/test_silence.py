"""Regions of which nothing is known any more: after a gap that nobody declared, under another interval, and behind an isolated checker."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

from services.aggregator import facts, followups, usecases
from services.aggregator.consumers import watch_silence
from services.aggregator.store import slot_of
from shared.clock import utc_now
from shared.contracts.checks import CheckBatchV1, CheckerIsolatedV1, CheckerRecoveredV1, CheckResult
from shared.contracts.codes import Status
from shared.contracts.envelope import Event
from shared.contracts.registry import encode, make_event
from shared.contracts.status import ServiceStatus
from shared.database import Pool, transaction
from shared.messaging import Outgoing
from shared.topology import EVENTS
from tests.integration.aggregator.story import START, at, batch, definition, fold, learn, results, see, service_changes
from tests.integration.aggregator.test_messages import aggregator
from tests.integration.aggregator.test_timelines import told, work
from tests.servers import Vhost
from tests.waiting import until

O, MO, ND = Status.OPERATIONAL, Status.MAJOR_OUTAGE, Status.NO_DATA  # noqa: E741  # the codes as everybody knows them


async def last(pool: Pool, service_id: str = "id-recognition") -> ServiceStatus:
    """Return the newest version of a service's status."""
    return (await service_changes(pool, service_id))[-1]


async def silence(pool: Pool, slot: float) -> int:
    """Look for silence at a slot, as an aggregator that has listened since the start."""
    return await usecases.declare_silent(pool, settled_since=START, now=at(slot))


def isolated(since: float, *, checker: str = "checker-1", region: str = "eu") -> CheckerIsolatedV1:
    return CheckerIsolatedV1(checker=checker, region=region, since=at(since), canaries=("tcp://192.0.2.1:53",))


def recovered(since: float, *, checker: str = "checker-1", region: str = "eu") -> CheckerRecoveredV1:
    return CheckerRecoveredV1(checker=checker, region=region, since=at(since), recovered_at=at(since + 1))


async def hear(pool: Pool, *events: CheckerIsolatedV1 | CheckerRecoveredV1) -> None:
    for one in events:
        await followups.hear_checker(pool, one)


def by(checker: str, found: list[CheckResult]) -> Event[CheckBatchV1]:
    """Return a batch of another checker."""
    sent = batch(found)
    return sent.model_copy(update={"data": sent.data.model_copy(update={"checker": checker})})


async def patient(pool: Pool, service_id: str = "id-recognition", *, version: int = 1, interval_ms: int = 300_000, slot: float = 0) -> None:
    """Have a service checked every five minutes."""
    changes = {"check_interval": interval_ms, "updated_at": at(slot)}
    await learn(pool, definition(service_id, version=version).model_copy(update=changes), now=at(slot))


async def test_after_a_gap_that_nobody_declared_the_status_begins_from_unknown_as_the_timeline_does(pool: Pool) -> None:
    """All of it came at once, after the aggregator was away. Seen red with gaps left out of the live status: it was down throughout."""
    await learn(pool, definition())
    await see(pool, "++--")
    await see(pool, "-", first=40)
    await work(pool, at(41))

    gone = await last(pool)
    assert (gone.status, gone.since, gone.evidence.reason) == (ND, at(4), "Too few results yet from eu.")
    assert await told(pool, 41) == "uudd" + "n" * 37
    await see(pool, "-", first=41)
    await work(pool, at(42))
    again = await last(pool)
    assert (again.status, again.since, again.evidence.first_failed_at, again.evidence.confirmed_at) == (MO, at(40), at(40), at(41))
    assert await told(pool, 42) == "uudd" + "n" * 36 + "dd"


async def test_a_shorter_interval_is_given_its_own_time_before_silence_is_declared(pool: Pool) -> None:
    """Another change of the definition gives it none.

    Seen red with silence counted from the newest result alone (every service that is asked for more often fell silent), with what came
    before judged by the new interval, and with time given by every change.
    """
    await patient(pool)
    await see(pool, "--")
    await patient(pool, version=2, interval_ms=2000, slot=60)

    assert await silence(pool, 60.1) == 0
    assert await silence(pool, 62.9) == 0
    await see(pool, "-", first=62)
    await work(pool, at(63))
    assert (await last(pool)).status is MO, "what came before another interval still holds"
    assert (await told(pool, 63))[-3:] == "ddd"
    assert await silence(pool, 64.9) == 0
    changes = {"check_interval": 2000, "updated_at": at(64), "description": "the same interval"}
    await learn(pool, definition(version=3).model_copy(update=changes), now=at(64))
    assert await silence(pool, 65.1) == 1
    assert (await last(pool)).status is ND


async def test_a_longer_interval_makes_no_gap(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "--")
    await patient(pool, version=2, slot=2)
    await learn(pool, definition(version=3).model_copy(update={"check_interval": 300_000, "updated_at": at(3), "name": "Other"}), now=at(3))

    assert await silence(pool, 140) == 0
    await see(pool, "-", first=140)
    await work(pool, at(141))
    assert (await last(pool)).status is MO
    assert await told(pool, 141) == "d" * 141


async def test_what_an_isolated_checker_saw_last_is_silent_at_once(pool: Pool) -> None:
    """But not what another sees, nor what came after. Seen red without the checker compared, without the region, and with any slot."""
    for one in ("a", "b", "c", "d"):
        await patient(pool, one)
    await fold(pool, batch(results("+", service_id="a")), batch(results("+", service_id="a", region="us")), now=at(1))
    await fold(pool, by("checker-2", results("+", service_id="b")), batch(results("+", first=7, service_id="c")), now=at(8))
    await fold(pool, batch(results("+", service_id="d")), by("checker-2", results("+", first=1, service_id="d")), now=at(8))
    await hear(pool, isolated(7), isolated(7))

    assert await silence(pool, 8) == 0, "three seconds may pass"
    assert sorted(await asyncio.gather(*(silence(pool, 9) for _ in range(3)))) == [0, 0, 1]
    assert await silence(pool, 9) == 0

    gone = await last(pool, "a")
    assert (gone.status, gone.evidence.regions_silent, gone.evidence.regions_up) == (O, ("eu",), ("us",))
    assert [(await last(pool, one)).status for one in "bcd"] == [O, O, O]


async def test_a_silence_for_isolation_says_so_and_ends_with_the_next_result(pool: Pool) -> None:
    """The timeline is unknown meanwhile, and goes on where the next check came in time.

    Seen red with unknown time from the first slot that is missed, which was to come: the timeline went on as if nothing were silent; and
    with answers that are never settled while it is silent.
    """
    await patient(pool)
    await see(pool, "+")
    await hear(pool, isolated(10))
    assert await silence(pool, 12) == 1

    gone = await last(pool)
    assert (gone.status, gone.since) == (ND, at(12))
    assert gone.evidence.reason == "No results come any more from eu: a checker is isolated in eu."
    await work(pool, at(12))
    assert (await told(pool, 14)) == "u" * 12 + "nn"
    async with pool.acquire() as conn:
        assert await facts.settled(conn, [gone.service_id], until=slot_of(at(2000)), now=at(2000)), "it was declared silent"

    await hear(pool, recovered(10))
    await see(pool, "+", first=150)
    await work(pool, at(151))
    assert (await last(pool)).status is O
    assert await told(pool, 151) == "u" * 151, "one check every five minutes came"


async def test_isolation_that_is_over_or_heard_late_does_no_harm(pool: Pool) -> None:
    """Seen red with recoveries ignored where they come first, and with an older isolation believed."""
    await patient(pool)
    await see(pool, "+")
    await hear(pool, recovered(10), isolated(10))
    assert await silence(pool, 20) == 0

    await hear(pool, isolated(30), recovered(30), isolated(10), isolated(30))
    assert await silence(pool, 40) == 0

    await hear(pool, isolated(50), recovered(30))
    await fold(pool, by("checker-2", results("+", first=49)), now=at(52))  # another has it by now
    assert await silence(pool, 60) == 0

    await keep_house(pool, now=at(60) + timedelta(days=8))
    assert await pool.fetchval("select count(*) from isolated_checker") == 0


async def keep_house(pool: Pool, *, now: datetime) -> None:
    async with transaction(pool) as conn:
        await usecases.keep_house(conn, now=now)


async def test_versions_that_forgot_in_silence_and_this_one_understand_each_other(pool: Pool) -> None:
    """As while replicas are upgraded one by one: the other writes all but `silent_at`, and empties the slots where a region is silent.

    Seen red with a flag in the place of the slot, with what the other declared taken for heard, and with silence declared again of either.
    """
    await learn(pool, definition())
    await see(pool, "---")
    assert await silence(pool, 9) == 1
    other = "update region_state set slots = slots || $1::bigint, healthy = healthy || false, newest_at = $2"
    await pool.execute(other, slot_of(at(8)), at(8))  # the other folds
    await see(pool, "-", first=9)
    assert (await last(pool)).evidence.regions_silent == (), "one result came, and another"
    assert await silence(pool, 15) == 1
    assert await silence(pool, 16) == 0

    await see(pool, "--", first=16)
    empty = "slots = '{}', healthy = '{}', base_condition = 'unknown', base_streak = 0, base_slot = $1"
    await pool.execute(f"update region_state set {empty}, well_condition = 'unknown', well_streak = 0", slot_of(at(17)))
    assert await silence(pool, 30) == 0, "the other said so"
    await learn(pool, definition(version=2), now=at(30))
    assert (await last(pool)).evidence.regions_silent == ("eu",)
    await work(pool, at(30))
    assert (await told(pool, 30))[-12:] == "n" * 12
    await see(pool, "+", first=30)
    await work(pool, at(31))
    assert (await last(pool)).status is O
    assert (await told(pool, 31))[-3:] == "nnu"


async def test_isolation_is_heard_from_the_broker(pool: Pool, vhost: Vhost) -> None:
    """Seen red without the binding, and without the handler."""
    now = utc_now().replace(microsecond=0)
    seen = results("+", start=now - timedelta(seconds=20))
    await patient(pool)
    await fold(pool, batch(seen), now=now)
    async with aggregator(pool, vhost) as wiring:
        one = CheckerIsolatedV1(checker="checker-1", region="eu", since=now - timedelta(seconds=10), canaries=())
        event = make_event(one, source="/checker", subject="checker-1", version=1, at=now, correlation_id=str(UUID(int=1)))
        await wiring.consumer.publisher.publish(Outgoing(EVENTS, one.TYPE, encode(event), str(event.id), event.correlationid))

        async def silent() -> bool:
            await watch_silence(wiring)
            # not what is still to be said: the relay runs, and may have sent it
            return bool(await pool.fetchval("select status = 'nd' from status_interval where ended_at is null"))

        await until(silent, within_s=20, what="silence")
