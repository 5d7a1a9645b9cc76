"""SLA contracts: what was promised, how it stands, what is not to count, and the report of a month."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import cache
from typing import Annotated, Literal
from uuid import UUID
from zoneinfo import available_timezones

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator

from services.gateway.api.access import Who, With
from services.gateway.api.bodies import Body, as_json, deed_of, read
from services.gateway.api.deep import SLOW_S, Key, id_of, kept, outdate, wrong
from services.gateway.api.history import LONGEST_REASON, Given, Revocation
from services.gateway.api.problems import ProblemError
from services.gateway.api.reasons import MONTH, NO_ZERO, PATTERNS, PERCENTAGE
from services.gateway.domain.language import choose
from services.gateway.parts import Parts
from services.gateway.usecases import on_record
from services.gateway.web.page import LANGUAGE_COOKIE
from services.gateway.web.reports.making import CSP, Made, TooManyReports
from shared.contracts.codes import SlaPeriod
from shared.contracts.commands import (
    SLA_EXCLUDE,
    SLA_EXCLUSION_REVOKE,
    SLA_EXCLUSIONS,
    SLA_LIST,
    SLA_PUT,
    SLA_READ,
    SLA_REMOVE,
    SLA_REPORT,
    SLA_STANDING,
)
from shared.contracts.history import (
    SlaContractDraft,
    SlaContractRef,
    SlaContractsQuery,
    SlaExclusionDraft,
    SlaExclusionRef,
    SlaReport,
    SlaReportQuery,
)
from shared.contracts.sla import SlaContract

router = APIRouter(prefix="/api/v1/sla/contracts")

KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST_ID = 63
FIRST_OF_ALL = date(2000, 1, 1)
"""Nothing was watched before."""
FURTHEST_ZONE = timedelta(hours=14)
"""Where a day begins first."""


class Form(StrEnum):
    """What a report may be."""

    JSON = "json"
    HTML = "html"
    PDF = "pdf"
    CSV = "csv"


class Promise(BaseModel):
    """A contract as an admin writes it; its exclusions are added one by one."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    target: str = Field(max_length=12, pattern=PERCENTAGE)
    period: SlaPeriod
    rolling_days: int = Field(default=30, ge=1, le=366)
    time_zone: str = Field(default="UTC", max_length=100)
    services: tuple[str, ...] = Field(min_length=1, max_length=1000)
    partial_share: Literal["0", "0.3", "0.5", "1"] = "0.3"
    count_maintenance: StrictBool = False
    count_unknown: StrictBool = False

    @field_validator("target")
    @classmethod
    def _is_a_percentage(cls, value: str) -> str:
        try:
            inside = 0 < Decimal(value) <= 100  # noqa: PLR2004  # percent
        except InvalidOperation:
            inside = False
        if not inside:
            msg = PATTERNS[PERCENTAGE]
            raise ValueError(msg)
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        if value not in _zones():
            msg = "must be a time zone of the IANA database, as Asia/Seoul is"
            raise ValueError(msg)
        return value


class NewExclusion(BaseModel):
    """Time that a contract is not to count, and why."""

    model_config = ConfigDict(extra="forbid")

    starts_at: Given
    ends_at: Given
    reason: str = Field(min_length=1, max_length=LONGEST_REASON)


def no_such_contract(contract_id: str) -> ProblemError:
    """Return the problem of an id that no contract has."""
    return ProblemError(404, "Not found", f"There is no contract {contract_id[:LONGEST_ID]!r}.")


def possible_id(contract_id: str) -> str:
    """Return the id in the address. Raises `ProblemError` 404 where no contract can have it."""
    if len(contract_id) > LONGEST_ID or not KEBAB.fullmatch(contract_id):
        raise no_such_contract(contract_id)
    return contract_id


ContractId = Annotated[str, Depends(possible_id)]


