"""What the incidents service does, each in one transaction, read from top to bottom."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID

from prometheus_client import Counter

from services.incidents import store
from services.incidents.domain import lifecycle
from services.incidents.domain.incident import Decision, Entry, Incident, NotAllowed, Step, advanced, opened
from services.incidents.domain.lifecycle import Circumstances, Fact, Policy
from shared import inbox, outbox
from shared.contracts import incidents as told
from shared.contracts.commands import FieldProblem, IncidentDraft, IncidentEntry, IncidentQuery, IncidentRef, Incidents, Problem
from shared.contracts.incidents import IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.registry import make_event
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatus
from shared.database import Connection
from shared.rpc import Refused
from shared.telemetry import correlation_id

SOURCE = "/incidents"
TITLE_AT_MOST = 200
EVENTS: dict[Step, type[IncidentOpenedV1 | IncidentUpdatedV1 | IncidentResolvedV1]] = {
    Step.OPENED: IncidentOpenedV1,
    Step.UPDATED: IncidentUpdatedV1,
    Step.RESOLVED: IncidentResolvedV1,
}

STEPS = Counter("sla_incidents_steps_total", "Steps of incidents: opened, updated, resolved", ["step", "by"])


async def follow_status(conn: Connection, event_id: str, status: ServiceStatus, *, now: datetime, policy: Policy) -> None:
    """Open, amend or resolve the incident of a service whose status changed.

    Safe to run twice and in any order: a repeated event is refused by the inbox, an older one by the service's version.
    Raises what the database raises, which is transient if it is away.
    """
    if not await inbox.claim(conn, event_id):
        return
    service = await store.lock_service(conn, status.service_id)
    now_told, before = _facts(status)
    decisions = lifecycle.hear(
        now_told,
        before,
        Circumstances(service, now, policy),
        open_incident=await store.lock_open_incident(conn, service.id),
        covered=await store.covered(conn, service.id, [status.previous_version, status.version, status.version + 1]),
    )
    await _commit(conn, decisions, now=now)
    if service.heard is None or service.heard.version < now_told.version:
        await store.heard(conn, service.id, now_told)


def _facts(status: ServiceStatus) -> tuple[Fact, Fact | None]:
    before = None
    if status.previous is not None and status.previous_since is not None:
        before = Fact(status.previous, status.previous_since, status.previous_version, muted=status.previous_muted_by is not None)
    return Fact(status.status, status.since, status.version, muted=status.muted_by is not None), before


async def learn_service(
    conn: Connection, event_id: str, definition: ServiceDefinition, *, removed_at: datetime | None, now: datetime
) -> None:
    """Keep a service's name; resolve its automatic incident when it is removed or deactivated. An older definition changes nothing."""
    if not await inbox.claim(conn, event_id):
        return
    service = await store.learn(conn, definition, removed_at=removed_at)
    if service is None or (definition.is_active and removed_at is None):
        return
    incident = await store.lock_open_incident(conn, service.id)
    if incident is not None:
        decision = lifecycle.unwatched(incident, service, at=removed_at or definition.updated_at, now=now, removed=removed_at is not None)
        await _commit(conn, [decision], now=now)


async def open_by_hand(conn: Connection, draft: IncidentDraft, *, now: datetime, policy: Policy) -> told.Incident:
    """Open what a reporter wrote; asked again with the same id, return what is there. Raises `Refused` (422) naming the fields."""
    known = await store.find(conn, draft.id)
    if known is None:
        await _check_draft(conn, draft)
        incident = Incident(
            id=draft.id,
            title=draft.title.strip(),
            severity=draft.severity,
            priority=draft.priority or policy.priority[draft.severity],
            affected_services=tuple(dict.fromkeys(draft.affected_services)),
            started_at=now,
            created_by=draft.actor,
        )
        await _commit(conn, [opened(incident, message=draft.message.strip(), now=now)], now=now)
    return await get(conn, IncidentRef(id=draft.id))


async def _check_draft(conn: Connection, draft: IncidentDraft) -> None:
    problems = empty_fields({"title": draft.title, "message": draft.message})
    if len(draft.title) > TITLE_AT_MOST:
        problems.append(FieldProblem(field="title", reason=f"has {len(draft.title)} characters; {TITLE_AT_MOST} is the most"))
    unknown = await store.unknown_services(conn, draft.affected_services)
    problems += [FieldProblem(field="affected_services", reason=f"there is no service {one!r}") for one in unknown]
    if problems:
        raise refusal(422, "Not valid", *problems)


