"""Finished checks as messages."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.checker.domain.target import Failure, Times
from services.checker.scheduler import Check
from services.checker.spool import Batch
from shared.contracts.checks import CheckBatchV1, CheckResult, FailedAssertion, Phases, check_id
from shared.contracts.envelope import Event
from shared.contracts.registry import encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_PHASES = Phases()
_NO_DETAILS: dict[str, Any] = {}


def to_result(check: Check, region: str) -> CheckResult:
    """Return a check as it is told to others."""
    found = check.measurement
    slot = _EPOCH + timedelta(milliseconds=check.slot_ms)
    # Every value is of our own making and of the right type: validating it once more would cost a tenth of the whole check.
    return CheckResult.model_construct(
        id=check_id(check.target.id, region, slot),
        service_id=check.target.id,
        region=region,
        scheduled_at=slot,
        checked_at=check.began,
        outcome=found.outcome,
        response_time_ms=found.response_time_ms,
        status_code=found.status_code,
        error_type=found.error_type,
        error_message=found.error_message,
        phases=_phases(found.times),
        endpoint=check.target.endpoint_url,
        method=found.method,
        attempt=check.attempt,
        assertions=tuple(_failed(one) for one in found.failures) if found.failures else (),
        details=dict(found.details) if found.details else _NO_DETAILS,
        evidence=found.evidence,
    )


def to_batch(checks: Sequence[Check], *, batch_id: UUID, region: str, checker: str, at: datetime) -> Batch:
    """Return the message that tells these checks."""
    data = CheckBatchV1(checker=checker, results=tuple(to_result(check, region) for check in checks))
    event = Event[CheckBatchV1](
        id=batch_id, source="/checker", type=CheckBatchV1.TYPE, subject=region, time=at, correlationid=batch_id.hex, data=data
    )
    return Batch(str(batch_id), len(checks), encode(event))


def _failed(failure: Failure) -> FailedAssertion:
    return FailedAssertion.model_construct(
        source=failure.source,
        property=failure.property,
        comparison=failure.comparison,
        target=failure.target,
        severity=failure.severity,
        found=failure.found,
    )


def _phases(times: Times) -> Phases:
    if times == Times():
        return _NO_PHASES
    return Phases.model_construct(
        name_lookup_ms=times.name_lookup_ms,
        connect_ms=times.connect_ms,
        tls_ms=times.tls_ms,
        first_byte_ms=times.first_byte_ms,
        total_ms=times.total_ms,
    )
