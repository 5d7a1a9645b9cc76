"""Maintenance windows on a real database and broker: asked twice, begun and ended by the database's clock, said once."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.incidents import maintenances
from services.incidents.consumers import keep_time
from shared.contracts.codes import MaintenanceStatus
from shared.contracts.commands import MAINTENANCE_CHANGE, MAINTENANCE_LIST, MAINTENANCE_SCHEDULE
from shared.contracts.history import MaintenanceChange, MaintenanceDraft, MaintenanceQuery
from shared.contracts.maintenance import Maintenance
from shared.database import Pool, transaction
from shared.rpc import Refused
from tests.integration.incidents.story import Edge, definition, learn, said

SCHEDULED, IN_PROGRESS, COMPLETED, CANCELLED = MaintenanceStatus
HOUR = timedelta(hours=1)


async def clock(pool: Pool) -> datetime:
    """Return the database's present moment."""
    now: datetime = await pool.fetchval("select date_trunc('milliseconds', clock_timestamp())")
    return now


async def draft(pool: Pool, **changes: object) -> MaintenanceDraft:
    """Return what an admin writes: work that begins in an hour."""
    now = await clock(pool)
    one = MaintenanceDraft(
        id=uuid4(),
        title="New disks",
        description="The database is **read only**.",
        services=("id-recognition",),
        starts_at=now + HOUR,
        ends_at=now + 2 * HOUR,
        actor="kim",
    )
    return one.model_copy(update=changes)


async def schedule(pool: Pool, one: MaintenanceDraft) -> Maintenance:
    """Announce work."""
    async with transaction(pool) as conn:
        return await maintenances.schedule(conn, one)


async def change(pool: Pool, id_: UUID, **changes: object) -> Maintenance:
    """Change a window."""
    async with transaction(pool) as conn:
        return await maintenances.change(conn, MaintenanceChange.model_validate({"id": id_, "actor": "lee", **changes}))


async def advance(pool: Pool) -> int:
    """Look once what is due."""
    async with transaction(pool) as conn:
        return await maintenances.advance(conn)


async def pass_time(pool: Pool, by: timedelta) -> None:
    """Let so much time pass for every window."""
    await pool.execute("update maintenance set starts_at = starts_at - $1::interval, ends_at = ends_at - $1::interval", by)


async def told(pool: Pool) -> list[tuple[str, MaintenanceStatus, int]]:
    """Return what was said of windows, in order."""
    return [(one.type, one.data.maintenance.status, one.data.maintenance.version) for one in await said(pool)]


LIFE = [
    ("maintenance.scheduled.v1", SCHEDULED, 1),
    ("maintenance.started.v1", IN_PROGRESS, 2),
    ("maintenance.ended.v1", COMPLETED, 3),
]


@pytest.fixture
async def known(pool: Pool) -> Pool:
    """Give a database that knows one service."""
    await learn(pool, definition())
    return pool


async def test_work_is_announced_begun_and_ended_each_said_once_by_many_replicas(known: Pool) -> None:
    """Seen red with `skip locked` and the lock removed from what is due."""
    written = await draft(known)
    first, again = await schedule(known, written), await schedule(known, written)
    assert (first.status, first.version, first.created_by) == (SCHEDULED, 1, "kim")
    assert first == again
    assert await advance(known) == 0

    for _ in range(2):
        await pass_time(known, HOUR)
        assert sum(await asyncio.gather(*(advance(known) for _ in range(5)))) == 1

    assert await told(known) == LIFE
    ids = [one.id for one in await said(known)]
    assert len(set(ids)) == 3


async def test_what_began_and_ended_while_nobody_looked_is_caught_up_in_order(known: Pool) -> None:
    await schedule(known, await draft(known))
    await pass_time(known, timedelta(days=3))

    assert await advance(known) == 1

    assert await told(known) == LIFE
    [window] = [one.data.maintenance for one in (await said(known))[-1:]]
    assert window.ends_at - window.starts_at == HOUR, "it ended as announced, not when somebody looked"


async def test_the_same_draft_at_once_announces_once(known: Pool) -> None:
    """Also when it is asked again after it ended. Seen red without `on conflict do nothing`, and with what is known not looked for."""
    written = await draft(known)

    found = await asyncio.gather(*(schedule(known, written) for _ in range(4)))

    assert len({one.version for one in found}) == 1
    assert await told(known) == LIFE[:1]
    late = written.model_copy(update={"starts_at": written.starts_at - 3 * HOUR, "ends_at": written.ends_at - 3 * HOUR})
    assert (await schedule(known, late)).starts_at == found[0].starts_at


