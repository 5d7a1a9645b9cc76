"""SLA contracts on a real database: numbers from the timeline, and what is said of them once."""

import asyncio
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import alarms, promises, slas
from services.aggregator.domain.calendar import month_window
from shared.contracts.codes import SlaPeriod
from shared.contracts.history import SlaReportQuery
from shared.contracts.sla import SlaStanding
from shared.database import Pool, transaction
from shared.rpc import Refused
from tests.integration.aggregator.promised import (
    checked,
    contract,
    correct,
    exclude,
    look,
    maintain,
    outage,
    publish,
    put,
    report,
    said,
    services,
    standing,
)

BEGAN = datetime(2025, 6, 1, tzinfo=UTC)
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 16, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ROLLING = SlaPeriod.ROLLING


async def only(pool: Pool, *, now: datetime) -> SlaStanding:
    """Return the one standing of the one contract."""
    (found,) = (await standing(pool, now=now)).standings
    return found


async def test_a_contract_is_put_once_however_often_it_is_said(pool: Pool) -> None:
    """Seen red with every put a new version, and with a removed contract that stays away."""
    await services(pool, "api", "web")
    first = await put(pool, contract(), now=MARCH)
    assert (first.version, first.target, first.partial_share) == (1, "99.9", "0.3")
    assert await put(pool, contract(target="99.90"), now=NOON) == first
    second = await put(pool, contract("web"), now=NOON)
    assert (second.version, second.services) == (2, ("web",))
    async with transaction(pool) as conn:
        assert (await slas.read_all(conn)).contracts == (second,)
        for _ in range(2):
            await slas.remove(conn, "gold", actor="ada", now=NOON)
        assert (await slas.read_all(conn)).contracts == ()
        with pytest.raises(Refused, match="no SLA contract 'gold'"):
            await slas.standing(conn, "gold", now=NOON)
        with pytest.raises(Refused, match="no SLA contract 'iron'"):
            await slas.remove(conn, "iron", actor="ada", now=NOON)
    assert (await put(pool, contract("web"), now=NOON)).version == 4
    assert await look(pool, now=NOON) == 0


async def test_what_cannot_be_is_refused_by_field(pool: Pool) -> None:
    """Seen red with services that do not exist let through."""
    await services(pool, "api")
    with pytest.raises(Refused) as refused:
        await put(pool, contract("api", "gone", target="101", time_zone="Mars"), now=MARCH)
    assert refused.value.problem.status == 422
    assert [one.field for one in refused.value.problem.errors] == ["target", "time_zone", "services.1"]


async def test_an_exclusion_is_made_once_with_a_reason_and_a_name(pool: Pool) -> None:
    """Seen red without the conflict, and with one more row for each time it is said."""
    await services(pool, "api")
    await put(pool, contract(), now=MARCH)
    await put(pool, contract(contract_id="iron"), now=MARCH)
    key = uuid4()
    once = await exclude(pool, MARCH, MARCH + HOUR, now=NOON, exclusion=key)
    assert await exclude(pool, MARCH, MARCH + HOUR, now=NOON + DAY, exclusion=key) == once
    (found,) = once.exclusions
    assert (found.id, found.reason, found.made_by, found.made_at) == (key, "agreed", "ada", NOON)
    refusals = []
    for start, end, words, where in (
        (MARCH, MARCH + 2 * HOUR, "agreed", "gold"),
        (MARCH, MARCH + HOUR, "agreed", "iron"),
        (MARCH, MARCH, " ", "gold"),
        (MARCH, MARCH + HOUR, "agreed", "lead"),
    ):
        with pytest.raises(Refused) as refused:
            await exclude(pool, start, end, now=NOON, exclusion=key, reason=words, contract_id=where)
        refusals.append((refused.value.problem.status, [one.field for one in refused.value.problem.errors]))
    assert refusals == [(409, []), (409, []), (422, ["ends_at", "reason"]), (404, [])]


