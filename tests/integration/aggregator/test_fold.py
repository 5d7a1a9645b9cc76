"""Results become records, once each, on a real database."""

import asyncio
import random
from datetime import date, timedelta

from services.aggregator import partitions, usecases
from services.aggregator.domain.day import Tally, tally
from shared.contracts.checks import CheckResult
from shared.contracts.codes import Outcome, Status
from shared.database import Pool, transaction
from tests.integration.aggregator.story import START, at, batch, definition, fold, learn, numbers, results, said, see, service_changes

SERVICES = [f"service-{number}" for number in range(8)]


async def test_the_same_batches_three_times_and_shuffled_give_the_same_numbers(pool: Pool) -> None:
    """Seen red without asking what is stored, with repeats counted as new, and with a sum of response times in floating point."""
    await learn(pool, definition())
    everything = results("+++-++--" * 3) + results("++------" * 3, region="us")
    await fold(pool, batch(everything), now=at(24))
    expected = await numbers(pool)
    events = len(await said(pool))

    chance = random.Random(7)
    for _ in range(3):
        chance.shuffle(everything)
        folded = await fold(pool, batch(everything[:10]), batch(everything[5:]), now=at(25))
        assert (folded.stored, folded.repeated, folded.changed) == (0, len(everything), 0)

    assert await numbers(pool) == expected
    assert len(await said(pool)) == events, "nothing is said again"


async def test_the_order_of_arrival_changes_no_number(pool: Pool) -> None:
    await learn(pool, definition())
    everything = results("+++-++--+--" * 2) + results("++------+++" * 2, region="us")
    random.Random(3).shuffle(everything)
    for one in everything:
        await fold(pool, batch([one]), now=at(30))
    scattered = await numbers(pool)
    for table in ("api_response_times", "api_call_logs", "uptime_records", "region_state", "status_interval", "outbox", "inbox"):
        await pool.execute(f"delete from {table}")
    await pool.execute("update service set version = 0")
    await learn(pool, definition())

    await fold(pool, batch(everything), now=at(30))

    together = await numbers(pool)
    assert {**together, "system_status": ()} == {**scattered, "system_status": ()}
    for key in ("overall_status", "operational_services", "total_services", "message"):
        assert together["system_status"][0][key] == scattered["system_status"][0][key]


async def test_replicas_that_fold_overlapping_results_at_once_count_each_once(pool: Pool) -> None:
    """Every result goes to four replicas, in other orders and cuts.

    Seen red without the lock on services, and with one that is not in order of ids: deadlocks.
    """
    everything = [
        one for service in SERVICES for region in ("eu", "us") for one in results("++-+--++" * 4, service_id=service, region=region)
    ]
    for service in SERVICES:
        await learn(pool, definition(service))

    async def replica(seed: int) -> int:
        chance = random.Random(seed)
        mine, stored = list(everything), 0
        chance.shuffle(mine)
        for start in range(0, len(mine), 32):
            stored += (await fold(pool, batch(mine[start : start + 32]), now=at(40))).stored
        return stored

    stored = await asyncio.gather(*(replica(seed) for seed in range(4)))

    assert sum(stored) == len(everything)
    for service in SERVICES:
        own = [one for one in everything if one.service_id == service]
        assert await _counted(pool, service) == _expected(own)


def _expected(own: list[CheckResult]) -> Tally:
    healthy = [one for one in own if one.outcome is Outcome.HEALTHY]
    times = [one.response_time_ms or 0 for one in healthy]
    return tally(successful=len(healthy), failed=len(own) - len(healthy), response_times_ms=times)


async def _counted(pool: Pool, service_id: str) -> Tally:
    row = await pool.fetchrow("select * from api_call_logs where service_id = $1", service_id)
    assert row is not None
    raw = await pool.fetchval("select count(*) from api_response_times where service_id = $1", service_id)
    assert row["total_calls"] == raw
    return Tally(
        row["successful_calls"],
        row["failed_calls"],
        row["response_time_count"],
        row["response_time_sum_us"],
        row["min_response_time"],
        row["max_response_time"],
    )


