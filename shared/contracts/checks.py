"""What checkers measure, in batches."""

from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import AssertionSeverity, ErrorType, Outcome
from shared.contracts.envelope import Payload

CHECK_NAMESPACE = uuid5(NAMESPACE_URL, "sla-monitor/checks")


def check_id(service_id: str, region: str, scheduled_at: datetime) -> UUID:
    """Return the id of a slot's check: the same slot checked twice is the same fact and counts once."""
    return uuid5(CHECK_NAMESPACE, f"{service_id}/{region}/{int(scheduled_at.astimezone(UTC).timestamp() * 1000)}")


class Phases(Contract):
    """Where the time went, each in milliseconds, null where the phase did not take place."""

    name_lookup_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None


class FailedAssertion(Contract):
    """One assertion that did not hold, and what was found instead (redacted and cut short)."""

    source: str
    property: str = ""
    comparison: str
    target: str | int | float | bool | None = None
    severity: AssertionSeverity
    found: str


class CheckResult(Contract):
    """What one check of one service from one region found."""

    id: UUID = Field(description="Derived from service, region and scheduled_at")
    service_id: str
    region: str
    scheduled_at: Timestamp = Field(description="The slot: what the check counts for")
    checked_at: Timestamp = Field(description="When it really began")
    outcome: Outcome
    response_time_ms: float | None = None
    status_code: int | None = None
    error_type: ErrorType | None = None
    error_message: str | None = None
    phases: Phases = Phases()
    endpoint: str = ""
    method: str = ""
    attempt: int = Field(
        default=0, description="0: a slot's check; 1 and more: its confirmations, which count for the status, not for days"
    )
    assertions: tuple[FailedAssertion, ...] = Field(default=(), description="Every assertion that failed")
    details: dict[str, Any] = Field(default_factory=dict, description="What else the kind measured, as certificate_days or loss")
    evidence: str | None = Field(default=None, description="The first KiB of a failing answer, redacted")


class CheckBatchV1(Payload):
    """Up to a few hundred results of one checker, in the order in which they finished."""

    TYPE: ClassVar[str] = "checks.measured.v1"

    checker: str = Field(description="Which checker process measured")
    results: tuple[CheckResult, ...]


class ReportedCall(Contract):
    """One call of real traffic, measured by whoever made or served it."""

    endpoint: str
    method: str = ""
    status_code: int | None = None
    duration_ms: float
    is_success: bool
    error_message: str | None = None
    measured_at: Timestamp


class CallBatchV1(Payload):
    """Up to 1,000 reported calls of one service. A call's id is derived from the batch's id and its place: the same batch counts once."""

    TYPE: ClassVar[str] = "calls.reported.v1"

    service_id: str
    reporter: str = Field(description="Who reported: the user or key that asked")
    calls: tuple[ReportedCall, ...]


class CheckerIsolatedV1(Payload):
    """A checker lost its own connectivity: all its canaries fail, and what it finds counts as unknown."""

    TYPE: ClassVar[str] = "checker.isolated.v1"

    checker: str
    region: str
    since: Timestamp
    canaries: tuple[str, ...]


class CheckerRecoveredV1(Payload):
    """A checker's canaries answer again: its results count from now on."""

    TYPE: ClassVar[str] = "checker.recovered.v1"

    checker: str
    region: str
    since: Timestamp = Field(description="When it had become isolated")
    recovered_at: Timestamp
