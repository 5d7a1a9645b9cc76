"""Answers about the past have a most: beyond it is a refusal that says what to ask for instead, never an answer without an end."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import audits, grounds
from services.aggregator.domain.calendar import Window, day_start
from services.aggregator.domain.timeline import State
from shared.contracts.history import AuditQuery, Period, SlaReportQuery
from shared.database import Pool
from shared.rpc import MAX_BYTES, Refused
from tests.integration.aggregator.promised import contract, publish, put, report, services

MARCH, DAY = datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=1)
NOW = MARCH + 40 * DAY


async def flapping(pool: Pool, *services: str) -> None:
    """Publish ten days of ups and downs."""
    states = ("up", "down")
    for one in services:
        await publish(pool, one, [(states[day % 2], MARCH + day * DAY, MARCH + (day + 1) * DAY) for day in range(10)])


async def test_a_timeline_and_an_audit_of_too_many_intervals_are_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red without the limit of `grounds.load`."""
    await flapping(pool, "api")
    times = {"service_id": "api", "starts_at": MARCH, "ends_at": MARCH + 10 * DAY}
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        monkeypatch.setattr(audits, "MOST_INTERVALS", 10)
        assert len((await audits.read_timeline(conn, Period.model_validate(times), now=NOW)).intervals) == 10
        monkeypatch.setattr(audits, "MOST_INTERVALS", 9)
        with pytest.raises(Refused) as timeline:
            await audits.read_timeline(conn, Period.model_validate(times), now=NOW)
        with pytest.raises(Refused) as audit:
            await audits.audit(conn, AuditQuery.model_validate(times), now=NOW)
    for refused in (timeline, audit):
        problem = refused.value.problem
        assert (problem.status, problem.errors[0].field) == (422, "ends_at")
        assert problem.errors[0].reason == "more than 9 intervals: ask for a shorter time, or for fewer services"


async def test_a_report_counts_the_intervals_of_all_its_services(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a limit for each service: a thousand of them would have no end."""
    await flapping(pool, "api", "web")
    await put(pool, contract("api", "web"), now=MARCH)
    monkeypatch.setattr(audits, "MOST_IN_A_REPORT", 20)
    query = SlaReportQuery(contract_id="gold", first_day=date(2026, 3, 1))
    assert [len(one.measured) for one in (await report(pool, query, now=NOW)).audits] == [11, 11], "and nothing afterwards"
    monkeypatch.setattr(audits, "MOST_IN_A_REPORT", 19)
    with pytest.raises(Refused, match="Some fields cannot be used") as refused:
        await report(pool, query, now=NOW)
    assert refused.value.problem.errors[0].reason.startswith("more than 19 intervals")


async def test_a_report_over_as_many_services_as_a_contract_may_have_goes_through_the_broker(pool: Pool) -> None:
    """Seen red with the contract told in each audit: 67 MB of names."""
    names = [f"{number:04}-{'x' * 58}" for number in range(1000)]
    await services(pool, *names)
    await put(pool, contract(*names), now=MARCH)

    shown = await report(pool, SlaReportQuery(contract_id="gold", first_day=date(2026, 3, 1)), now=NOW)
    async with pool.acquire() as conn:
        asked = AuditQuery(service_id=names[0], starts_at=MARCH, ends_at=MARCH + 31 * DAY, contract_id="gold")
        alone = await audits.audit(conn, asked, now=NOW)

    assert (len(shown.audits), len(shown.standings), len(shown.contract.services)) == (1000, 1000, 1000)
    assert len(shown.model_dump_json()) < MAX_BYTES / 3
    assert (shown.audits[0].digest, shown.audits[0].contract, alone.contract) == (alone.digest, None, shown.contract)


async def test_what_is_read_for_one_service_is_what_is_read_for_many(pool: Pool) -> None:
    """Seen red with a look-up of rows that does not ask for the service."""
    await flapping(pool, "api", "web")
    window = Window(*(day_start(date(2026, month, 1), ZoneInfo("UTC")) for month in (3, 4)))
    async with pool.acquire() as conn:
        many = await grounds.load(conn, ["web", "api", "gone"], window, limit=100)
        alone = {one: (await grounds.load(conn, [one], window, limit=100))[one] for one in many}
    assert many == alone
    assert [one.state for one in many["gone"].measured] == [State.INACTIVE]
