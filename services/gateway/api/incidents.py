"""Incidents: read from their owner, or from memory while it does not answer; handled by reporters."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of, read
from services.gateway.api.problems import ProblemError
from services.gateway.api.reasons import NO_ZERO
from services.gateway.api.services import owner_or_memory
from services.gateway.live.readmodel import is_open
from services.gateway.live.views import to_json
from services.gateway.parts import Parts
from services.gateway.usecases import on_record
from shared.contracts.base import Contract
from shared.contracts.codes import IncidentStatus, Priority, Severity
from shared.contracts.commands import (
    INCIDENTS_GET,
    INCIDENTS_LIST,
    INCIDENTS_OPEN,
    INCIDENTS_UPDATE,
    FieldProblem,
    IncidentDraft,
    IncidentEntry,
    IncidentQuery,
    IncidentRef,
)
from shared.contracts.incidents import Incident
from shared.rpc import NoAnswer

router = APIRouter(prefix="/api/v1/incidents")

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Moments between these can be told in every time zone."""


class NewIncident(BaseModel):
    """What a reporter writes. With an `id` of their own choosing, sending it twice opens one."""

    id: UUID = Field(default_factory=uuid4)
    title: str = Field(min_length=1, max_length=200)
    message: str = Field(min_length=1, max_length=20_000)
    severity: Severity
    priority: Priority | None = None
    affected_services: tuple[str, ...] = Field(min_length=1, max_length=200)


class NewEntry(BaseModel):
    """What a reporter adds. With an `id` of their own choosing, sending it twice adds one."""

    id: UUID = Field(default_factory=uuid4)
    status: IncidentStatus
    message: str = Field(min_length=1, max_length=20_000)
    is_customer_visible: bool = True


@router.get("")
async def list_incidents(  # the filters
    parts: With,
    _who: Who,
    open: bool = False,  # noqa: A002, FBT001, FBT002  # the name in the address
    service: Annotated[str | None, Query(max_length=200, pattern=NO_ZERO)] = None,
    before: Annotated[AwareDatetime | None, Query(ge=EARLIEST, lt=LATEST)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Return incidents, newest first. While their owner does not answer: those that are in memory, and `complete: false`."""
    query = IncidentQuery(open_only=open, service_id=service, before=before, limit=limit)

    async def ask() -> Sequence[Contract]:
        return (await parts.client.call(INCIDENTS_LIST, query, timeout_s=parts.settings.rpc_timeout_s)).incidents

    return await owner_or_memory(parts, "incidents", ask(), lambda: _remembered(parts, query))


@router.get("/{incident_id}")
async def read_incident(parts: With, _who: Who, incident_id: UUID) -> Response:
    """Return one incident with its whole timeline."""
    try:
        incident = await parts.client.call(INCIDENTS_GET, IncidentRef(id=incident_id), timeout_s=parts.settings.rpc_timeout_s)
    except NoAnswer:
        known = parts.hub.model.facts.incidents.get(incident_id)
        if known is None:
            raise
        incident = known
    return _one(incident)


@router.post("", status_code=201)
async def open_incident(request: Request, parts: With, who: Who, body: Body) -> Response:
    """Open an incident by hand."""
    form = read(NewIncident, body)
    unknown = [one for one in form.affected_services if one not in parts.hub.model.facts.services]
    if unknown and parts.hub.model.filled:
        reason = f"there is no service {unknown[0][:100]!r}"
        raise ProblemError(
            422, "Not valid", "Some fields cannot be used.", errors=(FieldProblem(field="affected_services", reason=reason),)
        )
    draft = IncidentDraft(
        id=form.id,
        title=form.title,
        message=form.message,
        severity=form.severity,
        priority=form.priority,
        affected_services=form.affected_services,
        actor=who.username,
    )
    async with on_record(parts.database, deed_of(request, who, "incident.open", str(form.id), body, parts.clock)):
        incident = await parts.client.call(INCIDENTS_OPEN, draft, timeout_s=parts.settings.rpc_timeout_s)
    parts.hub.model.take_incident(incident)
    return _one(incident, status=201, headers={"Location": f"/api/v1/incidents/{incident.id}"})


@router.post("/{incident_id}/updates", status_code=201)
async def add_update(request: Request, parts: With, who: Who, incident_id: UUID, body: Body) -> Response:  # what the route needs
    """Add to an incident's timeline, and move it on."""
    form = read(NewEntry, body)
    entry = IncidentEntry(
        entry_id=form.id,
        incident_id=incident_id,
        status=form.status,
        message=form.message,
        is_customer_visible=form.is_customer_visible,
        actor=who.username,
    )
    async with on_record(parts.database, deed_of(request, who, "incident.update", str(incident_id), body, parts.clock)):
        incident = await parts.client.call(INCIDENTS_UPDATE, entry, timeout_s=parts.settings.rpc_timeout_s)
    parts.hub.model.take_incident(incident)
    return _one(incident, status=201)


def _remembered(parts: Parts, query: IncidentQuery) -> tuple[Incident, ...]:
    def wanted(one: Incident) -> bool:
        return (
            (is_open(one) or not query.open_only)
            and (query.service_id is None or query.service_id in one.affected_services)
            and (query.before is None or one.started_at < query.before)
        )

    return tuple(one for one in parts.hub.model.incidents_newest_first() if wanted(one))[: query.limit]


def _one(incident: Incident, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return as_json(to_json(incident.model_dump(mode="json")), status=status, headers=headers)