@router.get("")
async def list_contracts(
    parts: With,
    _who: Who,
    after: Annotated[str, Query(max_length=LONGEST_ID, pattern=NO_ZERO)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Return contracts by id; `next` is what to send as `after` for those that follow, null when there are no more."""
    return as_json(await kept(parts, SLA_LIST, SlaContractsQuery(after=after, limit=limit)))


@router.get("/{contract_id}")
async def read_contract(parts: With, _who: Who, contract_id: ContractId) -> Response:
    """Return one contract."""
    return as_json(await kept(parts, SLA_READ, SlaContractRef(id=contract_id)))


@router.put("/{contract_id}")
async def put_contract(request: Request, parts: With, who: Who, contract_id: str, body: Body) -> Response:
    """Create a contract, or replace it; its exclusions stay."""
    if len(contract_id) > LONGEST_ID or not KEBAB.fullmatch(contract_id):
        raise wrong(field="id", reason=f"needs small letters, digits and single hyphens between them, at most {LONGEST_ID}: eu-gold")
    form = read(Promise, body)
    facts = parts.hub.model.facts
    unknown = [one for one in form.services if one not in facts.services and one not in facts.removed]
    if unknown and parts.hub.model.filled:
        raise wrong(field="services", reason=f"there is no service {unknown[0][:100]!r}")
    draft = SlaContractDraft(contract=SlaContract(id=contract_id, **form.model_dump()), actor=who.username)
    async with on_record(parts.database, deed_of(request, who, "contract.put", contract_id, body, parts.clock)):
        contract = await parts.client.call(SLA_PUT, draft, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return _one(contract)


@router.delete("/{contract_id}", status_code=204)
async def remove_contract(request: Request, parts: With, who: Who, contract_id: ContractId) -> Response:
    """Remove a contract; what its services went through stays."""
    async with on_record(parts.database, deed_of(request, who, "contract.remove", contract_id, {}, parts.clock)):
        ref = SlaContractRef(id=contract_id, actor=who.username)
        await parts.client.call(SLA_REMOVE, ref, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return Response(status_code=204)


@router.post("/{contract_id}/exclusions", status_code=201)
async def exclude(  # noqa: PLR0917  # what the route needs
    request: Request, parts: With, who: Who, contract_id: ContractId, body: Body, idempotency_key: Key = None
) -> Response:
    """Leave a time out of a contract, and say why."""
    form = read(NewExclusion, body)
    if form.starts_at >= form.ends_at:
        raise wrong(field="ends_at", reason="must lie after starts_at")
    draft = SlaExclusionDraft(contract_id=contract_id, id=id_of(idempotency_key), actor=who.username, **form.model_dump())
    async with on_record(parts.database, deed_of(request, who, "contract.exclude", f"{contract_id} {draft.id}", body, parts.clock)):
        contract = await parts.client.call(SLA_EXCLUDE, draft, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return _one(contract, status=201)


@router.get("/{contract_id}/exclusions")
async def list_exclusions(parts: With, _who: Who, contract_id: ContractId) -> Response:
    """Return the exclusions of a contract, newest first, revoked ones too."""
    return as_json(await kept(parts, SLA_EXCLUSIONS, SlaContractRef(id=contract_id)))


@router.post("/{contract_id}/exclusions/{exclusion_id}/revoke")
async def revoke_exclusion(  # noqa: PLR0917  # what the route needs
    request: Request, parts: With, who: Who, contract_id: ContractId, exclusion_id: UUID, body: Body
) -> Response:
    """Let an exclusion no longer hold, and say why. It stays readable, and so does what was published with it."""
    form = read(Revocation, body)
    ref = SlaExclusionRef(contract_id=contract_id, id=exclusion_id, reason=form.reason, actor=who.username)
    subject = f"{contract_id} {exclusion_id}"
    async with on_record(parts.database, deed_of(request, who, "contract.revoke_exclusion", subject, body, parts.clock)):
        revoked = await parts.client.call(SLA_EXCLUSION_REVOKE, ref, timeout_s=parts.settings.rpc_timeout_s)
    await outdate(parts)
    return as_json(revoked.model_dump_json().encode())


@router.get("/{contract_id}/standing")
async def read_standing(parts: With, _who: Who, contract_id: ContractId) -> Response:
    """Return how a contract stands in its present window, service by service."""
    return as_json(await kept(parts, SLA_STANDING, SlaContractRef(id=contract_id), timeout_s=SLOW_S))


@router.get("/{contract_id}/report")
async def read_report(  # noqa: PLR0917  # the question
    request: Request,
    parts: With,
    _who: Who,
    contract_id: ContractId,
    month: Annotated[str | None, Query(pattern=MONTH)] = None,
    first_day: Annotated[date | None, Query(ge=FIRST_OF_ALL)] = None,
    format: Form = Form.JSON,  # noqa: A002  # the name in the address
    language: Annotated[Literal["ko", "en"] | None, Query()] = None,
    rows: Literal["services", "outages"] = "services",
) -> Response:
    """Return the report of the window that begins with a month or a day, or of the last one that ended, as data, page, PDF or table.

    A quarter begins with its first month; a rolling window of the past may begin on any day.
    """
    query = SlaReportQuery(contract_id=contract_id, first_day=_first_day(month, first_day, parts.clock()))
    body = await kept(parts, SLA_REPORT, query, timeout_s=SLOW_S)
    if format is Form.JSON:
        return as_json(body)
    spoken = choose(query=language, cookie=request.cookies.get(LANGUAGE_COOKIE), accept=request.headers.get("accept-language", ""))
    report = SlaReport.model_validate_json(body)
    names = _names(parts, report.contract.services, spoken)
    try:
        made = await parts.reports.make(report, form=format.value, language=spoken, rows=rows, names=names)
    except TooManyReports:
        detail = "Too many reports are being drawn at this moment. Try again in a few seconds."
        raise ProblemError(503, "Too many reports", detail, headers={"Retry-After": "5"}) from None
    return _file(made, spoken)


def _first_day(month: str | None, day: date | None, now: datetime) -> date | None:
    """Return the first day of the window that is meant. Raises `ProblemError` 422 for one that has begun nowhere, or is named twice.

    None where none is named: which window ended last follows from the contract's period and zone.
    """
    if month and day:
        raise wrong(field="first_day", reason="is said by `month` already")
    first = date.fromisoformat(f"{month}-01") if month else day
    if first and first > (now.astimezone(UTC) + FURTHEST_ZONE).date():
        raise wrong(field="month" if month else "first_day", reason="has not begun")
    return first


def _names(parts: Parts, services: Iterable[str], language: str) -> dict[str, str]:
    """Return what services are called in a language; one that was removed is called by its id."""
    known = parts.hub.model.facts.services
    found = [known[one] for one in services if one in known]
    return {one.id: (one.display_name_ko if language == "ko" else None) or one.display_name for one in found}


def _file(made: Made, language: str) -> Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Language": language,
        "Content-Disposition": f'{made.disposition}; filename="{made.name}"',
        "Content-Security-Policy": CSP,
    }
    return Response(made.body, media_type=made.media_type, headers=headers)


def _one(contract: SlaContract, *, status: int = 200) -> Response:
    return as_json(contract.model_dump_json().encode(), status=status)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