async def test_a_late_batch_for_yesterday_counts_for_yesterday(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++++")
    late = results("+--+", start=START - timedelta(days=1))

    folded = await fold(pool, batch(late), now=at(5))

    rows = await pool.fetch("select date, status, total_checks, successful_checks, uptime_percentage from uptime_records order by date")
    assert [tuple(row.values())[:4] for row in rows] == [(date(2026, 3, 9), "mo", 4, 2), (date(2026, 3, 10), "o", 4, 4)]
    assert folded.changed == 0, "yesterday's outage is not today's"


async def test_results_that_taught_nothing_are_stored_and_not_counted(pool: Pool) -> None:
    await learn(pool, definition())

    folded = await see(pool, "+??")

    assert (folded.stored, await pool.fetchval("select total_calls from api_call_logs")) == (3, 1)
    rows = await pool.fetch("select is_success, outcome from api_response_times order by scheduled_at")
    assert [tuple(row.values()) for row in rows] == [(True, "healthy"), (None, "unknown"), (None, "unknown")]


async def test_the_least_the_most_and_the_mean_of_a_day_are_exact(pool: Pool) -> None:
    found = results("+" * 500)
    for start in range(0, 500, 50):
        await fold(pool, batch(found[start : start + 50]), now=at(500))

    row = await pool.fetchrow("select * from api_call_logs")

    assert row is not None
    times = sorted(one.response_time_ms or 0 for one in found)
    assert (row["min_response_time"], row["max_response_time"]) == (times[0], times[-1])
    assert abs(row["avg_response_time"] - sum(times) / 500) < 0.001


async def test_partitions_are_made_once_and_take_over_what_came_before_them(pool: Pool) -> None:
    await see(pool, "++")
    assert await pool.fetchval("select count(*) from api_response_times_default") == 2

    async def make() -> list[str]:
        async with transaction(pool) as conn:
            return await partitions.make(conn, today=START.date(), ahead=1)

    made = await asyncio.gather(make(), make())

    names = ["api_response_times_2026_02", "api_response_times_2026_03", "api_response_times_2026_04"]
    assert sorted(made) == [[], names]
    assert await pool.fetchval("select count(*) from api_response_times_default") == 0
    assert await pool.fetchval("select count(*) from api_response_times_2026_03") == 2
    assert (await see(pool, "++")).repeated == 2, "what was moved is still known"


async def test_a_result_from_the_future_is_stored_and_tells_nothing(pool: Pool) -> None:
    """The slot's own result counts once its time has come.

    Seen red with results believed whatever their slot: the service was operational for ever, and no result after it was news; and with
    one id for both; and with those of unknown outcome taken for evidence.
    """
    await learn(pool, definition())
    await see(pool, "+++++")
    ahead = results("+--", start=at(6) + usecases.AHEAD)
    folded = await fold(pool, batch(ahead), now=at(6))
    assert (folded.stored, folded.changed) == (3, 0)
    outcomes = await pool.fetch("select outcome, error_message is not null as why from api_response_times where scheduled_at > $1", at(10))
    assert [tuple(one) for one in outcomes] == [("healthy", False), ("unknown", True), ("unknown", True)], "up to five minutes are believed"
    assert await pool.fetchval("select sum(total_checks) from uptime_records") == 6
    assert (await fold(pool, batch(ahead[1:]), now=ahead[2].scheduled_at)).stored == 2
    outage = (await service_changes(pool))[-1]
    assert (outage.status, [one.id for one in outage.evidence.checks]) == (Status.MAJOR_OUTAGE, [one.id for one in ahead[1:]])
    await see(pool, "++", first=200)
    assert (await service_changes(pool))[-1].status is Status.OPERATIONAL
    assert await usecases.declare_silent(pool, settled_since=START, now=at(6000)) == 1