async def add_entry(conn: Connection, entry: IncidentEntry, *, now: datetime) -> told.Incident:
    """Add what a reporter wrote to a timeline; asked again with the same entry id, return the incident as it is.

    Raises `Refused`: 404 for an unknown incident, 409 for a step that it cannot take, 422 for an empty message.
    """
    found = await store.find(conn, entry.incident_id)
    if found is None:
        raise _not_found(entry.incident_id)
    service = await store.lock_service(conn, found.service_id) if found.service_id else None
    incident = await store.lock(conn, entry.incident_id) or found
    owner = await store.entry_of(conn, entry.entry_id)
    if owner == incident.id:
        return await get(conn, IncidentRef(id=incident.id))
    if owner is not None:
        raise refusal(409, "Conflict", FieldProblem(field="entry_id", reason="is an entry of another incident"))
    problems = empty_fields({"message": entry.message})
    if problems:
        raise refusal(422, "Not valid", *problems)
    written = Entry(entry.entry_id, entry.status, entry.message.strip(), entry.actor, now, entry.is_customer_visible)
    try:
        decision = advanced(incident, written, last_version=service.heard.version if service and service.heard else None)
    except NotAllowed as error:
        raise refusal(409, "Conflict", FieldProblem(field="status", reason=str(error))) from error
    await _commit(conn, [decision], now=now)
    return await get(conn, IncidentRef(id=incident.id))


async def newest(conn: Connection, query: IncidentQuery) -> Incidents:
    """Return a page of incidents with their timelines, newest first."""
    found = await store.newest(conn, query)
    timelines = await store.timelines(conn, [incident.id for incident in found])
    return Incidents(incidents=tuple(_contract(incident, timelines[incident.id]) for incident in found))


async def get(conn: Connection, ref: IncidentRef) -> told.Incident:
    """Return an incident with its timeline. Raises `Refused` (404)."""
    incident = await store.find(conn, ref.id)
    if incident is None:
        raise _not_found(ref.id)
    timelines = await store.timelines(conn, [incident.id])
    return _contract(incident, timelines[incident.id])


async def _commit(conn: Connection, decisions: Sequence[Decision], *, now: datetime) -> None:
    """Save steps and say each. An id that is taken was opened by somebody who was faster: then there is nothing to say."""
    for _, group in groupby(decisions, key=lambda one: one.incident.id):
        steps = list(group)
        if not await store.save(conn, steps):
            continue
        for step in steps:
            await _say(conn, step, now=now)


async def _say(conn: Connection, step: Decision, *, now: datetime) -> None:
    incident = step.incident
    payload = EVENTS[step.step](incident=_contract(incident, [step.entry]))
    event = make_event(payload, source=SOURCE, subject=str(incident.id), version=incident.version, at=now, correlation_id=correlation_id())
    await outbox.append(conn, event)
    STEPS.labels(step.step.value, "system" if step.entry.created_by == lifecycle.SYSTEM else "person").inc()


def _contract(incident: Incident, entries: Sequence[Entry]) -> told.Incident:
    return told.Incident(
        id=incident.id,
        title=incident.title,
        description=incident.description,
        status=incident.status,
        severity=incident.severity,
        priority=incident.priority,
        affected_services=incident.affected_services,
        started_at=incident.started_at,
        identified_at=incident.identified_at,
        resolved_at=incident.resolved_at,
        duration_minutes=incident.duration_minutes,
        impact_description=incident.impact_description,
        root_cause=incident.root_cause,
        resolution_notes=incident.resolution_notes,
        created_by=incident.created_by,
        resolved_by=incident.resolved_by,
        version=incident.version,
        updates=tuple(
            told.IncidentUpdate(
                id=entry.id,
                status=entry.status,
                message=entry.message,
                is_customer_visible=entry.is_customer_visible,
                created_by=entry.created_by,
                created_at=entry.created_at,
            )
            for entry in entries
        ),
    )


def empty_fields(fields: dict[str, str]) -> list[FieldProblem]:
    """Return which fields hold no text."""
    return [FieldProblem(field=name, reason="must not be empty") for name, value in fields.items() if not value.strip()]


def refusal(status: int, title: str, *errors: FieldProblem) -> Refused:
    """Return the refusal that names these fields."""
    detail = "; ".join(f"{one.field}: {one.reason}" for one in errors)
    return Refused(Problem(title=title, status=status, detail=detail, errors=errors))


def _not_found(incident_id: UUID) -> Refused:
    return Refused(Problem(title="Not found", status=404, detail=f"There is no incident {incident_id}."))
