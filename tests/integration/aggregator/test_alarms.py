"""What is said of SLA contracts, on a real database: when, and once."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from services.aggregator import alarms, promises, replays, slas, usecases
from shared import outbox
from shared.contracts.codes import SlaPeriod
from shared.contracts.envelope import Event
from shared.database import Connection, Pool, transaction
from tests.integration.aggregator.promised import (
    checked,
    contract,
    correct,
    look,
    only,
    outage,
    publish,
    put,
    said,
    services,
)
from tests.integration.aggregator.story import batch, definition, fold, learn, results

BEGAN = datetime(2025, 6, 1, tzinfo=UTC)
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 16, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ROLLING = SlaPeriod.ROLLING


async def test_a_burn_begins_and_ends_and_its_events_are_numbered(pool: Pool) -> None:
    """Seen red without the end, with one version for all events, and with an event for each look."""
    await outage(pool, "api", BEGAN, NOON, None)
    await checked(pool, "api", NOON - DAY, NOON + 3 * HOUR)
    await put(pool, contract(), now=MARCH)
    counts = [await look(pool, now=NOON + step * MINUTE) for step in (0, 1, 2, 2)]
    assert counts == [0, 1, 0, 0]
    await outage(pool, "api", BEGAN, NOON, NOON + 2 * MINUTE)
    assert await look(pool, now=NOON + 8 * MINUTE) == 1
    assert await said(pool) == ["gold api fast begins", "gold api fast ends"]
    rows = await pool.fetch("select distinct event_id from outbox")
    assert (len(rows), await pool.fetchval("select version from sla_said")) == (2, 2)


async def test_a_few_checks_are_no_alarm(pool: Pool) -> None:
    """Seen red without the guard, and with confirmations and reported calls counted."""
    await outage(pool, "api", BEGAN, NOON, None)
    await checked(pool, "api", NOON - HOUR, NOON + 10 * MINUTE, every=timedelta(minutes=5))
    await pool.execute("update api_response_times set attempt = 1 where scheduled_at < $1", NOON - 40 * MINUTE)
    await pool.execute("update api_response_times set source = 'reported' where scheduled_at > $1", NOON)
    await put(pool, contract(), now=MARCH)
    assert await look(pool, now=NOON + 10 * MINUTE) == 0
    assert [one.alerting for one in (await only(pool, now=NOON + 10 * MINUTE)).burn_rates] == [False] * 3
    await checked(pool, "api", NOON, NOON + 10 * MINUTE, ok=False)
    assert await look(pool, now=NOON + 10 * MINUTE) == 3
    assert await said(pool) == ["gold api fast begins", "gold api medium begins", "gold api slow begins"]


async def test_a_budget_is_used_up_once_a_month(pool: Pool) -> None:
    """Seen red with the budget told again after a correction gave some back."""
    await outage(pool, "api", BEGAN, MARCH, MARCH + HOUR)
    await put(pool, contract(), now=MARCH)
    assert await look(pool, now=NOON) == 1
    await correct(pool, "api", MARCH, MARCH + 30 * MINUTE, "up", made_at=NOON)
    assert await look(pool, now=NOON + MINUTE) == 0
    await outage(pool, "api", BEGAN, MARCH, MARCH + 2 * HOUR)
    assert await look(pool, now=NOON + 2 * MINUTE) == 0
    assert await said(pool) == ["gold api exhausted"]


async def test_a_month_is_judged_once_and_what_was_said_stays_said(pool: Pool) -> None:
    """Seen red with judging at the end itself, and with a window judged at every look."""
    await outage(pool, "api", BEGAN, APRIL - 40 * MINUTE, APRIL)
    await outage(pool, "web", BEGAN, MARCH, MARCH + HOUR)
    await publish(pool, "dns", [("up", BEGAN, None)])
    await put(pool, contract("api", "web", "dns"), now=MARCH)
    await look(pool, now=APRIL - DAY)
    assert await look(pool, now=APRIL + MINUTE) == 0
    await outage(pool, "api", BEGAN, APRIL - 50 * MINUTE, APRIL)  # what came late
    assert [await look(pool, now=APRIL + alarms.PATIENCE + step * MINUTE) for step in range(2)] == [2, 0]
    await publish(pool, "api", [("up", BEGAN, None)])
    await outage(pool, "dns", BEGAN, MARCH, MARCH + 2 * HOUR)
    assert await look(pool, now=APRIL + DAY) == 0
    assert await said(pool) == ["gold web exhausted", "gold api breached 2026-03-01", "gold web breached 2026-03-01"]


async def test_months_that_ended_while_nobody_looked_are_judged_when_results_are_in(pool: Pool) -> None:
    """Seen red with the newest month only, with results that wait to be stored, and with a timeline that is still to be computed."""
    await publish(
        pool,
        "api",
        [
            ("up", BEGAN, MARCH - DAY),
            ("down", MARCH - DAY, MARCH + DAY),
            ("up", MARCH + DAY, APRIL),
            ("down", APRIL, APRIL + DAY),
            ("up", APRIL + DAY, None),
        ],
    )
    january, late = datetime(2026, 1, 10, tzinfo=UTC), datetime(2026, 5, 3, tzinfo=UTC)
    await put(pool, contract(), now=january)
    await pool.execute("insert into timeline_dirty (service_id, from_slot) values ('api', $1)", int((APRIL - DAY).timestamp() * 1000))
    assert await look(pool, now=late, is_stored=False) == 0
    assert await look(pool, now=late, stored_until=MARCH + alarms.PATIENCE - MINUTE) == 0
    assert await look(pool, now=late) == 1, "March waits, with what follows it"
    await pool.execute("delete from timeline_dirty")
    assert await look(pool, now=late) == 2
    assert await look(pool, now=late + DAY) == 0
    assert await said(pool) == [f"gold api breached 2026-0{month}-01" for month in (2, 3, 4)]


async def test_new_terms_do_not_judge_what_ended_under_the_old_ones(pool: Pool) -> None:
    """Seen red with windows since the contract was made, and with a change that judges nothing."""
    await outage(pool, "api", BEGAN, MARCH, MARCH + HOUR)
    await put(pool, contract(), now=MARCH)
    await look(pool, now=NOON)
    await put(pool, contract(target="99"), now=APRIL + HOUR)
    assert (await said(pool))[1:] == ["gold api breached 2026-03-01"]
    await put(pool, contract(target="99.99", period=SlaPeriod.QUARTER), now=APRIL + 2 * HOUR)
    assert await look(pool, now=APRIL + DAY) == 0
    assert await look(pool, now=datetime(2026, 7, 2, tzinfo=UTC)) == 0


async def test_a_rolling_promise_is_broken_again_after_it_was_kept(pool: Pool) -> None:
    """Seen red with a broken promise said once for ever."""
    await put_rolling(pool)
    await outage(pool, "api", BEGAN, NOON, NOON + HOUR)
    moments = [NOON - MINUTE, NOON + HOUR, NOON + 2 * HOUR, NOON + 9 * DAY]
    assert [await look(pool, now=one) for one in moments] == [0, 2, 0, 0]
    await outage(pool, "api", BEGAN, NOON + 9 * DAY, NOON + 9 * DAY + HOUR)
    assert await look(pool, now=NOON + 9 * DAY + HOUR) == 2
    assert await said(pool) == ["gold api exhausted", "gold api breached 2026-03-09", "gold api exhausted", "gold api breached 2026-03-18"]


async def put_rolling(pool: Pool) -> None:
    await publish(pool, "api", [("up", BEGAN, None)])
    await put(pool, contract(period=ROLLING, rolling_days=7), now=MARCH)


async def test_two_replicas_at_once_say_each_thing_once(pool: Pool) -> None:
    """Seen red without the lock of the contracts where the look's own lock was taken out too."""
    names = [f"s{number}" for number in range(20)]
    for name in names:
        await outage(pool, name, BEGAN, NOON - HOUR, None)
        await checked(pool, name, NOON - HOUR, NOON)
    for number in range(10):
        await put(pool, contract(*names[2 * number : 2 * number + 2], contract_id=f"c-{number}"), now=MARCH)
    found = await asyncio.gather(*(look(pool, now=NOON) for _ in range(4)))
    await look(pool, now=NOON)
    told = await said(pool)
    assert len(told) == len(set(told)) == 20 * 4, "fast, medium, slow and exhausted of each"
    assert sum(one or 0 for one in found) == 80
    versions = await pool.fetch("select version from sla_said")
    assert [row["version"] for row in versions] == [8] * 10


