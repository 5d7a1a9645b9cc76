"""Services: read from memory, changed by the checker, who alone judges a definition."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of
from services.gateway.api.problems import ProblemError
from services.gateway.live.readmodel import Answers
from services.gateway.live.views import to_json
from services.gateway.parts import Parts
from services.gateway.usecases import on_record
from shared.contracts.base import Contract
from shared.contracts.commands import (
    SERVICES_CHANGE,
    SERVICES_CREATE,
    SERVICES_LIST,
    SERVICES_REMOVE,
    Nothing,
    ServiceDraft,
    ServicePatch,
    ServiceRef,
)
from shared.contracts.services import ServiceDefinition
from shared.rpc import NoAnswer

router = APIRouter(prefix="/api/v1/services")
LONGEST_ID = 200
ALL_S = 60.0
"""How long what concerns all services may take: ten thousand of them are megabytes."""


def no_such_service(service_id: str) -> ProblemError:
    """Return the problem of an id that no service has."""
    return ProblemError(404, "Not found", f"There is no service {service_id[:100]!r}.")


def possible_id(service_id: str) -> str:
    """Return the id in the address. Raises `ProblemError` 404 where no service can have it: nobody is asked, nothing is put on record."""
    if len(service_id) > LONGEST_ID or "\0" in service_id:
        raise no_such_service(service_id)
    return service_id


ServiceId = Annotated[str, Depends(possible_id)]


@router.get("")
async def list_services(parts: With, _who: Who, fresh: bool = False) -> Response:  # noqa: FBT001, FBT002  # in the address
    """Return every service with its status and the evidence for it; with `fresh`, definitions as their owner has them now, or 503."""
    if fresh:
        await read_from_owner(parts)
    known_state(parts)
    head = to_json({"stale": not parts.hub.live, "as_of": parts.hub.as_of})
    return as_json(head[:-1] + b',"services":' + parts.hub.views.private_services() + b"}")


@router.post("", status_code=201)
async def create_service(request: Request, parts: With, who: Who, body: Body) -> Response:
    """Have the checker add a service."""
    subject = str(body.get("id", ""))
    async with on_record(parts.database, deed_of(request, who, "service.create", subject, body, parts.clock)):
        service = await parts.client.call(
            SERVICES_CREATE, ServiceDraft(definition=body, actor=who.username), timeout_s=parts.settings.rpc_timeout_s
        )
    parts.hub.model.take_definition(service)
    return _one(parts, service, status=201, headers={"Location": f"/api/v1/services/{service.id}"})


@router.get("/{service_id}")
async def read_service(parts: With, _who: Who, service_id: ServiceId) -> Response:
    """Return one service."""
    known_state(parts)
    body = parts.hub.views.private_service(service_id)
    if body is None:
        raise no_such_service(service_id)
    return as_json(body)


@router.patch("/{service_id}")
async def change_service(request: Request, parts: With, who: Who, service_id: ServiceId, body: Body) -> Response:  # what the route needs
    """Have the checker change some fields of a service."""
    async with on_record(parts.database, deed_of(request, who, "service.change", service_id, body, parts.clock)):
        patch = ServicePatch(id=service_id, changes=body, actor=who.username)
        service = await parts.client.call(SERVICES_CHANGE, patch, timeout_s=parts.settings.rpc_timeout_s)
    parts.hub.model.take_definition(service)
    return _one(parts, service)


@router.delete("/{service_id}", status_code=204)
async def remove_service(request: Request, parts: With, who: Who, service_id: ServiceId) -> Response:
    """Have the checker stop checking a service; its history stays until it ages out."""
    async with on_record(parts.database, deed_of(request, who, "service.remove", service_id, {}, parts.clock)):
        await parts.client.call(SERVICES_REMOVE, ServiceRef(id=service_id, actor=who.username), timeout_s=parts.settings.rpc_timeout_s)
    parts.hub.model.take_removal(service_id)
    return Response(status_code=204)


async def read_from_owner(parts: Parts) -> None:
    """Take over all definitions as the checker has them now. Raises `NoAnswer`."""
    before = parts.hub.model.facts.picture()
    listed = await parts.client.call(SERVICES_LIST, Nothing(), timeout_s=ALL_S)
    parts.hub.mend(Answers(services=listed.services), before=before)


def known_state(parts: Parts) -> None:
    """Raise `ProblemError` 503 as long as nothing is known here."""
    if not parts.hub.model.filled:
        raise ProblemError(503, "Not ready", "The state is not known here yet. Try again in a moment.", headers={"Retry-After": "2"})


async def owner_or_memory(
    parts: Parts, name: str, ask: Awaitable[Sequence[Contract]], remembered: Callable[[], Sequence[Contract]]
) -> Response:
    """Answer with a list as its owner gives it; while that does not answer, with what is in memory, and `complete: false`."""
    try:
        found = await ask
        complete = True
    except NoAnswer:
        known_state(parts)
        found = remembered()
        complete = False
    shape = {"complete": complete, "stale": not complete and not parts.hub.live, "as_of": None if complete else parts.hub.as_of}
    return as_json(to_json(shape | {name: [one.model_dump(mode="json") for one in found]}))


def _one(parts: Parts, service: ServiceDefinition, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a service as the checker gave it, so that the asker reads its own write, and its status as it is known here."""
    body = parts.hub.views.private_form(service)
    return as_json(body, status=status, headers=headers)
