"""Definitions in a real database: what is refused, what is said, and in which order it becomes visible."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.checker import changes, store, usecases
from services.checker.domain.hosts import HostRules
from shared.contracts.checks import CheckBatchV1, CheckResult, check_id
from shared.contracts.codes import ErrorType, Outcome, Status
from shared.contracts.commands import ServiceDraft, ServicePatch, ServiceRef
from shared.contracts.envelope import Event
from shared.contracts.registry import decode, make_event
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import Evidence, ServiceStatus, ServiceStatusChangedV1
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from shared.rpc import Refused
from tests.servers import Database

RULES = HostRules()
NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


async def create(pool: Pool, service_id: str = "face-compare", **fields: Any) -> ServiceDefinition:  # noqa: ANN401  # JSON
    wanted = {"id": service_id, "name": service_id, "endpoint_url": "https://api.example.com/"} | fields
    async with transaction(pool) as conn:
        return await usecases.create(conn, ServiceDraft(definition=wanted, actor="admin"), rules=RULES)


async def change(pool: Pool, service_id: str = "face-compare", **fields: Any) -> ServiceDefinition:  # noqa: ANN401  # JSON
    async with transaction(pool) as conn:
        return await usecases.change(conn, ServicePatch(id=service_id, changes=fields, actor="admin"), rules=RULES)


async def remove(pool: Pool, service_id: str = "face-compare") -> None:
    async with transaction(pool) as conn:
        await usecases.remove(conn, ServiceRef(id=service_id, actor="admin"))


async def said(pool: Pool) -> list[tuple[str, str, int]]:
    rows = await pool.fetch("select type, body from outbox order by position")
    events = [decode(row["type"], row["body"].encode()) for row in rows]
    return [(event.type, event.subject, event.data.service.version) for event in events]


async def test_each_change_is_said_once_with_the_next_version(pool: Pool) -> None:
    first = await create(pool)
    assert (await change(pool, timeout=4000)).timeout == 4000
    await change(pool, timeout=4000)  # changes nothing, says nothing
    await remove(pool)
    await remove(pool)
    again = await create(pool, display_name_ko="얼굴 비교")
    assert again.created_at > first.created_at
    assert await said(pool) == [
        ("service.registered.v1", "face-compare", 1),
        ("service.updated.v1", "face-compare", 2),
        ("service.removed.v1", "face-compare", 3),
        ("service.registered.v1", "face-compare", 4),
    ]


async def test_a_taken_id_or_name_is_refused_with_its_field(pool: Pool) -> None:
    await create(pool, "one", name="One")
    await create(pool, "two", name="Two")
    for asked, fields in (
        (create(pool, "one", name="Other"), ["id"]),
        (create(pool, "three", name="One"), ["name"]),
        (create(pool, "one", name="Two"), ["id", "name"]),
        (change(pool, "two", name="One"), ["name"]),
    ):
        with pytest.raises(Refused) as refusal:
            await asked
        assert (refusal.value.problem.status, [error.field for error in refusal.value.problem.errors]) == (409, fields)
    assert len(await said(pool)) == 2
    async with pool.acquire() as conn:
        assert (await changes.revisions(conn))[0] == 2


async def test_the_name_of_a_removed_service_is_free(pool: Pool) -> None:
    await create(pool, "one", name="One")
    await remove(pool, "one")
    assert (await create(pool, "two", name="One")).name == "One"


async def test_what_cannot_work_is_refused_and_leaves_nothing_behind(pool: Pool) -> None:
    with pytest.raises(Refused) as refusal:
        await create(pool, check_interval=10, endpoint_url="http://169.254.169.254/")
    assert refusal.value.problem.status == 422
    assert {error.field for error in refusal.value.problem.errors} == {"check_interval", "endpoint_url"}
    assert await said(pool) == []


async def test_asking_for_what_is_not_there_is_refused(pool: Pool) -> None:
    await create(pool, "gone")
    await remove(pool, "gone")
    for asked in (change(pool, "never", timeout=1), change(pool, "gone", timeout=1), remove(pool, "never")):
        with pytest.raises(Refused) as refusal:
            await asked
        assert refusal.value.problem.status == 404


async def test_two_creations_at_once_make_one(pool: Pool) -> None:
    """Seen red without the lock of `next_revision`: the second broke on the primary key instead of being refused."""
    answers = await asyncio.gather(*(create(pool) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, ServiceDefinition) for one in answers) == 1
    assert sum(isinstance(one, Refused) for one in answers) == 7


async def test_revisions_become_visible_in_their_order(pool: Pool) -> None:
    """A reader that has seen N never misses one below it, however many write. Seen red with revisions from a sequence."""
    known = 0
    seen: list[changes.Wanted] = []
    writers = asyncio.gather(*(create(pool, f"service-{number}") for number in range(40)))
    while len(seen) < 40:
        async with pool.acquire() as conn:
            found = await changes.changed_after(conn, known, seen[-1].id if seen else "")
        if found:
            assert [one.revision for one in found] == list(range(known + 1, known + 1 + len(found)))
            known = found[-1].revision
            seen += found
    await writers


async def test_the_copied_status_is_the_newest_and_no_change_of_the_definition(pool: Pool) -> None:
    before = await create(pool)
    for version, status in ((2, Status.MAJOR_OUTAGE), (1, Status.OPERATIONAL), (2, Status.OPERATIONAL)):
        told = ServiceStatus(
            service_id="face-compare", status=status, since=NOW, detected_at=NOW, evidence=Evidence(reason="x"), version=version
        )
        event = make_event(
            ServiceStatusChangedV1(status=told), source="/aggregator", subject="face-compare", version=version, at=NOW, correlation_id="c"
        )
        async with transaction(pool) as conn:
            await usecases.apply_status(conn, event)
    row = await pool.fetchrow("select status, status_version, updated_at, version from services")
    assert row is not None
    assert (row["status"], row["status_version"], row["version"]) == ("mo", 2, 1)
    assert row["updated_at"].isoformat(timespec="milliseconds") == before.updated_at.isoformat(timespec="milliseconds")


async def test_the_table_itself_refuses_what_cannot_work(pool: Pool) -> None:
    await create(pool)
    for wrong in ("timeout = check_interval", "status = 'green'", "id = 'Not Kebab'", "failure_threshold = 0", "options = '[]'"):
        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(f"update services set {wrong}")


def batch(slot: datetime, *outcomes: Outcome) -> Event[CheckBatchV1]:
    results = tuple(
        CheckResult(
            id=check_id("s", "r", slot + timedelta(seconds=number)),
            service_id="s",
            region="r",
            scheduled_at=slot + timedelta(seconds=number),
            checked_at=slot,
            outcome=outcome,
            response_time_ms=1.5,
            error_type=None if outcome is Outcome.HEALTHY else ErrorType.TIMEOUT,
        )
        for number, outcome in enumerate(outcomes)
    )
    data = CheckBatchV1(checker="c", results=results)
    return Event[CheckBatchV1](id=uuid4(), source="/checker", type=CheckBatchV1.TYPE, subject="r", time=slot, data=data)


async def test_a_check_is_written_down_once_however_often_it_comes(pool: Pool) -> None:
    one = batch(NOW, Outcome.HEALTHY, Outcome.FAILED, Outcome.UNKNOWN)
    async with transaction(pool) as conn:
        await store.make_partitions(conn, [NOW.date()])
    for events in ([one, one], [one]):
        async with transaction(pool) as conn:
            await usecases.write_down(conn, events)
    rows = await pool.fetch("select tableoid::regclass::text as part, is_healthy, error_type from watch_server_logs order by scheduled_at")
    assert [(row["part"], row["is_healthy"]) for row in rows] == [("watch_server_logs_2026_05", healthy) for healthy in (True, False, None)]


async def test_months_are_made_once_and_a_late_one_leaves_the_rows_of_the_default_alone(pool: Pool) -> None:
    async with transaction(pool) as conn:
        await usecases.write_down(conn, [batch(NOW, Outcome.HEALTHY)])
        assert await store.make_partitions(conn, [date(2026, 5, 1), date(2026, 12, 31), date(2026, 12, 1)]) == ["watch_server_logs_2026_12"]
        assert await store.make_partitions(conn, [date(2026, 12, 1)]) == []
    assert await pool.fetchval("select count(*) from watch_server_logs_default") == 1