async def test_a_window_is_changed_ended_early_or_cancelled(known: Pool) -> None:
    now = await clock(known)
    begins_now = await schedule(known, await draft(known, starts_at=now, ends_at=now + HOUR))
    assert await advance(known) == 1
    longer = await change(known, begins_now.id, ends_at=now + 3 * HOUR, title="New disks, and cables")
    assert (longer.status, longer.version, longer.ends_at) == (IN_PROGRESS, 3, now + 3 * HOUR)
    assert await change(known, begins_now.id, title="New disks, and cables") == longer, "nothing changed"

    over = await change(known, begins_now.id, end=True)
    assert (over.status, over.version) == (COMPLETED, 4)
    assert now <= over.ends_at <= await clock(known)
    assert await change(known, begins_now.id, end=True) == over

    planned = await schedule(known, await draft(known))
    cancelled = await change(known, planned.id, end=True)
    assert (cancelled.status, cancelled.ends_at) == (CANCELLED, planned.ends_at)
    assert [one for one, *_ in await told(known)] == [
        "maintenance.scheduled.v1",
        "maintenance.started.v1",
        "maintenance.updated.v1",
        "maintenance.ended.v1",
        "maintenance.scheduled.v1",
        "maintenance.ended.v1",
    ]
    await pass_time(known, 9 * HOUR)
    assert await advance(known) == 0, "what is over stays as it is"


async def test_what_cannot_be_is_refused_by_field(known: Pool) -> None:
    now = await clock(known)

    async def fields(written: MaintenanceDraft) -> tuple[int, set[str]]:
        with pytest.raises(Refused) as refusal:
            await schedule(known, written)
        return refusal.value.problem.status, {one.field for one in refusal.value.problem.errors}

    assert await fields(await draft(known, title=" ", services=())) == (422, {"title", "services"})
    assert await fields(await draft(known, services=("nobody", "id-recognition"))) == (422, {"services"})
    assert await fields(await draft(known, starts_at=now - HOUR)) == (422, {"starts_at"})
    assert await fields(await draft(known, ends_at=now)) == (422, {"ends_at"})
    with pytest.raises(Refused, match="no maintenance window"):
        await change(known, uuid4(), end=True)
    one = await schedule(known, await draft(known))
    await change(known, one.id, end=True)
    with pytest.raises(Refused, match="cancelled and stays as it is"):
        await change(known, one.id, title="After all")
    assert await told(known) == [("maintenance.scheduled.v1", SCHEDULED, 1), ("maintenance.ended.v1", CANCELLED, 2)]


async def test_the_list_has_what_touches_a_time_newest_start_first(known: Pool) -> None:
    await learn(known, definition("api"))
    now = await clock(known)
    for hours, services in ((1, ("api",)), (5, ("api", "id-recognition")), (9, ("id-recognition",))):
        begins = now + hours * HOUR
        await schedule(known, await draft(known, title=f"in {hours}", services=services, starts_at=begins, ends_at=begins + HOUR))

    async def titles(query: MaintenanceQuery) -> list[str]:
        async with transaction(known) as conn:
            return [one.title for one in (await maintenances.newest(conn, query)).maintenances]

    assert await titles(MaintenanceQuery()) == ["in 9", "in 5", "in 1"]
    assert await titles(MaintenanceQuery(service_id="api")) == ["in 5", "in 1"]
    assert await titles(MaintenanceQuery(starts_at=now + 1.5 * HOUR, ends_at=now + 6 * HOUR)) == ["in 5", "in 1"]
    assert await titles(MaintenanceQuery(limit=1)) == ["in 9"]


async def test_by_the_broker_it_is_announced_changed_listed_and_kept_in_time(known: Pool, edge: Edge) -> None:
    written = await draft(known)
    announced = await edge.client.call(MAINTENANCE_SCHEDULE, written)
    changed = await edge.client.call(MAINTENANCE_CHANGE, MaintenanceChange(id=announced.id, title="New disks at last", actor="lee"))
    await pass_time(known, HOUR)
    assert await keep_time(edge.wiring) == 1

    listed = await edge.client.call(MAINTENANCE_LIST, MaintenanceQuery())

    assert (changed.title, changed.version) == ("New disks at last", 2)
    assert [(one.id, one.status, one.version) for one in listed.maintenances] == [(written.id, IN_PROGRESS, 3)]
