"""Deep reads: asked of the owner, kept in Redis for some seconds, and asked anew once something in the past was changed here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar
from uuid import UUID, uuid4

from fastapi import Depends, Header, Query
from pydantic import AwareDatetime

from services.gateway.api.problems import ProblemError
from services.gateway.parts import Parts
from shared.contracts.base import Contract
from shared.contracts.commands import FieldProblem, Method

KEEP_S = 10.0
OUTDATED_S = 60.0
"""Longer than anything is kept: what was kept before a change is never asked for again."""
SLOW_S = 30.0
"""How long a question about months of raw results may take."""
EPOCH = "sla:gateway:epoch"
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Moments between these can be told in every time zone."""
USUAL = timedelta(days=30)

Moment = Annotated[AwareDatetime | None, Query(ge=EARLIEST, lt=LATEST)]
Key = Annotated[UUID | None, Header(alias="idempotency-key")]
Params = TypeVar("Params", bound=Contract)
Result = TypeVar("Result", bound=Contract)


@dataclass(frozen=True, slots=True)
class Span:
    """A time that is asked about: from, and up to but without."""

    starts_at: datetime
    ends_at: datetime
    asked: "Asked"


def wrong(*, field: str, reason: str) -> ProblemError:
    """Return the problem of one field."""
    return ProblemError(422, "Not valid", "Some fields cannot be used.", errors=(FieldProblem(field=field, reason=reason),))


def span_up_to(days: int) -> Callable[..., "Asked"]:
    """Return the dependency that reads `from` and `to`, at most so many days apart."""

    def asked(start: Annotated[Moment, Query(alias="from")] = None, end: Annotated[Moment, Query(alias="to")] = None) -> Asked:
        return Asked(start, end, days)

    return asked


@dataclass(frozen=True, slots=True)
class Asked:
    """`from` and `to` as they stand in the address; either may be missing."""

    start: datetime | None
    end: datetime | None
    most_days: int

    def at(self, now: datetime) -> Span:
        """Return the time that is meant. Raises `ProblemError` 422.

        Without `to` up to now, without `from` the thirty days before.
        """
        end = self.end or now
        start = self.start or max(EARLIEST, end - min(USUAL, timedelta(days=self.most_days)))
        if start >= end:
            raise wrong(field="from", reason="must lie before `to`" if self.end else "must lie before now: `to` is missing")
        if end - start > timedelta(days=self.most_days):
            raise wrong(field="from", reason=f"may lie at most {self.most_days} days before `to`")
        return Span(start, end, self)

    @property
    def written(self) -> str:
        """What the address says, the same for the same moments."""
        return "/".join("" if one is None else one.astimezone(UTC).isoformat() for one in (self.start, self.end))


Year = Annotated[Asked, Depends(span_up_to(400))]
"""Up to a year and a month."""
TenYears = Annotated[Asked, Depends(span_up_to(3660))]
"""Rollups of days are kept for ever."""


def id_of(key: UUID | None) -> UUID:
    """Return the id of what is made: the Idempotency-Key, so that sending it twice makes one, or a new one."""
    return key or uuid4()


async def kept(
    parts: Parts, method: Method[Params, Result], params: Params, *, span: Span | None = None, timeout_s: float | None = None
) -> bytes:
    """Return an owner's answer as JSON, at most `KEEP_S` seconds old. Raises `Refused`, `NoAnswer`.

    `span`: the time in the question, by which it is kept as it was asked: up to now is the same question a second later.
    """
    epoch = await epoch_now(parts)
    written = params.model_dump_json(exclude={"starts_at", "ends_at"}) + span.asked.written if span else params.model_dump_json()
    question = hashlib.sha256(written.encode()).hexdigest()
    key = f"sla:gateway:deep:{epoch}:{method.name}:{question}"
    body = await parts.cache.get(key)
    if body is None:
        body = await parts.client.call_for_json(method, params, timeout_s=timeout_s or parts.settings.rpc_timeout_s)
        await parts.cache.put(key, body, keep_s=KEEP_S)
    return body


async def epoch_now(parts: Parts) -> str:
    """Return what is part of the key of all that is kept about the past."""
    return (await parts.cache.get(EPOCH) or b"").decode()


async def outdate(parts: Parts) -> None:
    """Let everything that is kept be asked anew: whoever changed the past reads it as it is now."""
    await parts.cache.put(EPOCH, uuid4().hex.encode(), keep_s=OUTDATED_S)
