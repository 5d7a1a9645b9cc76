"""Configuration as code: all definitions at once, judged and applied by the checker; and the secret addresses of push services."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import as_json, deed_of, json_object_up_to, read
from services.gateway.api.services import ALL_S, ServiceId, read_from_owner
from services.gateway.live.views import to_json
from services.gateway.parts import Parts
from services.gateway.usecases import on_record
from shared.contracts.commands import (
    PUSH_RENEW_TOKEN,
    SERVICES_APPLY,
    Plan,
    PlannedAction,
    ServiceRef,
    ServiceSet,
)
from shared.rpc import NoAnswer

router = APIRouter(prefix="/api/v1/services")

MOST_BYTES = 15_000_000
"""Room for 10,000 definitions. RabbitMQ 4 takes no message above 16 MiB."""
MOST_DEFINITIONS = 20_000

WholeBody = Annotated[dict[str, Any], Depends(json_object_up_to(MOST_BYTES))]


class Wanted(BaseModel):
    """What is to exist. A word that is not known here is refused: a misspelt `dry_run` would change everything."""

    model_config = ConfigDict(extra="forbid")

    definitions: list[dict[str, Any]] = Field(max_length=MOST_DEFINITIONS)
    prune: StrictBool = False
    dry_run: StrictBool = False


@router.post("/apply")
async def apply(request: Request, parts: With, who: Who, body: WholeBody) -> Response:
    """Have the checker create, change and, with `prune`, remove services until they are as written: all of it or nothing."""
    form = read(Wanted, body)
    wanted = ServiceSet(definitions=tuple(form.definitions), prune=form.prune, dry_run=form.dry_run, actor=who.username)
    subject = f"{len(form.definitions)} definitions" + (", pruning" if form.prune else "") + (", dry run" if form.dry_run else "")
    async with on_record(parts.database, deed_of(request, who, "service.apply", subject, body, parts.clock)):
        plan = await parts.client.call(SERVICES_APPLY, wanted, timeout_s=ALL_S)
    if plan.applied:
        await _take_over(parts, plan)
    return as_json(to_json(plan.model_dump(mode="json")))


@router.post("/{service_id}/push-token")
async def renew_push_token(request: Request, parts: With, who: Who, service_id: ServiceId) -> Response:
    """Give a push service a new secret address, and show it this once; the former one no longer works."""
    async with on_record(parts.database, deed_of(request, who, "service.push_token", service_id, {}, parts.clock)):
        asked = ServiceRef(id=service_id, actor=who.username)
        given = await parts.client.call(PUSH_RENEW_TOKEN, asked, timeout_s=parts.settings.rpc_timeout_s)
    return as_json(to_json({"service_id": given.service_id, "token": given.token, "path": f"/api/v1/push/{given.token}"}))


async def _take_over(parts: Parts, plan: Plan) -> None:
    """Read what was applied, so that whoever asked reads their own write here at once."""
    for one in plan.changes:
        if one.action is PlannedAction.REMOVE:
            parts.hub.model.take_removal(one.id)
    if all(one.action in {PlannedAction.REMOVE, PlannedAction.UNCHANGED} for one in plan.changes):
        return
    try:
        await read_from_owner(parts)
    except NoAnswer:
        return  # it is applied, and the feed brings it a moment later
