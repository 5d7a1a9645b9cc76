"""What can be checked, and a check that is run once, before anything is saved."""

from fastapi import APIRouter, Request, Response

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of
from services.gateway.live.views import to_json
from services.gateway.usecases import on_record
from shared.contracts.commands import CHECKS_TRY, KINDS_DESCRIBE, Nothing, ServiceDraft

router = APIRouter(prefix="/api/v1")

DEFAULT_TIMEOUT_MS, LONGEST_TIMEOUT_MS = 5_000, 60_000
"""Of a check; the checker judges what a definition says."""


@router.get("/kinds")
async def describe_kinds(parts: With, _who: Who) -> Response:
    """Return every kind of check with its options, as JSON Schema, and what its assertions may look at."""
    kinds = await parts.client.call(KINDS_DESCRIBE, Nothing(), timeout_s=parts.settings.rpc_timeout_s)
    return as_json(to_json(kinds.model_dump(mode="json")))


@router.post("/checks/try")
async def try_check(request: Request, parts: With, who: Who, body: Body) -> Response:
    """Have a checker run the check of a definition once, and return what it found and each assertion's verdict. Nothing is saved."""
    timeout_ms = body.get("timeout")
    wait_ms = min(max(timeout_ms, 0), LONGEST_TIMEOUT_MS) if isinstance(timeout_ms, int) else DEFAULT_TIMEOUT_MS
    draft = ServiceDraft(definition=body, actor=who.username)
    async with on_record(parts.database, deed_of(request, who, "check.try", str(body.get("id", "")), body, parts.clock)):
        trial = await parts.client.call(CHECKS_TRY, draft, timeout_s=parts.settings.rpc_timeout_s + wait_ms / 1000)
    return as_json(to_json(trial.model_dump(mode="json")))
