"""What was published stays readable as it was, whatever is learned later; and a mistake in an exclusion can be taken back.

Seen red with maintenance, the contract's terms, or the counts of checks as they are now; with revoked exclusions left out of what held
then; with the revocation told of a correction that held then; with exclusions that are revoked still counted; with `settled` under the
digest, and with work that waits left unsaid.
"""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.aggregator import audits, circumstances, corrections, facts, replays, timelines
from shared.contracts.codes import MaintenanceStatus, TimelineState
from shared.contracts.history import Audit, AuditQuery, CorrectionDraft, CorrectionRef, SlaReportQuery
from shared.contracts.maintenance import Maintenance
from shared.database import Pool, transaction
from shared.rpc import Refused
from tests.integration.aggregator.promised import contract, exclude, exclusions, only, outage, publish, put, report, revoke, standing
from tests.integration.aggregator.story import START, at, batch, confirmation, definition, fold, learn, results, see
from tests.unit.aggregator.test_sla_page import rows

SERVICE = "id-recognition"
WINDOW = UUID("0196d0a4-0000-7000-8000-000000000001")
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NUMBERS = {"uptime_percentage", "counted_minutes", "downtime_minutes", "maintenances", "exclusions", "contract", "corrections"}


async def audit(pool: Pool, *, as_of: float | None = None, now: float = 1000, contract_id: str | None = "gold") -> Audit:
    asked = AuditQuery(
        service_id=SERVICE, starts_at=at(0), ends_at=at(20), contract_id=contract_id, as_of=None if as_of is None else at(as_of)
    )
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await audits.audit(conn, asked, now=at(now))


async def work(pool: Pool, now: float) -> None:
    while await replays.work(pool, clock=lambda: at(now)):
        pass


async def announce(pool: Pool, version: int, known: float, **more: object) -> None:
    """Announce work, or other work, as it became known at a slot."""
    fields = {
        "id": WINDOW,
        "title": "New disks",
        "services": (SERVICE,),
        "status": MaintenanceStatus.COMPLETED,
        "starts_at": at(8),
        "ends_at": at(12),
        "created_by": "kim",
        "created_at": at(0),
        "version": version,
    }
    async with transaction(pool) as conn:
        await circumstances.save_window(conn, Maintenance.model_validate(fields | more))
        await conn.execute("update maintenance_window_version set known_from = $2 where version = $1", version, at(known))


async def correct(pool: Pool, start: float, end: float, *, now: float) -> UUID:
    """Let a stretch count as up."""
    draft = CorrectionDraft(
        id=uuid4(), service_id=SERVICE, starts_at=at(start), ends_at=at(end), state=TimelineState.UP, reason="r", actor="kim"
    )
    async with transaction(pool) as conn:
        return (await corrections.make(conn, draft, now=at(now))).id


async def published(pool: Pool) -> tuple[UUID, UUID]:
    """Publish twenty slots: four are down, of which one is excluded and one corrected; work is announced for four that are up."""
    await learn(pool, definition())
    await see(pool, "++++----++++++++++++")
    await work(pool, 20)
    await put(pool, contract(SERVICE), now=at(0))
    exclusion = uuid4()
    await exclude(pool, at(4), at(5), now=at(22), exclusion=exclusion)
    await announce(pool, 1, 22)
    return exclusion, await correct(pool, 5, 6, now=22)


async def learn_more(pool: Pool, exclusion: UUID, correction: UUID) -> None:
    """Let everything that an audit tells be otherwise: late results, other work, both opinions taken back, other terms."""
    late = [confirmation(results("-", first=16)[0], attempt=1, after_ms=1)]
    also = [one.model_copy(update={"id": uuid4(), "scheduled_at": one.scheduled_at + timedelta(milliseconds=1)}) for one in late]
    await fold(pool, batch([*late, *also, *results("-+", first=30)]), now=at(40))
    await work(pool, 40)
    await announce(pool, 2, 40, services=("other",))
    await announce(pool, 3, 41, title="Newer disks", starts_at=at(6), ends_at=at(10))
    await revoke(pool, exclusion, now=at(40))
    await exclude(pool, at(0), at(2), now=at(40))
    async with transaction(pool) as conn:
        await corrections.revoke(conn, CorrectionRef(id=correction, actor="lee", reason="it was ours"), now=at(40))
    await correct(pool, 7, 8, now=40)
    await put(pool, contract(SERVICE, target="95", partial_share="1", count_unknown=True), now=at(40))


