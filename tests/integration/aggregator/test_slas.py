"""SLA contracts on a real database: kept, excluded from, and numbers from the timeline."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import slas
from services.aggregator.consumers import watch_contracts
from services.aggregator.domain.calendar import window_at
from services.aggregator.store import slot_of
from shared.contracts.codes import SlaPeriod
from shared.contracts.commands import SLA_EXCLUDE, SLA_LIST, SLA_PUT, SLA_REMOVE, SLA_REPORT, SLA_STANDING
from shared.contracts.history import SlaContractDraft, SlaContractRef, SlaContractsQuery, SlaExclusionDraft, SlaReportQuery
from shared.database import Pool, transaction
from shared.health import Health
from shared.rpc import NoAnswer, Refused, open_client
from tests.integration.aggregator.promised import (
    checked,
    contract,
    correct,
    exclude,
    look,
    maintain,
    only,
    outage,
    publish,
    put,
    report,
    services,
    standing,
)
from tests.integration.aggregator.test_messages import aggregator
from tests.servers import Vhost
from tests.waiting import until

BEGAN = datetime(2025, 6, 1, tzinfo=UTC)
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 16, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ROLLING = SlaPeriod.ROLLING


async def test_a_contract_is_put_once_however_often_it_is_said(pool: Pool) -> None:
    """Seen red with every put a new version, and with a removed contract that stays away."""
    await services(pool, "api", "web")
    first = await put(pool, contract(), now=MARCH)
    assert (first.version, first.target, first.partial_share) == (1, "99.9", "0.3")
    assert await put(pool, contract(target="99.90"), now=NOON) == first
    second = await put(pool, contract("web"), now=NOON)
    assert (second.version, second.services) == (2, ("web",))
    async with transaction(pool) as conn:
        assert (await slas.read_some(conn, SlaContractsQuery())).contracts == (second,)
        for _ in range(2):
            await slas.remove(conn, "gold", actor="ada", now=NOON)
        assert (await slas.read_some(conn, SlaContractsQuery())).contracts == ()
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
    window = window_at(SlaPeriod.MONTH, slot_of(NOON), ZoneInfo(zone))
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
    """By time; by checks it stays what was measured. Seen red with each of the three not laid over the timeline."""
    start = MARCH + DAY
    await outage(pool, "api", BEGAN, start, start + HOUR)
    await checked(pool, "api", start, start + HOUR, ok=False)
    await checked(pool, "api", start + HOUR, start + 2 * HOUR)
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
    assert (found.excluded_minutes, found.maintenance_minutes, found.checks_percentage) == (10, 10, 50.0)


async def test_the_worst_service_tells_the_contract(pool: Pool) -> None:
    await publish(pool, "new", [("inactive", BEGAN, None)])
    await outage(pool, "api", BEGAN, MARCH, MARCH + MINUTE)
    await outage(pool, "web", BEGAN, MARCH, MARCH + 2 * MINUTE)
    await put(pool, contract("new", "api", "web"), now=MARCH)
    found = await standing(pool, now=NOON)
    assert (found.worst, [one.met for one in found.standings]) == ("web", [None, True, True])


async def test_contracts_are_told_page_by_page(pool: Pool) -> None:
    """Seen red with a `next` that comes after the last page, too."""
    await services(pool, "api")
    for number in range(5):
        await put(pool, contract().model_copy(update={"id": f"c-{number}"}), now=MARCH)
    async with transaction(pool) as conn:
        page = await slas.read_some(conn, SlaContractsQuery(after="c-0", limit=2))
        assert ([one.id for one in page.contracts], page.next) == (["c-1", "c-2"], "c-2")
        page = await slas.read_some(conn, SlaContractsQuery(after="c-2", limit=2))
        assert ([one.id for one in page.contracts], page.next) == (["c-3", "c-4"], None)
        assert (await slas.read(conn, "c-3")).id == "c-3"


async def test_contracts_are_asked_for_and_put_over_the_broker(pool: Pool, vhost: Vhost) -> None:
    """Seen red with a look while results wait to be stored."""
    now = datetime.now(UTC)
    await outage(pool, "api", BEGAN, now - 80 * DAY, now - 70 * DAY)
    asked = contract(period=ROLLING, rolling_days=90)
    async with aggregator(pool, vhost) as wiring, open_client(vhost.amqp_url, name="asker", health=Health("test")) as client:

        async def answered() -> bool:
            try:
                return not (await client.call(SLA_LIST, SlaContractsQuery())).contracts
            except NoAnswer:
                return False

        await until(answered, within_s=10, what="there are no contracts yet")
        made = await client.call(SLA_PUT, SlaContractDraft(contract=asked, actor="ada"))
        assert await watch_contracts(wiring, stored_until=now) is None
        wiring.storing.look(now=now - 2 * MINUTE, waiting=0)
        wiring.storing.look(now=now, waiting=1)
        assert await watch_contracts(wiring, stored_until=now) is None
        wiring.storing.look(now=now, waiting=0)
        wiring.storing.look(now=now, waiting=1)
        assert await watch_contracts(wiring, stored_until=now) == 2, "a burst delays nothing"
        day = SlaExclusionDraft(contract_id="gold", id=uuid4(), starts_at=now - DAY, ends_at=now, reason="agreed", actor="ada")
        excluded = await client.call(SLA_EXCLUDE, day)
        found = await client.call(SLA_STANDING, SlaContractRef(id="gold"))
        shown = await client.call(SLA_REPORT, SlaReportQuery(contract_id="gold", first_day=(now - 90 * DAY).date()))
        await client.call(SLA_REMOVE, SlaContractRef(id="gold", actor="ada"))
        with pytest.raises(Refused, match="no SLA contract"):
            await client.call(SLA_STANDING, SlaContractRef(id="gold"))
    assert (made.version, excluded.exclusions[0].made_by, found.worst) == (1, "ada", "api")
    assert (found.standings[0].downtime_minutes, found.standings[0].met) == (14_400, False)
    assert found.standings[0].excluded_minutes == pytest.approx(1440, abs=0.1)
    assert (len(shown.audits), len(shown.digest)) == (1, 64)


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


@pytest.mark.parametrize(
    ("period", "starts_at", "ends_at"),
    [
        (SlaPeriod.MONTH, MARCH, APRIL),
        (SlaPeriod.QUARTER, datetime(2026, 1, 1, tzinfo=UTC), APRIL),
        (SlaPeriod.ROLLING, APRIL - 29 * DAY, APRIL + DAY),
    ],
)
async def test_a_report_of_no_day_is_of_the_window_that_ended_last(
    pool: Pool, period: SlaPeriod, starts_at: datetime, ends_at: datetime
) -> None:
    """Seen red with the first of last month, which no other quarter begins on."""
    await outage(pool, "api", BEGAN, MARCH, MARCH + HOUR)
    await put(pool, contract(period=period), now=MARCH)
    shown = await report(pool, SlaReportQuery(contract_id="gold"), now=APRIL + DAY + HOUR)
    assert (shown.window.starts_at, shown.window.ends_at) == (starts_at, ends_at)


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
