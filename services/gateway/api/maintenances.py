"""Maintenance windows: read from their owner, or from memory while it does not answer; planned by reporters."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of, read
from services.gateway.api.deep import Key, Moment, id_of, outdate, wrong
from services.gateway.api.history import Given, Name
from services.gateway.api.services import owner_or_memory
from services.gateway.parts import Parts
from services.gateway.usecases import on_record
from shared.contracts.base import Contract
from shared.contracts.commands import MAINTENANCE_CHANGE, MAINTENANCE_LIST, MAINTENANCE_SCHEDULE
from shared.contracts.history import MaintenanceChange, MaintenanceDraft, MaintenanceQuery
from shared.contracts.maintenance import Maintenance

router = APIRouter(prefix="/api/v1/maintenances")

Services = Annotated[tuple[str, ...], Field(min_length=1, max_length=500)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=20_000)]


class NewMaintenance(BaseModel):
    """Work to be announced."""

    model_config = ConfigDict(extra="forbid")

    title: Title
    description: Description = ""
    services: Services
    starts_at: Given
    ends_at: Given


class ChangedMaintenance(BaseModel):
    """What changes of a window; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = None
    description: Description | None = None
    services: Services | None = None
    starts_at: Given | None = None
    ends_at: Given | None = None


@router.get("")
async def list_maintenances(  # the filters
    parts: With,
    _who: Who,
    start: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    service: Name = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Return windows that touch a time, newest start first. While their owner does not answer: those in memory, and `complete: false`."""
    if start and end and start >= end:
        raise wrong(field="from", reason="must lie before `to`")
    query = MaintenanceQuery(starts_at=start, ends_at=end, service_id=service, limit=limit)

    async def ask() -> Sequence[Contract]:
        return (await parts.client.call(MAINTENANCE_LIST, query, timeout_s=parts.settings.rpc_timeout_s)).maintenances

    return await owner_or_memory(parts, "maintenances", ask(), lambda: _remembered(parts, query))


@router.post("", status_code=201)
async def schedule(request: Request, parts: With, who: Who, body: Body, idempotency_key: Key = None) -> Response:  # what the route needs
    """Announce a maintenance window."""
    form = read(NewMaintenance, body)
    if form.starts_at >= form.ends_at:
        raise wrong(field="ends_at", reason="must lie after starts_at")
    _known(parts, form.services)
    draft = MaintenanceDraft(id=id_of(idempotency_key), actor=who.username, **form.model_dump())
    async with on_record(parts.database, deed_of(request, who, "maintenance.schedule", str(draft.id), body, parts.clock)):
        made = await parts.client.call(MAINTENANCE_SCHEDULE, draft, timeout_s=parts.settings.rpc_timeout_s)
    return await _taken(parts, made, status=201)


@router.patch("/{maintenance_id}")
async def change(request: Request, parts: With, who: Who, maintenance_id: UUID, body: Body) -> Response:  # what the route needs
    """Change a window that has not ended."""
    form = read(ChangedMaintenance, body)
    if form.starts_at and form.ends_at and form.starts_at >= form.ends_at:
        raise wrong(field="ends_at", reason="must lie after starts_at")
    _known(parts, form.services or ())
    wanted = MaintenanceChange(id=maintenance_id, actor=who.username, **form.model_dump())
    async with on_record(parts.database, deed_of(request, who, "maintenance.change", str(maintenance_id), body, parts.clock)):
        changed = await parts.client.call(MAINTENANCE_CHANGE, wanted, timeout_s=parts.settings.rpc_timeout_s)
    return await _taken(parts, changed)


@router.post("/{maintenance_id}/end")
async def end_now(request: Request, parts: With, who: Who, maintenance_id: UUID) -> Response:
    """End a window now; one that has not begun is cancelled."""
    wanted = MaintenanceChange(id=maintenance_id, end=True, actor=who.username)
    async with on_record(parts.database, deed_of(request, who, "maintenance.end", str(maintenance_id), {}, parts.clock)):
        ended = await parts.client.call(MAINTENANCE_CHANGE, wanted, timeout_s=parts.settings.rpc_timeout_s)
    return await _taken(parts, ended)


def _known(parts: Parts, services: tuple[str, ...]) -> None:
    unknown = [one for one in services if one not in parts.hub.model.facts.services]
    if unknown and parts.hub.model.filled:
        raise wrong(field="services", reason=f"there is no service {unknown[0][:100]!r}")


def _remembered(parts: Parts, query: MaintenanceQuery) -> tuple[Maintenance, ...]:
    def wanted(one: Maintenance) -> bool:
        return (
            (query.starts_at is None or one.ends_at > query.starts_at)
            and (query.ends_at is None or one.starts_at < query.ends_at)
            and (query.service_id is None or query.service_id in one.services)
        )

    return tuple(one for one in reversed(parts.hub.model.maintenances_by_start()) if wanted(one))[: query.limit]


async def _taken(parts: Parts, one: Maintenance, *, status: int = 200) -> Response:
    """Take in what the owner answered, so that the asker reads their own write."""
    parts.hub.model.take_maintenance(one)
    await outdate(parts)
    return as_json(one.model_dump_json().encode(), status=status)
