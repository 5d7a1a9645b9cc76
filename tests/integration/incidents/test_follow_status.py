"""Incidents follow what the aggregator says, on a real database."""

import asyncio
from itertools import permutations

import asyncpg
import pytest

from shared.contracts.codes import IncidentStatus, Priority, Severity
from shared.database import Pool
from tests.integration.incidents.story import MO, ND, PO, E, O, at, definition, hear, history, incidents, learn, muted, said, told

OPENED, UPDATED, RESOLVED = "incident.opened.v1", "incident.updated.v1", "incident.resolved.v1"


async def test_an_outage_from_its_beginning_to_its_end(pool: Pool) -> None:
    await learn(pool, definition())
    await hear(pool, *history(O, PO, MO, ND, O))

    [incident] = await incidents(pool)

    assert (incident.title, incident.severity, incident.priority) == ("ID Recognition: major outage", Severity.CRITICAL, Priority.P1)
    assert (incident.status, incident.started_at, incident.resolved_at, incident.duration_minutes) == (
        IncidentStatus.RESOLVED,
        at(2),
        at(5),
        3,
    )
    assert (incident.created_by, incident.resolved_by, incident.version) == ("system", "system", 3)
    assert [(one.status, one.message) for one in incident.updates] == [
        (IncidentStatus.INVESTIGATING, "We are investigating a partial outage of ID Recognition."),
        (IncidentStatus.INVESTIGATING, "ID Recognition now has a major outage."),
        (IncidentStatus.RESOLVED, "ID Recognition works again."),
    ]
    assert await told(pool) == [(OPENED, 1), (UPDATED, 2), (RESOLVED, 3)]
    assert [[entry.message for entry in one.data.incident.updates] for one in await said(pool)] == [
        [entry.message] for entry in incident.updates
    ]


async def test_the_same_event_three_times_opens_one_incident(pool: Pool) -> None:
    outage = history(O, MO)

    await hear(pool, *outage, outage[-1], outage[-1])

    assert await told(pool) == [(OPENED, 1)]


async def test_two_consumers_at_once_open_one_incident(pool: Pool) -> None:
    changes = history(O, PO, MO, O, MO)

    await asyncio.gather(*(hear(pool, *changes) for _ in range(4)))

    assert [one.status for one in await incidents(pool)] == [IncidentStatus.INVESTIGATING, IncidentStatus.RESOLVED]
    assert sorted(await told(pool)) == [(OPENED, 1), (OPENED, 1), (RESOLVED, 3), (UPDATED, 2)]


async def test_events_that_are_handled_at_once_take_turns(pool: Pool) -> None:
    """Seen red without the lock on the service: the index refused a second open incident."""
    services = [f"service-{number}" for number in range(6)]
    changes = [one for service in services for one in history(O, MO, O, PO, MO, service_id=service)]

    await asyncio.gather(*(hear(pool, one) for one in changes))

    found = [one.affected_services[0] for one in await incidents(pool) if one.resolved_at is None]
    assert sorted(found) == services


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_an_outage_whose_events_come_in_any_order_is_one_resolved_incident(pool: Pool, order: tuple[int, ...]) -> None:
    changes = history(O, MO, O)

    await hear(pool, *(changes[index] for index in order))

    [incident] = await incidents(pool)
    assert (incident.started_at, incident.resolved_at, incident.status) == (at(2), at(3), IncidentStatus.RESOLVED)
    assert await told(pool) == [(OPENED, 1), (RESOLVED, 2)]


async def test_an_outage_told_late_goes_on_record_beside_the_one_that_is_open(pool: Pool) -> None:
    """Seen red with each step saved on its own: for a moment two were open, which the index refuses."""
    first, outage, recovery, again = history(O, MO, O, MO)
    await hear(pool, first, again)

    await hear(pool, recovery, outage)

    assert [(one.started_at, one.resolved_at) for one in await incidents(pool)] == [(at(4), None), (at(2), at(3))]


