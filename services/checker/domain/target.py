"""What a probe gets and what it gives: a target in, a measurement out. Times in milliseconds."""

from dataclasses import dataclass

from services.checker.domain.kinds import HttpOptions, TcpOptions
from shared.contracts.codes import ErrorType, Outcome


@dataclass(frozen=True, slots=True)
class Target:
    """A service as the scheduler and the probes need it. `revision` grows with every change of any definition."""

    id: str
    kind: str
    endpoint_url: str
    interval_ms: int
    timeout_ms: int
    options: HttpOptions | TcpOptions
    created_ms: int
    revision: int


@dataclass(frozen=True, slots=True)
class Times:
    """How long each phase took; None where it did not take place or did not end."""

    name_lookup_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one check found. `response_time_ms` only where an answer came."""

    outcome: Outcome
    response_time_ms: float | None = None
    status_code: int | None = None
    error_type: ErrorType | None = None
    error_message: str | None = None
    times: Times = Times()
    method: str = ""


def failed(error_type: ErrorType, message: str, *, times: Times = Times(), method: str = "") -> Measurement:
    """Return the measurement of a service that could not be reached."""
    return Measurement(Outcome.FAILED, error_type=error_type, error_message=message, times=times, method=method)


def not_looked(message: str, *, method: str = "") -> Measurement:
    """Return the measurement of a check that did not take place, forbidden or for want of means: nothing was learnt of the service."""
    return Measurement(Outcome.UNKNOWN, error_type=ErrorType.UNKNOWN, error_message=f"not checked: {message}", method=method)
