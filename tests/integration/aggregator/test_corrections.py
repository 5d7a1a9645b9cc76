"""Corrections: made once, laid over what was measured, revoked, and readable as they were published.

Seen red with `on conflict` left to fail, with the future allowed, with the beginning of the service not looked at, and with revoked ones
left out of what was published before.
"""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.aggregator import audits, corrections, replays
from shared.contracts.codes import TimelineState
from shared.contracts.history import Audit, AuditQuery, CorrectionDraft, CorrectionRef, Period
from shared.contracts.sla import Correction
from shared.database import Pool, transaction
from shared.rpc import Refused
from tests.integration.aggregator.story import at, definition, learn, see

SERVICE = "id-recognition"


def draft(
    start: float = 2, end: float = 4, *, state: TimelineState = TimelineState.UP, reason: str = "our own proxy", **more: object
) -> CorrectionDraft:
    fields = {
        "id": uuid4(),
        "service_id": SERVICE,
        "starts_at": at(start),
        "ends_at": at(end),
        "state": state,
        "reason": reason,
        "actor": "kim",
    }
    return CorrectionDraft.model_validate(fields | more)


async def make(pool: Pool, one: CorrectionDraft, *, now: float = 10) -> Correction:
    async with transaction(pool) as conn:
        return await corrections.make(conn, one, now=at(now))


async def revoke(pool: Pool, id_: UUID, *, now: float, reason: str = "") -> Correction:
    async with transaction(pool) as conn:
        return await corrections.revoke(conn, CorrectionRef(id=id_, actor="lee", reason=reason), now=at(now))


async def watched(pool: Pool) -> None:
    """A service that was down in its slots 2 and 3."""
    await learn(pool, definition())
    await see(pool, "++--++++")
    await replays.work(pool, clock=lambda: at(8))


async def audit(pool: Pool, *, as_of: float | None = None) -> Audit:
    async with pool.acquire() as conn:
        query = AuditQuery(service_id=SERVICE, starts_at=at(0), ends_at=at(8), as_of=None if as_of is None else at(as_of))
        return await audits.audit(conn, query, now=at(100))


async def uptime(pool: Pool, *, as_of: float | None = None) -> float | None:
    return (await audit(pool, as_of=as_of)).uptime_percentage


async def states(pool: Pool) -> list[tuple[str, float, bool]]:
    async with pool.acquire() as conn:
        found = await audits.read_timeline(conn, Period(service_id=SERVICE, starts_at=at(0), ends_at=at(8)), now=at(100))
    return [(one.state.value, (one.started_at - at(0)).total_seconds() / 2, one.correction is not None) for one in found.intervals]


async def test_a_correction_reclassifies_and_what_was_published_stays(pool: Pool) -> None:
    await watched(pool)
    assert await uptime(pool) == 75
    made = await make(pool, draft())
    assert await states(pool) == [("up", 0, False), ("up", 2, True), ("up", 4, False)]
    assert await uptime(pool) == 100
    assert await uptime(pool, as_of=9.9) == 75
    again = await make(pool, draft(3, 5, state=TimelineState.PARTIAL), now=20)
    assert await states(pool) == [("up", 0, False), ("up", 2, True), ("partial", 3, True), ("up", 5, False)]

    revoked = await revoke(pool, made.id, now=30, reason=" it was theirs ")
    assert (revoked.revoked_by, revoked.revoked_reason) == ("lee", "it was theirs")
    assert await revoke(pool, made.id, now=40, reason="again") == revoked, "twice is once"

    assert await states(pool) == [("up", 0, False), ("down", 2, False), ("partial", 3, True), ("up", 5, False)]
    assert [await uptime(pool, as_of=moment) for moment in (9.9, 10, 20, 30)] == [75, 100, 92.5, 80]
    told = [[one.id for one in (await audit(pool, as_of=moment)).corrections] for moment in (9.9, 10, 20, 30)]
    assert told == [[], [made.id], [made.id, again.id], [again.id]]
    async with pool.acquire() as conn:
        listed = (await corrections.of_service(conn, SERVICE)).corrections
    assert [one.id for one in listed] == [again.id, made.id]
    assert await pool.fetchval("select count(*) from timeline where known_until is not null") == 0, "facts are not touched"


async def test_asking_twice_corrects_once(pool: Pool) -> None:
    await watched(pool)
    one = draft()
    assert await make(pool, one, now=10) == await make(pool, one, now=11)
    with pytest.raises(Refused) as refused:
        await make(pool, one.model_copy(update={"reason": "another"}))
    assert refused.value.problem.status == 409
    assert await pool.fetchval("select count(*) from correction") == 1


@pytest.mark.parametrize(
    ("one", "status", "field"),
    [
        (draft(service_id="nobody"), 404, None),
        (draft(2, 11), 422, "ends_at"),
        (draft(4, 4), 422, "ends_at"),
        (draft(-1), 422, "starts_at"),
        (draft(reason="  "), 422, "reason"),
        (draft(reason="x" * 2001), 422, "reason"),
        (draft(actor=""), 422, "actor"),
        (draft(0).model_copy(update={"starts_at": at(0) - timedelta(days=401)}), 422, "ends_at"),
    ],
)
async def test_what_cannot_be_corrected(pool: Pool, one: CorrectionDraft, status: int, field: str | None) -> None:
    await watched(pool)
    with pytest.raises(Refused) as refused:
        await make(pool, one)
    problem = refused.value.problem
    assert problem.status == status
    assert field is None or field in {error.field for error in problem.errors}
    assert await pool.fetchval("select count(*) from correction") == 0


async def test_nothing_unknown_is_revoked_or_listed(pool: Pool) -> None:
    with pytest.raises(Refused) as revoked:
        await revoke(pool, uuid4(), now=1)
    with pytest.raises(Refused) as listed:
        async with pool.acquire() as conn:
            await corrections.of_service(conn, "nobody")
    assert [one.value.problem.status for one in (revoked, listed)] == [404, 404]


async def test_a_reason_to_revoke_is_no_novel(pool: Pool) -> None:
    await watched(pool)
    made = await make(pool, draft())
    with pytest.raises(Refused) as refused:
        await revoke(pool, made.id, now=20, reason="x" * 2001)
    assert (refused.value.problem.status, refused.value.problem.errors[0].field) == (422, "reason")
    assert await uptime(pool) == 100
