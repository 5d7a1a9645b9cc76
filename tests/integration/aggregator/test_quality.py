"""Degraded outcomes, confirmations, regions that a service names, and reported calls, on a real database."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.aggregator import usecases
from shared.contracts.checks import CallBatchV1, ReportedCall
from shared.contracts.codes import OverallStatus, Status
from shared.contracts.envelope import Event
from shared.contracts.registry import make_event
from shared.database import Pool, transaction
from tests.integration.aggregator.story import (
    SIGNS,
    START,
    at,
    batch,
    confirmation,
    definition,
    fold,
    learn,
    numbers,
    results,
    see,
    service_changes,
    system_changes,
)


def calls(number: int, *, service_id: str = "id-recognition", is_success: bool = True) -> Event[CallBatchV1]:
    """Return a batch of reported calls."""
    found = tuple(
        ReportedCall(endpoint="/v1/orders\x00", method="POST", duration_ms=7.5, is_success=is_success, measured_at=at(place))
        for place in range(number)
    )
    payload = CallBatchV1(service_id=service_id, reporter="reporter", calls=found)
    event = make_event(payload, source="/gateway", subject=service_id, version=1, at=START, correlation_id="story")
    return event.model_copy(update={"id": uuid4()})


async def judged(pool: Pool) -> list[object]:
    """Return what follows from outcomes alone: downtime also depends on when an outage was seen to end."""
    found = await numbers(pool)
    return [found[table] for table in ("region_state", "uptime_records")]


async def keep(pool: Pool, event: Event[CallBatchV1]) -> int:
    async with transaction(pool) as conn:
        return await usecases.keep_calls(conn, event)


async def test_degraded_checks_make_a_partial_outage_that_costs_no_uptime(pool: Pool) -> None:
    """Seen red with degraded outcomes counted as failures of the day, and with the degraded slots not stored."""
    await learn(pool, definition())
    await see(pool, "++~")
    assert [one.status for one in await service_changes(pool)] == [Status.NO_DATA, Status.OPERATIONAL], "one is not enough"
    await see(pool, "~", first=3)
    degraded = (await service_changes(pool))[-1]
    await see(pool, "+", first=4)
    assert len(await service_changes(pool)) == 3, "one well check is not enough"
    await see(pool, "+", first=5)
    well = (await service_changes(pool))[-1]

    assert (degraded.status, degraded.since, degraded.evidence.reason) == (
        Status.PARTIAL_OUTAGE,
        at(2),
        "Up, but degraded: slower than 500 ms (from eu).",
    )
    assert (degraded.evidence.regions_up, [one.scheduled_at for one in degraded.evidence.checks]) == (("eu",), [at(2), at(3)])
    assert (well.status, well.since) == (Status.OPERATIONAL, at(4))
    assert [one.overall_status for one in await system_changes(pool)][-2:] == [OverallStatus.DEGRADED, OverallStatus.OPERATIONAL]
    day = await pool.fetchrow("select * from api_call_logs")
    assert day is not None
    assert (day["total_calls"], day["failed_calls"], day["response_time_count"], day["uptime_percentage"]) == (6, 0, 6, 100)
    kept = await pool.fetchrow("select is_success, metadata from api_response_times where outcome = 'degraded' limit 1")
    assert kept is not None
    assert tuple(kept.values()) == (True, {"details": {"loss": 0.5, "": [""]}})


async def test_confirmations_move_the_status_and_not_the_day_and_the_outage_began_with_its_slot(pool: Pool) -> None:
    """Seen red with confirmations counted in days."""
    await learn(pool, definition())
    await see(pool, "++")
    first = results("-", first=2)[0]
    await fold(pool, batch([first]), now=at(2.1))
    again = confirmation(first, attempt=1, after_ms=200)
    await fold(pool, batch([again]), now=at(2.2))

    outage = (await service_changes(pool))[-1]
    assert (outage.status, outage.since, outage.detected_at) == (Status.MAJOR_OUTAGE, at(2), at(2.2))
    assert [one.id for one in outage.evidence.checks] == [first.id, again.id]
    assert await pool.fetchval("select total_calls from api_call_logs") == 3
    rows = await pool.fetch("select attempt, metadata, source, checker from api_response_times where outcome = 'failed' order by attempt")
    kept = {"evidence": "a failing answer"}
    assert [tuple(row.values()) for row in rows] == [(0, kept, "check", "checker-1"), (1, kept, "check", "checker-1")]

    recovered = results("+", first=3)[0]
    await fold(pool, batch([confirmation(recovered, attempt=1, after_ms=200), recovered]), now=at(3.2))
    recovery = (await service_changes(pool))[-1]
    assert (recovery.status, recovery.since) == (Status.OPERATIONAL, at(3)), "the confirmation came first, the slot counts"


async def test_the_order_of_arrival_changes_nothing_with_degraded_checks_and_confirmations(pool: Pool) -> None:
    everything = results("+~~--++~-~++", region="eu") + results("~~~~++--++~~", region="us")
    everything += [confirmation(one, attempt=1, after_ms=200) for one in everything if one.outcome.value in {"degraded", "failed"}]
    await learn(pool, definition())
    await fold(pool, batch(everything), now=at(30))
    expected = await judged(pool)
    for table in ("api_response_times", "api_call_logs", "uptime_records", "region_state", "status_interval", "outbox"):
        await pool.execute(f"delete from {table}")

    for one in reversed(everything):
        await fold(pool, batch([one]), now=at(30))

    assert await judged(pool) == expected


async def test_only_regions_that_a_service_names_count_for_its_status(pool: Pool) -> None:
    """Seen red with `judged` giving all regions."""
    await learn(pool, definition(regions=("eu", "us")))
    for region, pattern in (("eu", "++"), ("us", "++"), ("ap", "--")):
        await see(pool, pattern, region=region)
    assert (await service_changes(pool))[-1].status is Status.OPERATIONAL

    await learn(pool, definition(regions=("ap", "eu"), version=2), now=at(3))
    both = (await service_changes(pool))[-1]
    assert (both.status, both.evidence.regions_down, both.evidence.regions_up) == (Status.PARTIAL_OUTAGE, ("ap",), ("eu",))

    await learn(pool, definition(regions=("eu",), version=3), now=at(4))
    assert (await service_changes(pool))[-1].status is Status.OPERATIONAL
    assert await usecases.declare_silent(pool, settled_since=START, now=at(2) + timedelta(hours=1)) == 3
    silent = (await service_changes(pool))[-1]
    assert (silent.status, silent.evidence.regions_silent) == (Status.NO_DATA, ("eu",)), "who is not named is not missed"
    assert await pool.fetchval("select sum(total_calls) from api_call_logs") == 6


async def test_reported_calls_are_kept_once_and_count_for_nothing(pool: Pool) -> None:
    """Seen red with random ids."""
    await learn(pool, definition())
    await see(pool, "++")
    before, statuses = await numbers(pool), await service_changes(pool)
    one = calls(3, is_success=False)

    assert [await keep(pool, one), await keep(pool, one), await keep(pool, calls(2)), await keep(pool, calls(1, service_id="nobody"))] == [
        3,
        0,
        2,
        1,
    ]

    assert (await numbers(pool), await service_changes(pool)) == (before, statuses)
    rows = await pool.fetch("select source, outcome, count(*) from api_response_times group by 1, 2 order by 1, 2")
    assert [tuple(row.values()) for row in rows] == [("check", "healthy", 2), ("reported", "failed", 3), ("reported", "healthy", 3)]
    row = await pool.fetchrow(
        "select response_time, endpoint, method, measured_at, metadata from api_response_times where service_id = 'nobody'"
    )
    assert row is not None
    assert tuple(row.values()) == (7.5, "/v1/orders", "POST", at(0), {"reporter": "reporter"})


@pytest.mark.parametrize("sign", SIGNS)
async def test_every_outcome_can_be_stored(pool: Pool, sign: str) -> None:
    assert (await fold(pool, batch(results(sign)), now=at(1))).stored == 1
