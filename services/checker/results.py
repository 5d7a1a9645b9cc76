"""Finished checks as messages. Whatever a service answered, it must not keep the results of others from being told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.checker.domain.redact import storable
from services.checker.domain.target import Failure, Times, not_looked
from services.checker.scheduler import BROKEN, Check
from services.checker.spool import Batch
from shared.contracts.checks import CheckBatchV1, CheckResult, FailedAssertion, Phases, check_id
from shared.contracts.envelope import Event
from shared.contracts.registry import encode
from shared.telemetry import logger

MAX_MESSAGE = 300
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""RabbitMQ 4 refuses a message of more than 16 MiB (max_message_size): such a one would stay in the spool for ever."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_PHASES = Phases()
_NO_DETAILS: dict[str, Any] = {}
log = logger(__name__)


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
        error_message=storable(found.error_message[:MAX_MESSAGE]) if found.error_message else found.error_message,
        phases=_phases(found.times),
        endpoint=check.target.endpoint_url,
        method=found.method,
        attempt=check.attempt,
        assertions=tuple(_failed(one) for one in found.failures) if found.failures else (),
        details=_storable(found.details) if found.details else _NO_DETAILS,
        evidence=storable(found.evidence) if found.evidence else found.evidence,
    )


def to_batches(checks: Sequence[Check], *, new_id: Callable[[], UUID], region: str, checker: str, at: datetime) -> list[Batch]:
    """Return the messages that tell these checks: one, or as many as it takes for none to be too large."""
    batch = to_batch(checks, batch_id=new_id(), region=region, checker=checker, at=at)
    if len(batch.body) <= MAX_BATCH_BYTES:
        return [batch]
    if len(checks) == 1:
        return [to_batch([_untold(checks[0], f"{len(batch.body)} bytes")], batch_id=new_id(), region=region, checker=checker, at=at)]
    half = len(checks) // 2
    parts = (checks[:half], checks[half:])
    return [batch for part in parts for batch in to_batches(part, new_id=new_id, region=region, checker=checker, at=at)]


def to_batch(checks: Sequence[Check], *, batch_id: UUID, region: str, checker: str, at: datetime) -> Batch:
    """Return the message that tells these checks; one that cannot be encoded is told as unknown."""

    def encoded(results: Sequence[CheckResult]) -> bytes:
        data = CheckBatchV1(checker=checker, results=tuple(results))
        event = Event[CheckBatchV1](
            id=batch_id, source="/checker", type=CheckBatchV1.TYPE, subject=region, time=at, correlationid=batch_id.hex, data=data
        )
        return encode(event)

    results = [to_result(check, region) for check in checks]
    try:
        body = encoded(results)
    except (ValueError, RecursionError):
        body = encoded([_encodable(result, check, region) for result, check in zip(results, checks, strict=True)])
    return Batch(str(batch_id), len(checks), body)


def _encodable(result: CheckResult, check: Check, region: str) -> CheckResult:
    """Return a result, or what is told in its place if it cannot be encoded."""
    trouble = _trouble(result)
    return result if trouble is None else to_result(_untold(check, trouble), region)


def _untold(check: Check, trouble: str) -> Check:
    """Return what a defect of the probe is told as, in place of what cannot be told: nothing was learnt of the service."""
    BROKEN.inc()
    log.error("a result cannot be told", service_id=check.target.id, kind=check.target.kind, reason=trouble)
    nothing = not_looked("defect of the probe: what it found cannot be told", method=check.measurement.method)
    return replace(check, measurement=nothing)


def _trouble(result: CheckResult) -> str | None:
    """Return why a result cannot be encoded."""
    try:
        result.model_dump_json()
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def _storable(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(one) for one in value]
    return value


def _failed(failure: Failure) -> FailedAssertion:
    return FailedAssertion.model_construct(
        source=failure.source,
        property=failure.property,
        comparison=failure.comparison,
        target=failure.target,
        severity=failure.severity,
        found=storable(failure.found),
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
