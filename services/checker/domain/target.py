"""What a probe gets and what it gives: a target in, a measurement out. Times in milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.contracts.codes import AssertionSeverity, ErrorType, Outcome


@dataclass(frozen=True, slots=True)
class Target:
    """A service as the scheduler and the probes need it. `revision` grows with every change of any definition.

    `options` are of the kind's own type, with secrets in clear: never log them. `assertions` are compiled (services.checker.assertions).
    """

    id: str
    kind: str
    endpoint_url: str
    interval_ms: int
    timeout_ms: int
    options: Any = field(repr=False)
    created_ms: int
    revision: int
    failure_threshold: int = 2
    recovery_threshold: int = 2
    retry_interval_ms: int | None = None
    degraded_after_ms: int | None = None
    assertions: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """How long each phase took; None where it did not take place or did not end."""

    name_lookup_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer held, for assertions: kept until the check was judged, and never longer.

    `body` is cut at the kind's limit (`truncated` then). `values` holds what else the kind measured, by source: a number, text,
    a tuple of texts, or a mapping by property ({"certificate": {"days_left": 12.3, "issuer": "…"}}).
    """

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    truncated: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Failure:
    """One assertion that did not hold, and what was found instead (redacted and cut short)."""

    source: str
    property: str
    comparison: str
    target: str | float | bool | None
    severity: AssertionSeverity
    found: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one check found. `response_time_ms` only where an answer came. `details` are told on: small, and no secrets."""

    outcome: Outcome
    response_time_ms: float | None = None
    status_code: int | None = None
    error_type: ErrorType | None = None
    error_message: str | None = None
    times: Times = Times()
    method: str = ""
    facts: Facts = field(default=NO_FACTS, repr=False)
    failures: tuple[Failure, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    evidence: str | None = None


def failed(error_type: ErrorType, message: str, *, times: Times = Times(), method: str = "") -> Measurement:
    """Return the measurement of a service that could not be reached."""
    return Measurement(Outcome.FAILED, error_type=error_type, error_message=message, times=times, method=method)


def not_looked(message: str, *, method: str = "") -> Measurement:
    """Return the measurement of a check that did not take place, forbidden or for want of means: nothing was learnt of the service."""
    return Measurement(Outcome.UNKNOWN, error_type=ErrorType.UNKNOWN, error_message=f"not checked: {message}", method=method)
