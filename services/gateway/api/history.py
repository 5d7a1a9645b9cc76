"""The past of one service: what its numbers rest on, how it would read under other rules, and what people corrected in it."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of, read
from services.gateway.api.deep import EARLIEST, LATEST, SLOW_S, Asked, Key, Moment, TenYears, Year, id_of, kept, outdate, wrong
from services.gateway.api.reasons import NOT_BLANK, QUORUM, SOME_NO_ZERO
from services.gateway.api.services import ServiceId
from services.gateway.usecases import on_record
from shared.contracts.codes import TimelineState
from shared.contracts.commands import (
    CORRECTIONS_LIST,
    CORRECTIONS_MAKE,
    CORRECTIONS_REVOKE,
    SERIES_READ,
    STATUS_HISTORY,
    TIMELINE_DRY_RUN,
    TIMELINE_READ,
    UPTIME_AUDIT,
    ServiceRef,
)
from shared.contracts.history import AuditQuery, CorrectionDraft, CorrectionRef, DryRunQuery, Period, SeriesQuery

router = APIRouter(prefix="/api/v1")

RAW_DAYS = 100
"""Dry runs read raw results, which are kept for ninety days unless set otherwise."""
LONGEST_REASON = 2_000
CLOCKS = timedelta(minutes=1)
"""How far the clocks of gateway and owner may be apart."""

Given = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]
Region = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str | None, Query(max_length=200, pattern=SOME_NO_ZERO)]


class NewCorrection(BaseModel):
    """What an admin reclassifies, and why."""

    model_config = ConfigDict(extra="forbid")

    starts_at: Given
    ends_at: Given
    state: TimelineState
    reason: str = Field(min_length=1, max_length=LONGEST_REASON)


class Revocation(BaseModel):
    """Why something that a person said of the past no longer holds."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=LONGEST_REASON, pattern=NOT_BLANK)


class OtherRules(BaseModel):
    """A time, and rules that were not those of the service then. What is left out stays as the definition has it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    start: Given | None = Field(default=None, alias="from")
    end: Given | None = Field(default=None, alias="to")
    failure_threshold: int | None = Field(default=None, ge=1, le=10)
    recovery_threshold: int | None = Field(default=None, ge=1, le=10)
    quorum: str | None = Field(default=None, pattern=QUORUM)
    regions: tuple[Region, ...] | None = Field(default=None, max_length=50)
    degraded_after_ms: int | None = Field(default=None, ge=1, le=86_400_000)
    check_interval: SkipJsonSchema[Any] = None
    timeout: SkipJsonSchema[Any] = None

    @field_validator("check_interval", "timeout")
    @classmethod
    def _was_measured_so(cls, _value: object) -> None:
        msg = "cannot be tried on stored results: checks that were not made then cannot be made now"
        raise ValueError(msg)


@router.get("/services/{service_id}/uptime/audit")
async def read_audit(
    parts: With, _who: Who, service_id: ServiceId, span: Year, contract: Name = None, as_of: Moment = None
) -> Response:  # the question
    """Return everything that an uptime follows from; `as_of`: as it was published then."""
    at = span.at(parts.clock())
    query = AuditQuery(service_id=service_id, starts_at=at.starts_at, ends_at=at.ends_at, contract_id=contract, as_of=as_of)
    return as_json(await kept(parts, UPTIME_AUDIT, query, span=at, timeout_s=SLOW_S))


@router.get("/services/{service_id}/timeline")
async def read_timeline(parts: With, _who: Who, service_id: ServiceId, span: Year) -> Response:
    """Return a service's states over a time, without gaps."""
    at = span.at(parts.clock())
    # Without `to` what goes on has no end, be the owner's clock a little ahead of ours.
    ends_at = at.ends_at if span.end else min(at.ends_at + CLOCKS, at.starts_at + timedelta(days=span.most_days))
    query = Period(service_id=service_id, starts_at=at.starts_at, ends_at=ends_at)
    return as_json(await kept(parts, TIMELINE_READ, query, span=at))


@router.get("/services/{service_id}/status/history")
async def read_statuses(parts: With, _who: Who, service_id: ServiceId, span: Year) -> Response:
    """Return the statuses of a service over a time as they were told, each with its evidence and when it was published."""
    at = span.at(parts.clock())
    query = Period(service_id=service_id, starts_at=at.starts_at, ends_at=at.ends_at)
    return as_json(await kept(parts, STATUS_HISTORY, query, span=at))


@router.get("/services/{service_id}/response-times/series")
async def read_series(  # the question
    parts: With,
    _who: Who,
    service_id: ServiceId,
    span: TenYears,
    region: Name = None,
    points: Annotated[int, Query(ge=1, le=500)] = 200,
) -> Response:
    """Return response times over a time, and all of it merged into one."""
    at = span.at(parts.clock())
    query = SeriesQuery(service_id=service_id, starts_at=at.starts_at, ends_at=at.ends_at, region=region, points=points)
    return as_json(await kept(parts, SERIES_READ, query, span=at))


@router.post("/services/{service_id}/dry-run")
async def dry_run(parts: With, _who: Who, service_id: ServiceId, body: Body) -> Response:
    """Return what other rules would have made of stored results. Nothing is changed by it."""
    form = read(OtherRules, body)
    at = Asked(form.start, form.end, RAW_DAYS).at(parts.clock())
    rules: dict[str, Any] = form.model_dump(exclude={"start", "end", "check_interval", "timeout"})
    query = DryRunQuery(service_id=service_id, starts_at=at.starts_at, ends_at=at.ends_at, **rules)
    return as_json(await kept(parts, TIMELINE_DRY_RUN, query, span=at, timeout_s=SLOW_S))


@router.get("/services/{service_id}/corrections")
async def list_corrections(parts: With, _who: Who, service_id: ServiceId) -> Response:
    """Return the corrections of a service, newest first, revoked ones too."""
    return as_json(await kept(parts, CORRECTIONS_LIST, ServiceRef(id=service_id)))


@router.post("/services/{service_id}/corrections", status_code=201)
async def make_correction(  # noqa: PLR0917  # what the route needs
    request: Request, parts: With, who: Who, service_id: ServiceId, body: Body, idempotency_key: Key = None
) -> Response:
    """Reclassify a stretch of the past. What was measured stays beside it."""
    form = read(NewCorrection, body)
    if form.starts_at >= form.ends_at:
        raise wrong(field="ends_at", reason="must lie after starts_at")
    if form.ends_at > parts.clock() + timedelta(seconds=5):
        raise wrong(field="ends_at", reason="must lie in the past")
    draft = CorrectionDraft(id=id_of(idempotency_key), service_id=service_id, actor=who.username, **form.model_dump())
    async with on_record(parts.database, deed_of(request, who, "correction.make", f"{service_id} {draft.id}", body, parts.clock)):
        made = await parts.client.call(CORRECTIONS_MAKE, draft, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return as_json(made.model_dump_json().encode(), status=201)


@router.post("/corrections/{correction_id}/revoke")
async def revoke_correction(request: Request, parts: With, who: Who, correction_id: UUID, body: Body) -> Response:  # what the route needs
    """Let a correction no longer hold, and say why. It stays readable, and so does what was published with it."""
    form = read(Revocation, body)
    async with on_record(parts.database, deed_of(request, who, "correction.revoke", str(correction_id), body, parts.clock)):
        ref = CorrectionRef(id=correction_id, reason=form.reason, actor=who.username)
        revoked = await parts.client.call(CORRECTIONS_REVOKE, ref, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return as_json(revoked.model_dump_json().encode())
