"""PostgreSQL and RabbitMQ are away at once, for everybody, under load, and the checker is killed in the middle of it.

Every slot is checked on time all the while; all results arrive afterwards and count once; what the kill took with it is not older than the
200 ms that were not yet on the disk. `SLA_TEST_AWAY_S=300` makes it last five minutes.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.product import register, running_product
from tests.proxy import running_proxy
from tests.servers import Database, Vhost
from tests.target import Target, running_target
from tests.waiting import until

CHECKED = 200
INTERVAL_S = 1.0
AWAY_S = float(os.environ.get("SLA_TEST_AWAY_S", "20"))
ON_TIME_S = 0.25
LOST_S = 0.2
ANSWERED_S = 0.05
"""What lies between the target's answer and the end of its check at most."""
STALLS = 0.002
"""Share of late slots that is forgiven: what else runs on the machine of a test holds a process up now and then."""

SQL_STORED = "select service_id, scheduled_at, measured_at, outcome, attempt from api_response_times order by scheduled_at"
SQL_COUNTED = "select service_id, sum(total_checks)::int as n from uptime_records group by service_id"

pytestmark = pytest.mark.faults


@dataclass(frozen=True, slots=True)
class Stored:
    """One check as the aggregator has it: its slot, and when it began."""

    slot: float
    began: float
    outcome: str
    attempt: int


Ledger = dict[str, list[Stored]]


@dataclass(slots=True)
class Story:
    """When what happened."""

    away: float = 0.0
    killed: float = 0.0
    started: float = 0.0
    back: float = 0.0


async def test_five_minutes_without_database_and_broker_cost_no_slot_and_a_kill_in_them_two_hundred_ms(
    database: Database, vhost: Vhost, redis_url: str, tmp_path: Path
) -> None:
    """Seen red with a spool in memory, with a flush every second, and with slots before the kill told as missed after it."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(running_target())
        links = [await stack.enter_async_context(running_proxy(url)) for url in (database.admin_url, vhost.amqp_url)]
        spoilt = Database(database.name, database.admin_url, {name: links[0].url(url) for name, url in database.urls.items()})
        reached = Vhost(vhost.name, links[1].url(vhost.amqp_url), vhost.server)
        product = await stack.enter_async_context(running_product(spoilt, reached, redis_url, tmp_path))
        async with product.signed_in() as client:
            gate = asyncio.Semaphore(10)
            await asyncio.gather(*(_register(gate, client, target, f"s-{number}") for number in range(CHECKED)))
            await until(lambda: _all_asked(target), within_s=15, what="every service is checked")
            story = Story(away=time.time())
            for link in links:
                link.refuse()
                link.reset()
            await asyncio.sleep(AWAY_S / 2)  # how long they are away is the test's premise
            story.killed = time.time()
            product.of("checker").kill()
            story.started = time.time()
            product.of("checker").start()
            await asyncio.sleep(AWAY_S / 2)  # as above
            story.back = time.time()
            for link in links:
                link.accept()
            await asyncio.gather(*(replica.ready() for replica in product.replicas))
            await asyncio.gather(*(_switched_off(gate, client, f"s-{number}") for number in range(CHECKED)))
        ledger = await _settled(database, target, story)
    _compare(ledger, target, story)


async def _register(gate: asyncio.Semaphore, client: httpx.AsyncClient, target: Target, name: str) -> None:
    async with gate:
        await register(client, name, target.url(name), check_interval=int(INTERVAL_S * 1000), timeout=900)


async def _switched_off(gate: asyncio.Semaphore, client: httpx.AsyncClient, name: str) -> None:
    async def accepted() -> bool:
        async with gate:
            answer = await client.patch(f"/api/v1/services/{name}", json={"is_active": False})
        return answer.status_code == httpx.codes.OK

    await until(accepted, within_s=60, what="commands work again")


async def _all_asked(target: Target) -> bool:
    return len(target.answers) == CHECKED


async def _settled(database: Database, target: Target, story: Story) -> Ledger:
    """Wait until what is stored stands still, agrees with what is counted, and holds all that the target was asked but the kill's share."""
    conn = await asyncpg.connect(database.url("aggregator"))
    missing: list[float] = []
    counted: dict[str, int] = {}
    ledger: Ledger = {}

    async def agrees() -> bool:
        nonlocal missing, counted, ledger
        ledger = defaultdict(list)
        for row in await conn.fetch(SQL_STORED):
            slot, began = row["scheduled_at"].timestamp(), row["measured_at"].timestamp()
            ledger[row["service_id"]].append(Stored(slot, began, row["outcome"], row["attempt"]))
        counted = {row["service_id"]: row["n"] for row in await conn.fetch(SQL_COUNTED)}
        missing = [at for at in _lost(ledger, target) if not _excused(at, story)]
        return not missing and counted == _expected(ledger)

    try:
        await until(agrees, within_s=60 + AWAY_S / 4, what="everything that was asked is stored and counted")
    except AssertionError as error:
        differing = {name: (n, counted.get(name)) for name, n in _expected(ledger).items() if n != counted.get(name)}
        when = [round(at - story.killed, 2) for at in missing]
        error.add_note(f"{len(when)} not stored, in seconds after the kill: {when[:20]}; stored and counted differ: {differing}")
        raise
    finally:
        await conn.close()
    return ledger