async def test_a_budget_is_what_the_page_says(pool: Pool) -> None:
    """Seen red with the rest of the month not counted in the budget, and with unknown time counted."""
    await publish(
        pool,
        "api",
        [
            ("up", BEGAN, MARCH + DAY),
            ("down", MARCH + DAY, MARCH + DAY + 10 * MINUTE),
            ("partial", MARCH + DAY + 10 * MINUTE, MARCH + DAY + 20 * MINUTE),
            ("unknown", MARCH + DAY + 20 * MINUTE, MARCH + DAY + 50 * MINUTE),
            ("up", MARCH + DAY + 50 * MINUTE, None),
        ],
    )
    await checked(pool, "api", NOON - HOUR, NOON - 6 * MINUTE)
    await checked(pool, "api", NOON - 6 * MINUTE, NOON, ok=False)
    await put(pool, contract(), now=MARCH)
    found = await only(pool, now=NOON)
    so_far = (NOON - MARCH) / MINUTE - 30
    assert (found.counted_minutes, found.downtime_minutes, found.unknown_minutes) == (so_far, 13, 30)
    assert found.budget_minutes == pytest.approx((31 * 1440 - 30) / 1000)
    assert found.budget_left_minutes == pytest.approx((31 * 1440 - 30) / 1000 - 13)
    assert (found.checks_percentage, found.met) == (90.0, True)
    assert [one.rule for one in found.burn_rates] == ["fast", "medium", "slow"]
    assert (await standing(pool, now=NOON)).window.starts_at == MARCH


@pytest.mark.parametrize(("zone", "minutes"), [("Europe/Berlin", 44_580), ("Asia/Seoul", 44_640)])
async def test_a_month_of_a_clock_change_has_its_own_minutes(pool: Pool, zone: str, minutes: int) -> None:
    """Seen red with months of UTC. The last minute of the local month is down, and one minute later none of it counts."""
    await put_up(pool, zone)
    window = month_window(2026, 3, ZoneInfo(zone))
    end = datetime.fromtimestamp(window.end / 1000, UTC)
    await outage(pool, "api", BEGAN, end - MINUTE, end + MINUTE)
    assert (await only(pool, now=end - timedelta(milliseconds=1))).downtime_minutes == pytest.approx(1, abs=0.001)
    shown = await report(pool, SlaReportQuery(contract_id="gold", first_day=date(2026, 3, 1)), now=end + DAY)
    assert (shown.standings[0].counted_minutes, shown.standings[0].downtime_minutes) == (minutes, 1)
    assert (await only(pool, now=end + DAY)).downtime_minutes == 1


async def put_up(pool: Pool, zone: str) -> None:
    await publish(pool, "api", [("up", BEGAN, None)])
    await put(pool, contract(time_zone=zone), now=MARCH)


async def test_exclusions_maintenance_and_corrections_move_a_present_standing(pool: Pool) -> None:
    """Seen red with each of the three not laid over the timeline."""
    start = MARCH + DAY
    await outage(pool, "api", BEGAN, start, start + HOUR)
    await put(pool, contract(), now=MARCH)
    downtimes = [(await only(pool, now=NOON)).downtime_minutes]
    await exclude(pool, start, start + 10 * MINUTE, now=NOON)
    downtimes.append((await only(pool, now=NOON)).downtime_minutes)
    await maintain(pool, "api", start + 10 * MINUTE, start + 20 * MINUTE)
    await maintain(pool, "api", start, start + HOUR, status="cancelled")
    downtimes.append((await only(pool, now=NOON)).downtime_minutes)
    await correct(pool, "api", start + 20 * MINUTE, start + 50 * MINUTE, "up", made_at=NOON)
    found = await only(pool, now=NOON)
    assert [*downtimes, found.downtime_minutes] == [60, 50, 40, 10]
    assert (found.excluded_minutes, found.maintenance_minutes) == (10, 10)


async def test_the_worst_service_tells_the_contract(pool: Pool) -> None:
    await publish(pool, "new", [("inactive", BEGAN, None)])
    await outage(pool, "api", BEGAN, MARCH, MARCH + MINUTE)
    await outage(pool, "web", BEGAN, MARCH, MARCH + 2 * MINUTE)
    await put(pool, contract("new", "api", "web"), now=MARCH)
    found = await standing(pool, now=NOON)
    assert (found.worst, [one.met for one in found.standings]) == ("web", [None, True, True])


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
    await checked(pool, "api", NOON - HOUR, NOON + 10 * MINUTE, every=timedelta(minutes=7, seconds=50))
    await pool.execute("update api_response_times set attempt = 1 where scheduled_at < $1", NOON - 50 * MINUTE)
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
    await put(pool, contract("api", "web"), now=MARCH)
    await look(pool, now=APRIL - DAY)
    assert await look(pool, now=APRIL + MINUTE) == 0
    await outage(pool, "api", BEGAN, APRIL - 50 * MINUTE, APRIL)  # what came late
    assert [await look(pool, now=APRIL + alarms.PATIENCE + step * MINUTE) for step in range(2)] == [2, 0]
    await publish(pool, "api", [("up", BEGAN, None)])
    await outage(pool, "web", BEGAN, MARCH, MARCH + 2 * HOUR)
    assert await look(pool, now=APRIL + DAY) == 0
    assert await said(pool) == ["gold web exhausted", "gold api breached 2026-03-01", "gold web breached 2026-03-01"]


