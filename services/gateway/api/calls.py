"""Calls of real traffic, measured by whoever made or served them, on their way to the aggregator."""

from datetime import timedelta
from typing import Annotated, Any, Self
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Header, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import as_json, json_object_up_to, read
from services.gateway.api.problems import ProblemError
from services.gateway.api.services import ServiceId, known_state, no_such_service
from services.gateway.live.views import to_json
from services.gateway.usecases import report_calls
from shared.contracts.checks import CallBatchV1, ReportedCall
from shared.contracts.commands import FieldProblem
from shared.messaging import NotConfirmed

router = APIRouter()

MOST_BYTES = 2_000_000
MOST_CALLS = 1_000
LONGEST_MS = 86_400_000
OLDEST = timedelta(days=30)
AHEAD = timedelta(minutes=5)
"""How far the clock of whoever measures may be ahead of ours."""
FIRST_FAILURE = 400

CallBody = Annotated[dict[str, Any], Depends(json_object_up_to(MOST_BYTES))]


class Call(BaseModel):
    """One call. `is_success` may be left out where there is a status code: below 400 is success."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = Field(min_length=1, max_length=2_048)
    method: str = Field(default="", max_length=20)
    status_code: int | None = Field(default=None, ge=100, le=599)
    duration_ms: float = Field(ge=0, le=LONGEST_MS, allow_inf_nan=False)
    measured_at: AwareDatetime
    is_success: bool | None = None
    error_message: str | None = Field(default=None, max_length=2_000)

    @model_validator(mode="after")
    def _says_how_it_ended(self) -> Self:
        if self.is_success is None and self.status_code is None:
            msg = "needs is_success or status_code"
            raise ValueError(msg)
        return self

    def as_contract(self) -> ReportedCall:
        """Return the call as it travels."""
        ok = self.is_success if self.is_success is not None else (self.status_code or 0) < FIRST_FAILURE
        return ReportedCall.model_validate(self.model_dump() | {"is_success": ok})


class Calls(BaseModel):
    """Calls of one service."""

    model_config = ConfigDict(extra="forbid")

    calls: list[Call] = Field(min_length=1, max_length=MOST_CALLS)


@router.post("/api/v1/services/{service_id}/response-times", status_code=202)
async def report(  # what the route needs
    parts: With, who: Who, service_id: ServiceId, body: CallBody, idempotency_key: Annotated[UUID | None, Header()] = None
) -> Response:
    """Take calls over. Sent again with the same Idempotency-Key, by the same person for the same service, they count once."""
    known_state(parts)
    if service_id not in parts.hub.model.facts.services:
        raise no_such_service(service_id)
    form = read(Calls, body)
    now = parts.clock()
    wrong = [place for place, one in enumerate(form.calls) if not now - OLDEST <= one.measured_at <= now + AHEAD]
    if wrong:
        reason = f"must lie within the last {OLDEST.days} days"
        errors = tuple(FieldProblem(field=f"calls.{place}.measured_at", reason=reason) for place in wrong[:20])
        raise ProblemError(422, "Not valid", "Some fields cannot be used.", errors=errors)
    batch = CallBatchV1(service_id=service_id, reporter=who.username, calls=tuple(one.as_contract() for one in form.calls))
    # whose key it is belongs to the id: nobody can spend somebody else's
    batch_id = uuid4() if idempotency_key is None else uuid5(idempotency_key, f"{service_id}/{who.user_id}")
    try:
        await report_calls(parts.publisher, batch, batch_id=batch_id, now=now)
    except NotConfirmed:
        detail = "The broker did not confirm the calls. Send them again, with the same Idempotency-Key if you gave one."
        raise ProblemError(503, "Not available", detail, headers={"Retry-After": "5"}) from None
    return as_json(to_json({"batch_id": str(batch_id), "accepted": len(batch.calls)}), status=202)
