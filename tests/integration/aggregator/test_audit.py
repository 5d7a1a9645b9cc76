"""What a number rests on, on a real database: intervals, spans, checks, a digest.

Seen red with the contract's accounting or `as_of` ignored, with confirmations counted, with the digest over `computed_at`, and with
exclusions made later told of an earlier publication.
"""

import hashlib
import json
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from services.aggregator import answers, audits, circumstances, corrections, promises, rollups
from shared.contracts.codes import MaintenanceStatus, SlaPeriod, TimelineState
from shared.contracts.commands import (
    CORRECTIONS_LIST,
    CORRECTIONS_MAKE,
    CORRECTIONS_REVOKE,
    TIMELINE_DRY_RUN,
    TIMELINE_READ,
    UPTIME_AUDIT,
    ServiceRef,
)
from shared.contracts.history import Audit, AuditQuery, CorrectionDraft, CorrectionRef, DryRunQuery, Period, Timeline
from shared.contracts.maintenance import Maintenance
from shared.contracts.sla import SlaContract, SlaExclusion
from shared.database import Pool, transaction
from shared.health import Health
from shared.rpc import Refused, open_client
from tests.integration.aggregator.audited import SERVICE, plain, reading, watched, work
from tests.integration.aggregator.story import at, batch, confirmation, definition, fold, learn, results
from tests.integration.aggregator.test_messages import aggregator
from tests.servers import Vhost
from tests.waiting import until

WINDOW = UUID("0196d0a4-0000-7000-8000-000000000001")


async def audit(pool: Pool, end: float = 20, *, now: float = 1000, as_of: float | None = None, contract: str | None = None) -> Audit:
    query = AuditQuery(
        service_id=SERVICE, starts_at=at(0), ends_at=at(end), contract_id=contract, as_of=None if as_of is None else at(as_of)
    )
    async with reading(pool) as conn:
        return await audits.audit(conn, query, now=at(now))


async def timeline(pool: Pool, start: float, end: float, *, now: float) -> Timeline:
    async with reading(pool) as conn:
        return await audits.read_timeline(conn, Period(service_id=SERVICE, starts_at=at(start), ends_at=at(end)), now=at(now))


def window(**changes: object) -> Maintenance:
    fields = {
        "id": WINDOW,
        "title": "New disks",
        "services": (SERVICE,),
        "status": MaintenanceStatus.COMPLETED,
        "starts_at": at(5),
        "ends_at": at(9),
        "created_by": "kim",
        "created_at": at(0),
        "version": 3,
    }
    return Maintenance.model_validate(fields | changes)


async def promise(pool: Pool, *, share: str = "1", exclusions: tuple[SlaExclusion, ...] = ()) -> None:
    contract = SlaContract(
        id="gold",
        name="Gold",
        target="99.9",
        period=SlaPeriod.MONTH,
        services=(SERVICE,),
        partial_share=share,
        count_maintenance=True,
        count_unknown=True,
    )
    async with transaction(pool) as conn:
        await promises.put(conn, contract, now=at(0), actor="kim")
        for one in exclusions:
            await promises.exclude(conn, "gold", one)


async def test_an_audit_says_what_its_numbers_rest_on(pool: Pool) -> None:
    await watched(pool)
    async with transaction(pool) as conn:
        await circumstances.save_window(conn, window())

    found = await audit(pool)

    assert (
        plain(found.intervals)
        == plain(found.measured)
        == [
            ("up", 0, 4),
            ("down", 4, 6),
            ("up", 6, 10),
            ("partial", 10, 13),
            ("up", 13, 20),
        ]
    )
    assert [(one.regions_down) for one in found.intervals] == [(), ("eu", "us"), (), ("eu",), ()]
    assert [(one.title, one.created_by) for one in found.maintenances] == [("New disks", "kim")]
    # 20 slots of 2 s, 4 of them maintenance; down for 1 outside of it, and for 3 tenths of 3 partly
    assert found.counted_minutes == pytest.approx(16 * 2 / 60)
    assert found.downtime_minutes == pytest.approx(1.9 * 2 / 60)
    assert found.uptime_percentage == float((Decimal(100) * (1 - Decimal("1.9") / 16)).quantize(Decimal("0.0001"), rounding="ROUND_DOWN"))
    assert (found.total_checks, found.successful_checks, found.failed_checks) == (59, 52, 7)
    assert found.checks_percentage == 88.1355
    assert (found.partial_share, found.count_maintenance, found.count_unknown) == ("0.3", False, False)
    assert found.formula_version == 1


