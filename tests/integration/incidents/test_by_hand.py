"""Incidents that people open and lead, over the broker and on a real database."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.incidents import usecases
from services.incidents.domain.lifecycle import Policy
from shared.contracts.codes import IncidentStatus, Priority, Severity
from shared.contracts.commands import (
    INCIDENTS_GET,
    INCIDENTS_LIST,
    INCIDENTS_OPEN,
    INCIDENTS_UPDATE,
    IncidentDraft,
    IncidentEntry,
    IncidentQuery,
    IncidentRef,
    Incidents,
    Problem,
)
from shared.contracts.registry import encode, make_event
from shared.contracts.status import ServiceStatus, ServiceStatusChangedV1
from shared.database import Pool, transaction
from shared.messaging import Outgoing
from shared.rpc import Client, Refused
from shared.topology import EVENTS
from tests.integration.incidents.story import MO, Edge, O, at, definition, hear, history, incidents, learn, told
from tests.waiting import until

IDENTIFIED, MONITORING, RESOLVED, INVESTIGATING = (
    IncidentStatus.IDENTIFIED,
    IncidentStatus.MONITORING,
    IncidentStatus.RESOLVED,
    IncidentStatus.INVESTIGATING,
)


def draft(**changes: object) -> IncidentDraft:
    """Return what a reporter writes."""
    base = IncidentDraft(
        id=uuid4(),
        title="Login fails",
        message="We look into it.",
        severity=Severity.HIGH,
        priority=Priority.P2,
        affected_services=("id-recognition",),
        actor="kim",
    )
    return base.model_copy(update=changes)


def entry(incident_id: UUID, status: IncidentStatus, message: str = "More is known.") -> IncidentEntry:
    """Return what a reporter adds."""
    return IncidentEntry(entry_id=uuid4(), incident_id=incident_id, status=status, message=message, actor="lee")


async def refused(client: Client, written: IncidentDraft | IncidentEntry) -> Problem:
    """Return the problem that somebody's writing meets."""
    asking = client.call(INCIDENTS_OPEN, written) if isinstance(written, IncidentDraft) else client.call(INCIDENTS_UPDATE, written)
    with pytest.raises(Refused) as refusal:
        await asking
    return refusal.value.problem


async def test_without_a_priority_it_follows_from_the_severity(pool: Pool, edge: Edge) -> None:
    """Seen red with P4 for whatever names none."""
    client = edge.client
    await learn(pool, definition())
    opened = [await client.call(INCIDENTS_OPEN, draft(id=uuid4(), severity=one, priority=None)) for one in Severity]
    assert [one.priority for one in opened] == [Priority.P4, Priority.P3, Priority.P2, Priority.P1]


async def test_an_incident_by_hand_asked_twice_at_every_step(pool: Pool, edge: Edge) -> None:
    client = edge.client
    await learn(pool, definition())
    written = draft()
    first, second = await asyncio.gather(client.call(INCIDENTS_OPEN, written), client.call(INCIDENTS_OPEN, written))
    assert first == second

    for status in (IDENTIFIED, MONITORING, RESOLVED):
        more = entry(written.id, status)
        once = await client.call(INCIDENTS_UPDATE, more)
        assert await client.call(INCIDENTS_UPDATE, more) == once

    found = await client.call(INCIDENTS_GET, IncidentRef(id=written.id))
    assert (found.status, found.version, found.created_by, found.resolved_by, found.duration_minutes) == (RESOLVED, 4, "kim", "lee", 0)
    assert found.identified_at is not None
    assert [(one.status, one.created_by) for one in found.updates] == [
        (INVESTIGATING, "kim"),
        (IDENTIFIED, "lee"),
        (MONITORING, "lee"),
        (RESOLVED, "lee"),
    ]
    listed = await client.call(INCIDENTS_LIST, IncidentQuery(service_id="id-recognition"))
    assert listed.incidents == (found,)
    assert (await client.call(INCIDENTS_LIST, IncidentQuery(open_only=True))).incidents == ()
    assert (await client.call(INCIDENTS_LIST, IncidentQuery(before=found.started_at))).incidents == ()