async def test_what_could_not_be_said_is_said_at_the_next_look(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with what was found remembered in a transaction of its own."""
    await outage(pool, "api", BEGAN, MARCH, MARCH + HOUR)
    await put(pool, contract(), now=MARCH)
    append = outbox.append_many

    async def killed(conn: Connection, events: Sequence[Event[Any]]) -> None:
        await append(conn, events)
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(outbox, "append_many", killed)
        with pytest.raises(ConnectionResetError):
            await look(pool, now=NOON)
    assert await said(pool) == []
    assert await look(pool, now=NOON) == 1
    assert await pool.fetchval("select version from sla_said") == 1


async def test_an_alert_ends_with_the_promise(pool: Pool) -> None:
    """Seen red with alerts of removed contracts, and of services that were taken out, that never end."""
    for name in ("api", "web"):
        await outage(pool, name, BEGAN, NOON - 2 * MINUTE, None)
        await checked(pool, name, NOON - HOUR, NOON)
    await put(pool, contract("api", "web"), now=MARCH)
    await look(pool, now=NOON)
    await put(pool, contract("web"), now=NOON)
    assert await look(pool, now=NOON) == 1
    async with transaction(pool) as conn:
        await slas.remove(conn, "gold", actor="ada", now=NOON)
    assert [await look(pool, now=NOON + step * MINUTE) for step in range(2)] == [1, 0]
    assert await said(pool) == ["gold api fast begins", "gold web fast begins", "gold api fast ends", "gold web fast ends"]


async def test_a_thousand_contracts_are_looked_at_in_portions(pool: Pool) -> None:
    """500 services with 60 outages each in the month, in 1,000 contracts of three, looked at by one replica. Prints what it took."""
    names = [f"s{number}" for number in range(500)]
    await services(pool, *names)
    starts = [MARCH + step * 6 * HOUR for step in range(60)]
    edges = [BEGAN, *(moment for start in starts for moment in (start, start + 10 * timedelta(seconds=1))), None]
    rows = [(name, "down" if n % 2 else "up", a, b) for name in names for n, (a, b) in enumerate(pairwise(edges))]
    await pool.copy_records_to_table("timeline", records=rows, columns=("service_id", "state", "started_at", "ended_at"))
    covered = [tuple(names[(3 * n + step) % 500] for step in range(3)) for n in range(1000)]
    async with transaction(pool) as conn:
        for number, some in enumerate(covered):
            await promises.put(conn, contract(*some, contract_id=f"c-{number}"), now=MARCH, actor="ada")
    held: list[float] = []

    async def others() -> None:
        while True:
            began = time.monotonic(), time.process_time()
            await asyncio.sleep(0.005)  # what comes on top is what others wait for
            held.append(time.process_time() - began[1])

    beside = asyncio.create_task(others())
    began, worked = time.monotonic(), time.process_time()
    assert await look(pool, now=NOON) == 0
    took, work = time.monotonic() - began, time.process_time() - worked
    beside.cancel()
    print(f"3,000 standings: {took:.1f} s, {work:.1f} s of our own, others waited {1000 * max(held):.0f} ms at most")  # noqa: T201  # figures
    assert len(held) > 30, "others have their turn between the portions"


@pytest.mark.parametrize("comes_back", [False, True])
async def test_after_a_day_off_nothing_is_said_of_an_outage_that_seemed_to_go_on(pool: Pool, *, comes_back: bool) -> None:
    """Seen red with contracts looked at while checks are overdue, and (`comes_back`) while the timeline waits to be computed."""
    five, back = 5 * MINUTE, NOON + DAY
    await learn(pool, definition("api", created_at=NOON - DAY).model_copy(update={"check_interval": 300_000}), now=NOON - DAY)
    checks = [one for step, sign in enumerate("++++--") for one in results(sign, service_id="api", start=NOON + step * five)]
    await fold(pool, batch(checks), now=NOON + 26 * MINUTE)
    await replays.work(pool, clock=lambda: NOON + 26 * MINUTE)
    await put(pool, contract(target="50", period=ROLLING), now=NOON + 26 * MINUTE)
    assert await look(pool, now=NOON + 27 * MINUTE) == 0
    await replays.work(pool, clock=lambda: back)
    assert await look(pool, now=back + MINUTE) == 0
    if comes_back:
        await fold(pool, batch(results("+", service_id="api", start=back + five)), now=back + five)
    else:
        assert await usecases.declare_silent(pool, settled_since=back, now=back + 15 * MINUTE) == 1
    assert await look(pool, now=back + 15 * MINUTE) == 0, "the timeline still waits to be computed"
    await replays.work(pool, clock=lambda: back + 15 * MINUTE)
    assert await look(pool, now=back + 16 * MINUTE) == 0
    assert await said(pool) == []
    assert (await only(pool, now=back + 16 * MINUTE)).met
