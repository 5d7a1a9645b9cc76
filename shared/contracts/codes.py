"""The product's codes, the same in the database, on the wire and in REST."""

from enum import StrEnum


class Status(StrEnum):
    """What is known of a service, or of one of its days."""

    OPERATIONAL = "o"
    PARTIAL_OUTAGE = "po"
    MAJOR_OUTAGE = "mo"
    NO_DATA = "nd"
    EMPTY = "e"

    @property
    def word(self) -> str:
        """The code in words, as REST gives it beside the code."""
        return _WORDS[self]


_WORDS = {
    Status.OPERATIONAL: "operational",
    Status.PARTIAL_OUTAGE: "partial_outage",
    Status.MAJOR_OUTAGE: "major_outage",
    Status.NO_DATA: "no_data",
    Status.EMPTY: "empty",
}


class OverallStatus(StrEnum):
    """What is said of all services together."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    OUTAGE = "outage"


class Outcome(StrEnum):
    """What one check found.

    `degraded`: it works, but not as it should (too slow, or an assertion of that severity failed); for availability it counts as healthy.
    `unknown`: nothing was learnt; it counts for nobody and against nobody.
    """

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class TimelineState(StrEnum):
    """What is known of a service at a moment, in the timeline that uptime is computed from. See docs/sla.md."""

    UP = "up"
    DEGRADED = "degraded"
    PARTIAL = "partial"
    DOWN = "down"
    UNKNOWN = "unknown"
    INACTIVE = "inactive"


class MaintenanceStatus(StrEnum):
    """How far a maintenance window has come."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class SlaPeriod(StrEnum):
    """What an SLA is counted over."""

    MONTH = "month"
    QUARTER = "quarter"
    ROLLING = "rolling"


class ErrorType(StrEnum):
    """Why a check failed."""

    TIMEOUT = "timeout"
    CONNECTION_ERROR = "connection_error"
    HTTP_ERROR = "http_error"
    DNS_ERROR = "dns_error"
    TLS_ERROR = "tls_error"
    ASSERTION_FAILED = "assertion_failed"
    UNKNOWN = "unknown"


class AssertionSeverity(StrEnum):
    """What follows from an assertion that fails."""

    DOWN = "down"
    DEGRADED = "degraded"


class IncidentStatus(StrEnum):
    """How far the handling of an incident has come."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How bad an incident is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Priority(StrEnum):
    """How soon somebody must respond: P1 15 minutes, P2 1 hour, P3 4 hours, P4 24 hours."""

    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"


class Role(StrEnum):
    """What a user may do: read; also handle incidents; everything."""

    VIEWER = "viewer"
    REPORTER = "reporter"
    ADMIN = "admin"