async def test_what_is_refused_names_the_field(pool: Pool, edge: Edge) -> None:
    client = edge.client
    await learn(pool, definition())
    opened = await client.call(INCIDENTS_OPEN, draft())
    other = await client.call(INCIDENTS_OPEN, draft())

    problems = {
        "title": await refused(client, draft(title="  ")),
        "message": await refused(client, entry(opened.id, IDENTIFIED, " ")),
        "affected_services": await refused(client, draft(affected_services=("nobody",))),
    }
    for field, problem in problems.items():
        assert (problem.status, [one.field for one in problem.errors]) == (422, [field])
    assert (await refused(client, entry(uuid4(), IDENTIFIED))).status == 404
    with pytest.raises(Refused, match="There is no incident"):
        await client.call(INCIDENTS_GET, IncidentRef(id=uuid4()))

    taken = entry(opened.id, RESOLVED)
    await client.call(INCIDENTS_UPDATE, taken)
    late = await refused(client, entry(opened.id, MONITORING))
    assert (late.status, [one.field for one in late.errors]) == (409, ["status"])
    stolen = await refused(client, taken.model_copy(update={"incident_id": other.id}))
    assert (stolen.status, [one.field for one in stolen.errors]) == (409, ["entry_id"])


async def test_an_automatic_incident_that_a_person_resolved_stays_resolved(pool: Pool, edge: Edge) -> None:
    client = edge.client
    changes = history(O, MO, O, MO)
    await hear(pool, *changes[:2])
    [incident] = await incidents(pool)

    await client.call(INCIDENTS_UPDATE, entry(incident.id, RESOLVED))
    await hear(pool, changes[1], *changes[2:])

    assert [(one.started_at, one.resolved_by) for one in await incidents(pool)] == [(at(4), None), (at(2), "lee")]


async def test_the_same_event_delivered_three_times_opens_one_incident(pool: Pool, edge: Edge) -> None:
    publisher = edge.publisher

    async def say(status: ServiceStatus) -> None:
        event = make_event(
            ServiceStatusChangedV1(status=status),
            source="/aggregator",
            subject=status.service_id,
            version=status.version,
            at=at(9),
            correlation_id="c",
        )
        await publisher.publish(Outgoing(EVENTS, event.type, encode(event), str(event.id), event.correlationid))

    changes = history(O, MO)
    for status in (*changes, changes[-1], changes[-1]):
        await say(status)
    await say(history(O, MO, O)[-1])

    async def resolved() -> bool:
        return [one.status for one in await incidents(pool)] == [RESOLVED]

    async def sent() -> bool:
        return await told(pool) == []

    await until(resolved, within_s=10, what="one incident, resolved")
    await until(sent, within_s=10, what="the outbox is empty")
    assert await pool.fetchval("select count(*) from inbox") == 3


async def test_pages_skip_nobody_however_close_incidents_began(pool: Pool) -> None:
    """Pages go on from the milliseconds that an incident is told with. Seen red with microseconds kept, and with pages cut within one."""
    moments = [at(1) + timedelta(microseconds=number) for number in (100, 400, 900, 1500, 2000)]
    for moment in moments:
        async with transaction(pool) as conn:
            await usecases.open_by_hand(conn, draft(affected_services=()), now=moment, policy=Policy())
    everybody = [one.id for one in await incidents(pool)]

    seen: list[UUID] = []
    before = None
    while True:
        async with transaction(pool) as conn:
            page = Incidents.model_validate_json((await usecases.newest(conn, IncidentQuery(before=before, limit=2))).model_dump_json())
        if not page.incidents:
            break
        seen += [one.id for one in page.incidents]
        before = page.incidents[-1].started_at

    assert seen == everybody
    assert len(seen) == len(moments)