async def test_an_audit_of_what_was_published_does_not_change_with_what_is_learned_later(pool: Pool) -> None:
    opinions = await published(pool)
    before, then = await audit(pool), await audit(pool, as_of=30)
    assert before.model_dump(include=NUMBERS) == then.model_dump(include=NUMBERS)
    # 20 slots of 2 s, one excluded and four of maintenance; down for two
    assert [then.counted_minutes, then.downtime_minutes] == pytest.approx([15 * 2 / 60, 2 * 2 / 60])
    assert (before.total_checks, then.total_checks) == (20, None)

    await learn_more(pool, *opinions)

    again, now = await audit(pool, as_of=30, now=2000), await audit(pool)
    assert again.model_dump(exclude={"computed_at"}) == then.model_dump(exclude={"computed_at"})
    assert now.digest != before.digest
    different = {name for name in NUMBERS if getattr(now, name) != getattr(before, name)}
    assert different == NUMBERS, "each of them has another value now"
    assert [one.title for one in now.maintenances] == ["Newer disks"]


async def test_between_two_versions_of_work_it_was_another_services(pool: Pool) -> None:
    await learn_more(pool, *await published(pool))
    told = {moment: [one.title for one in (await audit(pool, as_of=moment)).maintenances] for moment in (21, 22, 40, 41)}
    assert told == {21: [], 22: ["New disks"], 40: [], 41: ["Newer disks"]}


async def test_a_contract_is_what_it_was_and_was_not_there_before(pool: Pool) -> None:
    await published(pool)
    await put(pool, contract(SERVICE, target="95"), now=at(50))
    targets = [(await audit(pool, as_of=moment)).contract for moment in (21, 30, 50)]
    assert [(one.target, one.version) for one in targets if one] == [("99.9", 1), ("99.9", 2), ("95", 3)]
    await put(pool, contract(SERVICE, contract_id="iron"), now=at(50))
    with pytest.raises(Refused, match="was then no contract"):
        await audit(pool, as_of=30, contract_id="iron")


async def test_an_exclusion_is_taken_back_once_with_a_reason_and_a_name(pool: Pool) -> None:
    await outage(pool, "api", MARCH - HOUR, MARCH, MARCH + HOUR)
    await put(pool, contract(), now=MARCH)
    await put(pool, contract(contract_id="iron"), now=MARCH)
    noon, key, other = MARCH + 12 * HOUR, uuid4(), uuid4()
    await exclude(pool, MARCH, MARCH + HOUR, now=noon, exclusion=key)
    await exclude(pool, MARCH, MARCH + 10 * MINUTE, now=noon + MINUTE, exclusion=other)
    assert (await only(pool, now=noon)).downtime_minutes == 0
    revoked = await revoke(pool, key, now=noon + HOUR)
    assert (revoked.revoked_by, revoked.revoked_at, revoked.revoked_reason) == ("lee", noon + HOUR, "a slip of the pen")
    assert await revoke(pool, key, now=noon + 2 * HOUR, reason="again") == revoked, "twice is once"
    found = await standing(pool, now=noon)
    assert (found.standings[0].downtime_minutes, found.standings[0].excluded_minutes) == (50, 10)
    assert ([one.id for one in found.contract.exclusions], found.contract.version) == ([other], 4)
    assert [(one.id, one.revoked_by) for one in await exclusions(pool)] == [(other, None), (key, "lee")]
    said_again = await exclude(pool, MARCH, MARCH + HOUR, now=noon + 3 * HOUR, exclusion=key)
    assert [one.id for one in said_again.exclusions] == [other], "said again, it is the same one, and stays revoked"
    refusals = []
    for exclusion, where, words in ((uuid4(), "gold", "why"), (key, "iron", "why"), (key, "lead", "why"), (key, "gold", " ")):
        with pytest.raises(Refused) as refused:
            await revoke(pool, exclusion, now=noon, contract_id=where, reason=words)
        refusals.append(refused.value.problem.status)
    assert refusals == [404, 404, 404, 422]
    with pytest.raises(Refused, match="no SLA contract"):
        await exclusions(pool, "lead")


