"""Status: what the aggregator concluded, and why."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import ErrorType, Outcome, OverallStatus, Status
from shared.contracts.envelope import Payload


class CheckEvidence(Contract):
    """One check that a verdict rests on."""

    id: UUID
    region: str
    scheduled_at: Timestamp
    outcome: Outcome
    status_code: int | None = None
    error_type: ErrorType | None = None
    error_message: str | None = None
    response_time_ms: float | None = None


class Evidence(Contract):
    """Why a status is what it is."""

    reason: str = Field(description="One sentence, for people")
    regions_down: tuple[str, ...] = ()
    regions_degraded: tuple[str, ...] = ()
    regions_up: tuple[str, ...] = ()
    regions_silent: tuple[str, ...] = ()
    checks: tuple[CheckEvidence, ...] = ()
    first_failed_at: Timestamp | None = Field(default=None, description="The first check that failed, of an outage or a degradation")
    confirmed_at: Timestamp | None = Field(default=None, description="The check that confirmed it")


class ServiceStatus(Contract):
    """The status of one service."""

    service_id: str
    status: Status
    since: Timestamp = Field(description="Since when it is so: the first check that said it, not the one that confirmed it")
    detected_at: Timestamp = Field(description="When it was concluded")
    previous: Status | None = None
    previous_since: Timestamp | None = None
    previous_version: int = 0
    previous_muted_by: str | None = Field(default=None, description="`muted_by` of the one before: what was muted is not alerted of later")
    evidence: Evidence
    degraded: bool = Field(default=False, description="A `po` without any region down: it answers, but not as it should")
    maintenance: UUID | None = Field(
        default=None, description="The maintenance window that it is in; the status says the facts all the same"
    )
    flapping: bool = Field(default=False, description="It changes too often to be told each time")
    muted_by: str | None = Field(
        default=None, description="Why nobody is to be alerted: `maintenance:<id>`, `dependency:<service>` or `flapping`; null: alert"
    )
    version: int


class ServiceStatusChangedV1(Payload):
    """The status of a service changed; the whole of it as it is now."""

    TYPE: ClassVar[str] = "service.status_changed.v1"
    status: ServiceStatus


class SystemStatus(Contract):
    """All services together."""

    overall_status: OverallStatus
    operational_services: int
    total_services: int
    active_incidents: int
    last_incident_at: Timestamp | None = None
    message: str = ""
    updated_at: Timestamp
    version: int


class SystemStatusChangedV1(Payload):
    """The overall status or one of its counts changed."""

    TYPE: ClassVar[str] = "system.status_changed.v1"
    system: SystemStatus


class UptimeDay(Contract):
    """One service's day, in the aggregator's time zone. Percentages are of checks with a known outcome; null where there were none."""

    service_id: str
    date: str
    status: Status
    uptime_percentage: float | None
    total_checks: int
    successful_checks: int
    failed_checks: int
    avg_response_time: float | None = None
    p50_response_time: float | None = None
    p95_response_time: float | None = None
    p99_response_time: float | None = None
    total_downtime_minutes: float = 0.0