async def test_the_same_question_has_the_same_digest_that_anybody_can_compute(pool: Pool) -> None:
    await watched(pool)
    one, two = await audit(pool, now=1000), await audit(pool, now=2000)
    assert one.digest == two.digest
    assert one.computed_at != two.computed_at
    assert not one.settled, "its checks are overdue, and it was not declared silent yet"
    told = json.loads(one.model_dump_json(exclude={"digest", "computed_at", "settled"}))
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace(".0,", ",")  # 96.0 is 96 in RFC 8785
    assert hashlib.sha256(text.encode()).hexdigest() == one.digest
    assert (await audit(pool, end=19)).digest != one.digest


async def test_a_confirmation_counts_for_the_state_and_not_as_a_check(pool: Pool) -> None:
    await learn(pool, definition())
    found = results("++-+++")
    await fold(pool, batch([*found, confirmation(found[2], attempt=1, after_ms=500)]), now=at(6))
    await work(pool, 6)
    told = await audit(pool, 6)
    assert plain(told.intervals) == [("up", 0, 2), ("down", 2, 3), ("up", 3, 6)]
    assert (told.total_checks, told.failed_checks) == (6, 1)


async def test_a_contract_counts_as_it_says_and_excludes_what_it_excludes(pool: Pool) -> None:
    await watched(pool)
    mine = SlaExclusion(id=uuid4(), starts_at=at(4), ends_at=at(5), reason="agreed", made_by="kim", made_at=at(30))
    later = SlaExclusion(id=uuid4(), starts_at=at(5), ends_at=at(6), reason="agreed too", made_by="kim", made_at=at(40))
    await promise(pool, exclusions=(mine,))
    async with transaction(pool) as conn:
        await circumstances.save_window(conn, window())

    before = await audit(pool, contract="gold", as_of=35)
    found = await audit(pool, contract="gold")
    assert found.counted_minutes == pytest.approx(19 * 2 / 60)
    assert found.downtime_minutes == pytest.approx(4 * 2 / 60)
    assert [one.reason for one in found.exclusions] == ["agreed"]

    async with transaction(pool) as conn:
        await promises.exclude(conn, "gold", later)
    assert (await audit(pool, contract="gold")).downtime_minutes == pytest.approx(3 * 2 / 60)
    assert (await audit(pool, contract="gold", as_of=35)).digest == before.digest
    assert (await audit(pool, contract="gold", as_of=25)).exclusions == ()


async def test_as_it_was_published_then(pool: Pool) -> None:
    await watched(pool)
    before = await audit(pool, as_of=25)
    others = {"digest", "computed_at", "as_of", "settled", "checks_percentage", "total_checks", "successful_checks", "failed_checks"}
    assert before.model_dump(exclude=others) == (await audit(pool)).model_dump(exclude=others)
    assert (before.checks_percentage, before.total_checks, before.settled) == (None, None, True)
    then = await audit(pool, 30, as_of=22)
    assert (then.ends_at, plain(then.intervals)[-1]) == (at(22), ("up", 13, 22)), "what came after was not known then"
    late = [confirmation(results("-", first=16, region=region)[0], attempt=1, after_ms=1) for region in ("eu", "us", "asia")]
    also = [one.model_copy(update={"id": uuid4(), "scheduled_at": one.scheduled_at + timedelta(milliseconds=1)}) for one in late]
    await fold(pool, batch([*late, *also]), now=at(30))
    await work(pool, 30)
    async with transaction(pool) as conn:
        fields = {"id": uuid4(), "service_id": SERVICE, "starts_at": at(4), "ends_at": at(5), "state": TimelineState.UP, "reason": "r"}
        made = await corrections.make(conn, CorrectionDraft.model_validate(fields | {"actor": "kim"}), now=at(40))

    after = await audit(pool)
    assert len(after.measured) == len(before.measured) + 2
    assert [one.correction for one in after.intervals if one.correction] == [made.id]
    assert [one.correction for one in after.measured if one.correction] == []
    assert (await audit(pool, as_of=25)).digest == before.digest
    between = await audit(pool, as_of=35)
    assert (len(between.measured), between.corrections) == (len(after.measured), ())


async def test_a_timeline_goes_on_where_nothing_ended_it(pool: Pool) -> None:
    await watched(pool)
    assert plain((await timeline(pool, 15, 200, now=20)).intervals) == [("up", 15, None)]
    assert plain((await timeline(pool, -5, 3, now=20)).intervals) == [("inactive", -5, 0), ("up", 0, 3)]
    assert plain((await timeline(pool, 9, 12, now=20)).intervals) == [("up", 9, 10), ("partial", 10, 12)]