async def test_a_report_and_the_audits_of_its_window_have_one_digest_and_say_while_work_waits(pool: Pool) -> None:
    """Both are settled or both are not; settled, they agree, and what is marked later is no part of a window that was over."""
    await publish(
        pool, SERVICE, [("up", MARCH - HOUR, MARCH + HOUR), ("down", MARCH + HOUR, MARCH + 2 * HOUR), ("up", MARCH + 2 * HOUR, None)]
    )
    await put(pool, contract(SERVICE), now=MARCH)
    later = APRIL + HOUR
    waiting = {"settled": True, "window over": int(APRIL.timestamp() * 1000), "in it": int(MARCH.timestamp() * 1000)}
    told = {}
    for what, slot in waiting.items():
        async with transaction(pool) as conn:
            if slot is not True:
                await timelines.mark(conn, {SERVICE: slot})
        shown = await report(pool, SlaReportQuery(contract_id="gold", first_day=date(2026, 3, 1)), now=later)
        async with pool.acquire() as conn:
            asked = AuditQuery(service_id=SERVICE, starts_at=MARCH, ends_at=APRIL, contract_id="gold")
            beside = await audits.audit(conn, asked, now=later)
        assert (shown.audits[0].digest, shown.settled) == (beside.digest, beside.settled)
        assert shown.standings[0].downtime_minutes == beside.downtime_minutes == 60
        told[what] = (shown.settled, (await standing(pool, now=MARCH + 20 * 24 * HOUR)).settled, beside.digest)
    assert [one[:2] for one in told.values()] == [(True, True), (True, True), (False, False)]
    assert {one[2] for one in told.values()} == {told["settled"][2]}


async def test_the_pages_example(pool: Pool) -> None:
    """Everything has happened when it is asked."""
    await publish(
        pool,
        "api",
        [("up", MARCH - HOUR, MARCH + 7 * HOUR), ("down", MARCH + 7 * HOUR, MARCH + 8 * HOUR), ("up", MARCH + 8 * HOUR, None)],
        known_from=MARCH + 9 * HOUR,
    )
    await put(pool, contract(), now=MARCH)
    key = uuid4()
    await exclude(pool, MARCH + 7 * HOUR, MARCH + 7 * HOUR + 30 * MINUTE, now=MARCH + 11 * HOUR, exclusion=key)
    await revoke(pool, key, now=MARCH + 13 * HOUR)
    told = []
    for moment, _what, _minutes in rows("as of"):
        then = MARCH + timedelta(hours=int(moment.removesuffix(":00")) + 1)
        asked = AuditQuery(service_id="api", starts_at=MARCH, ends_at=MARCH + 9 * HOUR, contract_id="gold", as_of=then)
        async with pool.acquire() as conn:
            told.append((await audits.audit(conn, asked, now=MARCH + 24 * HOUR)).downtime_minutes)
    assert told == [float(minutes) for *_, minutes in rows("as of")] == [60, 30, 60]


async def test_what_is_overdue_and_not_declared_silent_is_not_settled(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+++")
    await work(pool, 3)
    async with pool.acquire() as conn:
        found = [await facts.settled(conn, [SERVICE], until=10**15, now=at(moment)) for moment in (3, 100)]
        assert await facts.settled(conn, [SERVICE], until=int(START.timestamp() * 1000), now=at(100)), "of what was before nothing waits"
    assert found == [True, False]
