"""Jobs that report themselves, in a real database: whose report it is, what is kept, and in which order it becomes visible."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest

from services.checker import pushes
from services.checker.domain.known import PushState
from shared.contracts.commands import PushSignal, ServiceRef
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from shared.rpc import Refused
from tests.servers import Database

NOW = datetime(2025, 5, 17, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


async def job(pool: Pool, service_id: str = "backup", kind: str = "push") -> None:
    await pool.execute(
        "insert into services (id, name, display_name, kind, endpoint_url, revision, created_at) values ($1, $1, $1, $2, $3, 1, $4)"
        " on conflict (id) do update set removed_at = null, created_at = now()",
        service_id,
        kind,
        f"{kind}://{service_id}",
        NOW - timedelta(days=1),
    )


async def renewed(pool: Pool, service_id: str = "backup") -> str:
    async with transaction(pool) as conn:
        return (await pushes.renew_token(conn, ServiceRef(id=service_id, actor="admin"))).token


async def tell(
    pool: Pool,
    token: str,
    what: Literal["start", "success", "fail"] = "success",
    at_s: float = 0,
    *,
    id_: UUID | None = None,
    **more: Any,  # noqa: ANN401  # fields
) -> str:
    signal = PushSignal(id=id_ or uuid4(), token=token, what=what, at=NOW + timedelta(seconds=at_s), **more)
    async with transaction(pool) as conn:
        return await pushes.record(conn, signal)


async def state(pool: Pool, service_id: str = "backup") -> PushState | None:
    async with pool.acquire() as conn:
        return (await pushes.states_since(conn, 0))[1].get(service_id)


async def refused(pool: Pool, token: str, **more: Any) -> int:  # noqa: ANN401  # fields
    with pytest.raises(Refused) as refusal:
        await tell(pool, token, **more)
    return refusal.value.problem.status


async def test_only_a_push_service_has_a_secret_address_and_only_its_hash_is_kept(pool: Pool) -> None:
    await job(pool)
    await job(pool, "site", "http")
    token = await renewed(pool)
    assert len(token) == 32
    for service_id, status in (("site", 422), ("none", 404)):
        with pytest.raises(Refused) as refusal:
            await renewed(pool, service_id)
        assert refusal.value.problem.status == status
    kept = await pool.fetchval("select array_agg(t::text) from push_tokens t")
    assert len(kept) == 1
    assert token not in kept[0]


async def test_an_address_is_good_until_it_is_renewed_or_its_service_removed(pool: Pool) -> None:
    """Mutants seen red: tokens of removed services accepted; those of a predecessor with the same id."""
    await job(pool)
    old = await renewed(pool)
    assert await tell(pool, old) == "backup"
    new = await renewed(pool)
    assert await refused(pool, old) == 404
    assert await tell(pool, new) == "backup"
    assert await refused(pool, "") == 404
    await pool.execute("update services set removed_at = now() where id = 'backup'")
    assert await refused(pool, new) == 404
    await job(pool)  # again, anew
    assert await refused(pool, new) == 404


async def test_a_report_told_twice_counts_once(pool: Pool) -> None:
    """Mutant seen red: the state folded though the signal was there already: the duration is gone."""
    await job(pool)
    token, id_ = await renewed(pool), uuid4()
    await tell(pool, token, "start", 1)
    for _ in range(2):
        await tell(pool, token, "success", 3, id_=id_, exit_code=0)
    assert await pool.fetchval("select count(*) from push_signals") == 2
    assert await state(pool) == PushState(NOW_MS + 1_000, NOW_MS + 3_000, None, 0, 2_000.0, "")


async def test_older_reports_never_replace_newer_ones(pool: Pool) -> None:
    await job(pool)
    token = await renewed(pool)
    await tell(pool, token, "success", 5, log="fine")
    await tell(pool, token, "fail", 4, exit_code=3, log="disk full")
    assert await state(pool) == PushState(None, NOW_MS + 5_000, NOW_MS + 4_000, None, None, "fine")


async def test_reports_at_once_take_turns_and_none_is_lost(pool: Pool) -> None:
    """Mutant seen red: the revision counted up after the state was read."""
    await job(pool)
    token = await renewed(pool)
    await asyncio.gather(*(tell(pool, token, "start" if second % 2 else "success", second) for second in range(30)))
    known = await state(pool)
    assert known is not None
    assert (known.started_ms, known.succeeded_ms) == (NOW_MS + 29_000, NOW_MS + 28_000)


async def test_what_changed_is_read_from_a_revision_on(pool: Pool) -> None:
    for service_id in ("one", "two"):
        await job(pool, service_id)
    one, two = await renewed(pool, "one"), await renewed(pool, "two")
    await tell(pool, one)
    async with pool.acquire() as conn:
        revision, states = await pushes.states_since(conn, 0)
        assert set(states) == {"one"}
        assert await pushes.states_since(conn, revision) == (revision, {})
        await tell(pool, two, "fail")
        later, states = await pushes.states_since(conn, revision)
    assert later > revision
    assert set(states) == {"two"}


async def test_a_log_is_kept_short_by_its_end_without_secrets_and_whatever_it_holds(pool: Pool) -> None:
    """Mutants seen red: the beginning kept; cut before it was redacted."""
    await job(pool)
    token = await renewed(pool)
    await tell(pool, token, "fail", log="begin\x00" + "é" * 50_000 + " password=hunter22 end", exit_code=-1, duration_ms=12.5)
    log = await pool.fetchval("select log from push_signals")
    assert len(log.encode()) <= 10_240
    assert log.endswith("é password=******** end")
    known = await state(pool)
    assert known is not None
    assert (known.exit_code, known.duration_ms) == (-1, 12.5)
    assert log.endswith(known.log)
    assert len(known.log.encode()) <= 1_024


async def test_what_cannot_be_kept_is_refused_or_left_out(pool: Pool) -> None:
    await job(pool)
    token = await renewed(pool)
    assert await refused(pool, token, exit_code=2**40) == 422
    await tell(pool, token, duration_ms=float("inf"))
    known = await state(pool)
    assert known is not None
    assert known.duration_ms is None


async def test_a_gateways_clock_that_is_ahead_puts_nothing_into_the_future(pool: Pool) -> None:
    """Mutant seen red: `at` as it came: no later report would ever count."""
    await job(pool)
    token = await renewed(pool)
    await tell(pool, token, "fail", 86_400 * 3_650)
    known, clock = await state(pool), await pool.fetchval("select now()")
    assert known is not None
    assert known.failed_ms is not None
    assert known.failed_ms <= int(clock.timestamp() * 1000)


async def test_old_reports_are_dropped_and_states_stay(pool: Pool) -> None:
    await job(pool)
    token = await renewed(pool)
    for second in range(3):
        await tell(pool, token, "success", second)
    clock = await pool.fetchval("select now()")
    async with transaction(pool) as conn:
        assert await pushes.forget_old(conn, clock + timedelta(days=89)) == 0
        assert await pushes.forget_old(conn, clock + timedelta(days=91)) == 3
    known = await state(pool)
    assert known is not None
    assert known.succeeded_ms == NOW_MS + 2_000