def _expected(ledger: Ledger) -> dict[str, int]:
    """Return how many checks of each service days should count: confirmations do not."""
    return {name: sum(not one.attempt for one in checks) for name, checks in ledger.items()}


def _lost(ledger: Ledger, target: Target) -> Iterator[float]:
    """Give the moments at which the target was asked for a check that is not stored."""
    for name, answers in target.answers.items():
        began = iter([one.began for one in sorted(ledger.get(name, []), key=lambda one: one.began) if one.outcome == "healthy"])
        following = next(began, None)
        for at, _status in answers:
            if following is not None and -INTERVAL_S / 2 < at - following < INTERVAL_S / 2:
                following = next(began, None)
            else:
                yield at


def _excused(at: float, story: Story) -> bool:
    return story.killed - LOST_S - ANSWERED_S <= at <= story.killed + ANSWERED_S


def _compare(ledger: Ledger, target: Target, story: Story) -> None:
    lost = [story.killed - at for at in _lost(ledger, target)]
    checks = [one for service in ledger.values() for one in service]
    slots = [(name, one.slot) for name, service in ledger.items() for one in service]
    assert len(slots) == len(set(slots))
    assert {one.outcome for one in checks} == {"healthy"}
    late = []
    watched = 0
    for name, service in ledger.items():
        before = [one for one in service if story.away < one.slot < story.killed - LOST_S - ANSWERED_S - ON_TIME_S]
        after = [one for one in service if one.began > story.started and one.slot < story.back][1:]  # the first one is spread
        for stretch in (before, after):
            assert stretch, name
            assert {round(later.slot - earlier.slot, 3) for earlier, later in pairwise(stretch)} <= {INTERVAL_S}, name
            late += [one.began - one.slot for one in stretch if one.began - one.slot > ON_TIME_S]
            watched += len(stretch)
        assert before[-1].slot > story.killed - LOST_S - ANSWERED_S - ON_TIME_S - INTERVAL_S, name
        assert after[-1].slot >= story.back - INTERVAL_S, name
    resumed = min(one.began for one in checks if one.began > story.started) - story.killed
    slowest, oldest = max(late, default=0.0), max(lost, default=0.0) * 1000
    print(f"away {AWAY_S:.0f} s: {watched} slots, none missing; {len(late)} later than {ON_TIME_S:g} s, by {slowest:.3f} s at most")
    print(f"the kill took {len(lost)} results, the oldest {oldest:.0f} ms old; checks went on {resumed:.1f} s after it")
    print(f"{len(checks)} results stored, each counted once")
    assert len(late) <= STALLS * watched, late
