"""What checkers measure, in batches."""

from datetime import UTC, datetime
from typing import ClassVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import ErrorType, Outcome
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


class CheckBatchV1(Payload):
    """Up to a few hundred results of one checker, in the order in which they finished."""

    TYPE: ClassVar[str] = "checks.measured.v1"

    checker: str = Field(description="Which checker process measured")
    results: tuple[CheckResult, ...]