async def test_a_timeline_names_the_maintenance_over_it_and_hides_nothing(pool: Pool) -> None:
    """Seen red without the windows, with the first of two windows named, cut where nothing changes, and with a cancelled one named."""
    await watched(pool)
    inner, early, off = (UUID(int=number) for number in (1, 2, 3))
    async with transaction(pool) as conn:
        await circumstances.save_window(conn, window())
        await circumstances.save_window(conn, window(id=inner, starts_at=at(7), ends_at=at(8)))
        await circumstances.save_window(conn, window(id=early, starts_at=at(-3), ends_at=at(5.5)))
        await circumstances.save_window(conn, window(id=off, starts_at=at(1), ends_at=at(15), status=MaintenanceStatus.CANCELLED))
        await circumstances.save_window(conn, window(id=UUID(int=4), services=("other",)))
    told = (await timeline(pool, 0, 30, now=20)).intervals
    assert [(*times, one.maintenance) for times, one in zip(plain(told), told, strict=True)] == [
        ("up", 0, 4, early),
        ("down", 4, 5, early),
        ("down", 5, 6, WINDOW),
        ("up", 6, 7, WINDOW),
        ("up", 7, 8, inner),
        ("up", 8, 9, WINDOW),
        ("up", 9, 10, None),
        ("partial", 10, 13, None),
        ("up", 13, None, None),
    ]
    assert [one.regions_down for one in told[1:3]] == [("eu", "us")] * 2
    found = await audit(pool)
    assert len(found.intervals) == 5, "audits tell states and windows apart"
    assert {one.maintenance for one in found.intervals} == {None}


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({"service_id": "nobody"}, 404, None),
        ({"ends_at": at(0)}, 422, "ends_at"),
        ({"ends_at": at(0) + timedelta(days=401)}, 422, "ends_at"),
        ({"starts_at": at(2000), "ends_at": at(2001)}, 422, "starts_at"),
        ({"as_of": at(1001)}, 422, "as_of"),
        ({"as_of": at(996)}, 422, "as_of"),
        ({"contract_id": "none"}, 404, None),
    ],
)
async def test_what_cannot_be_audited(pool: Pool, query: dict[str, object], status: int, field: str | None) -> None:
    await watched(pool)
    asked = AuditQuery.model_validate({"service_id": SERVICE, "starts_at": at(0), "ends_at": at(20)} | query)
    with pytest.raises(Refused) as refused:
        async with reading(pool) as conn:
            await audits.audit(conn, asked, now=at(1000))
    problem = refused.value.problem
    assert (problem.status, [one.field for one in problem.errors]) == (status, [field] if field else [])


async def test_it_is_asked_and_corrected_over_the_broker(pool: Pool, vhost: Vhost) -> None:
    """By the clock of the process: what was watched in the spring is long ago."""
    await watched(pool)
    health = Health("asker")
    period = {"service_id": SERVICE, "starts_at": at(0), "ends_at": at(20)}
    asked = AuditQuery.model_validate(period)
    correction = CorrectionDraft(
        id=uuid4(), service_id=SERVICE, starts_at=at(4), ends_at=at(6), state=TimelineState.UP, reason="r", actor="kim"
    )
    async with aggregator(pool, vhost), open_client(vhost.amqp_url, name="asker", health=health) as client:

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the asker is connected")
        before = await client.call(UPTIME_AUDIT, asked)
        made = await client.call(CORRECTIONS_MAKE, correction)
        after = await client.call(UPTIME_AUDIT, asked)
        listed = await client.call(CORRECTIONS_LIST, ServiceRef(id=SERVICE))
        revoked = await client.call(CORRECTIONS_REVOKE, CorrectionRef(id=made.id, actor="lee"))
        told = await client.call(TIMELINE_READ, Period.model_validate(period))
        tried = await client.call(TIMELINE_DRY_RUN, DryRunQuery.model_validate(period | {"failure_threshold": 4}))

    assert (before.uptime_percentage, after.uptime_percentage) == (85.5, 95.5)
    assert before.digest != after.digest
    assert listed.corrections == (made,)
    assert revoked.revoked_by == "lee"
    assert plain(told.intervals) == plain(before.measured)
    assert plain(tried.would_be) == [("up", 0, 20)]


async def test_rolling_up_waits_for_who_may_store_checks_not_for_who_reads_or_computes(pool: Pool) -> None:
    """Seen red without `stand_aside`."""
    async with answers.reading(pool) as conn:
        began = await conn.fetchval("select now()")
        async with pool.acquire() as other:
            assert await other.fetchval(rollups.SQL_RUNNING_SINCE) > began
    async with transaction(pool) as conn:
        began = await conn.fetchval("select now()")
        async with pool.acquire() as other:
            assert await other.fetchval(rollups.SQL_RUNNING_SINCE) == began