async def test_months_that_ended_while_nobody_looked_are_judged_when_results_are_in(pool: Pool) -> None:
    """Seen red with the newest month only, with an unsettled intake, and with a timeline that is still to be computed."""
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
    assert await look(pool, now=late, settled_since=late - MINUTE) == 0
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


async def test_a_report_is_final_when_every_day_of_it_is_closed(pool: Pool) -> None:
    """Seen red with a report that is final at its end, and with one digest whatever is excluded."""
    await outage(pool, "api", BEGAN, MARCH, MARCH + HOUR)
    await put(pool, contract(), now=MARCH)
    query, later = SlaReportQuery(contract_id="gold", first_day=MARCH.date()), APRIL + DAY
    assert not (await report(pool, query, now=NOON)).is_final
    assert not (await report(pool, query, now=later)).is_final
    await pool.execute("insert into rollup_progress (resolution, done_until) values ('closed', $1)", APRIL)
    first = await report(pool, query, now=later)
    assert first.is_final
    assert (await report(pool, query, now=later + HOUR)).digest == first.digest
    assert (first.standings[0].downtime_minutes, first.audits[0].downtime_minutes, first.standings[0].burn_rates) == (60, 60, ())
    await exclude(pool, MARCH, MARCH + HOUR, now=later)
    assert (await report(pool, query, now=later)).digest != first.digest
    for day in (date(2026, 3, 2), date(2026, 5, 1)):
        with pytest.raises(Refused, match="cannot be used"):
            await report(pool, SlaReportQuery(contract_id="gold", first_day=day), now=later)


async def test_whole_hours_are_counted_from_rollups(pool: Pool) -> None:
    """Seen red with hours counted twice, and with the hours that are not rolled up yet left out."""
    await publish(pool, "api", [("up", BEGAN, None)])
    await put(pool, contract(time_zone="Asia/Kathmandu"), now=MARCH)
    start = datetime(2026, 2, 28, 18, 15, tzinfo=UTC)
    await checked(pool, "api", start - HOUR, start + 3 * HOUR)
    await pool.execute("insert into rollup_progress (resolution, done_until) values ('hour', $1)", datetime(2026, 2, 28, 20, tzinfo=UTC))
    for hour in range(17, 20):
        await pool.execute(
            """insert into rollup_hour (service_id, region, bucket, healthy, degraded, failed, unknown, response_count, response_sum_us,
                                        keys, counts) values ('api', 'eu', $1, 0, 0, 10, 99, 0, 0, '{}', '{}')""",
            datetime(2026, 2, 28, hour, tzinfo=UTC),
        )
    found = await only(pool, now=NOON)
    good = 45 + 75  # the rest of the first hour, and what came after 20:00
    assert found.checks_percentage == pytest.approx(100 * good / (good + 10), abs=0.0001)


async def test_a_thousand_contracts_take_seconds(pool: Pool) -> None:
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
            await promises.put(conn, contract(*some, contract_id=f"c-{number}"), judged_until=MARCH, actor="ada")
    held: list[float] = []

    async def others() -> None:
        while True:
            began = time.monotonic(), time.process_time()
            await asyncio.sleep(0.005)
            held.append(time.process_time() - began[1])

    beside = asyncio.create_task(others())
    began, worked = time.monotonic(), time.process_time()
    assert await look(pool, now=NOON) == 0
    took, work = time.monotonic() - began, time.process_time() - worked
    beside.cancel()
    print(f"3,000 standings: {took:.1f} s, {work:.1f} s of our own, others waited {1000 * max(held):.0f} ms at most")  # noqa: T201  # figures
    assert took < 40
    assert max(held) < 0.2, "others have their turn"