async def test_a_restart_in_the_middle_changes_nothing(pool: Pool) -> None:
    """What was in hand is delivered again: here everything is, from the beginning. Seen red without the inbox and the service's version."""
    changes = history(O, MO, ND, O, MO)
    await hear(pool, *changes[:3])
    await hear(pool, *changes)

    assert [(one.started_at, one.resolved_at) for one in await incidents(pool)] == [(at(5), None), (at(2), at(4))]
    assert await told(pool) == [(OPENED, 1), (RESOLVED, 2), (OPENED, 1)]


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (True, "ID Recognition was removed and is no longer monitored. This incident is closed."),
        (False, "ID Recognition was deactivated and is no longer monitored. This incident is closed."),
    ],
)
async def test_a_service_that_nobody_watches_any_more_has_no_open_incident(pool: Pool, message: str, *, removed: bool) -> None:
    await learn(pool, definition())
    changes = history(O, MO, E)
    await hear(pool, *changes[:2])

    await learn(pool, definition(version=2, is_active=removed), removed_at=at(50) if removed else None)
    await hear(pool, changes[-1])

    [incident] = await incidents(pool)
    assert (incident.resolved_at, incident.updates[-1].message, incident.duration_minutes) == (at(50), message, 48)
    assert await told(pool) == [(OPENED, 1), (RESOLVED, 2)]


async def test_an_older_definition_resolves_nothing(pool: Pool) -> None:
    await learn(pool, definition(version=3))
    await hear(pool, *history(O, MO))

    await learn(pool, definition(version=2, is_active=False))

    assert await told(pool) == [(OPENED, 1)]


async def test_the_table_refuses_what_the_rules_refuse(pool: Pool) -> None:
    await hear(pool, *history(O, MO))
    columns = "id, title, status, severity, priority, affected_services, started_at, created_by, version, service_id, first_version"
    values = "gen_random_uuid(), title, status, severity, priority, '{}', started_at, 'x', 1, service_id, 9"
    with pytest.raises(asyncpg.UniqueViolationError, match="incident_one_open_per_service"):
        await pool.execute(f"insert into incident ({columns}) select {values} from incident")
    with pytest.raises(asyncpg.CheckViolationError, match="incident_resolved_is_complete"):
        await pool.execute("update incident set status = 'resolved'")
    with pytest.raises(asyncpg.CheckViolationError, match="incident_resolved_is_complete"):
        await pool.execute("update incident set resolved_at = now()")


async def test_what_is_muted_opens_nothing_until_its_mute_ends_and_is_dated_back(pool: Pool) -> None:
    """Seen red with `muted_by` not read, and with the beginning dated to when it is heard."""
    up, down, still, over = history(O, MO, MO, O)
    still = still.model_copy(update={"since": down.since, "previous_muted_by": "dependency:database"})
    await hear(pool, up, muted(down))
    assert await told(pool) == []

    await hear(pool, still, over)

    [incident] = await incidents(pool)
    assert (incident.started_at, incident.resolved_at) == (at(2), at(4))
    assert await told(pool) == [(OPENED, 1), (RESOLVED, 2)]


async def test_what_was_muted_and_is_over_is_on_no_record_however_late_it_is_heard(pool: Pool) -> None:
    """Seen red with `previous_muted_by` not read."""
    up, down, over = history(O, MO, O)
    over = over.model_copy(update={"previous_muted_by": "dependency:database"})

    await hear(pool, over, muted(down), up)

    assert await told(pool) == []


async def test_an_incident_that_is_open_stays_through_a_mute(pool: Pool) -> None:
    up, down, still, over = history(O, MO, MO, O)
    await hear(pool, up, down, muted(still, since=2))
    assert await told(pool) == [(OPENED, 1)]

    await hear(pool, over.model_copy(update={"previous_muted_by": "dependency:database"}))

    assert await told(pool) == [(OPENED, 1), (RESOLVED, 2)]
