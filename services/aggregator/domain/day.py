"""What a day of checks was like. Days are those of the slots, in SLA_TIME_ZONE.

The uptime of a day is `100 * successful / total`, over the checks with a known outcome, cut (not rounded) to two decimals: a day
with a failure never reads 100.00. Its status follows from the counts, not from the cut number:

    o   at least 99.9 % successful
    po  at least 95 %
    mo  below that
    nd  no check with a known outcome
    e   the service did not exist, was not active, or the day has not come yet (decided by `empty`, without any check)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from shared.contracts.codes import Status

OPERATIONAL_FROM = 999
"""Thousandths of the checks; so is the next."""
PARTIAL_FROM = 950
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one service and day. Response times are those of successful checks; the sum is in whole microseconds."""

    successful: int = 0
    failed: int = 0
    response_count: int = 0
    response_sum_us: int = 0
    min_ms: float | None = None
    max_ms: float | None = None

    @property
    def total(self) -> int:
        """Checks with a known outcome."""
        return self.successful + self.failed

    @property
    def avg_ms(self) -> float | None:
        """The mean response time in milliseconds; None without any."""
        return self.response_sum_us / self.response_count / 1000 if self.response_count else None

    def plus(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally(
            self.successful + other.successful,
            self.failed + other.failed,
            self.response_count + other.response_count,
            self.response_sum_us + other.response_sum_us,
            min((one for one in (self.min_ms, other.min_ms) if one is not None), default=None),
            max((one for one in (self.max_ms, other.max_ms) if one is not None), default=None),
        )


def tally(*, successful: int, failed: int, response_times_ms: list[float]) -> Tally:
    """Return the counts of some checks."""
    return Tally(
        successful,
        failed,
        len(response_times_ms),
        sum(round(one * 1000) for one in response_times_ms),
        min(response_times_ms, default=None),
        max(response_times_ms, default=None),
    )


def uptime_percentage(successful: int, total: int) -> Decimal | None:
    """Return the uptime in percent, cut to two decimals; None where nothing is known."""
    if total == 0:
        return None
    return (Decimal(100 * successful) / Decimal(total)).quantize(CENT, rounding=ROUND_DOWN)


def day_status(successful: int, total: int) -> Status:
    """Return what the counts of a day say of it."""
    if total == 0:
        return Status.NO_DATA
    if 1000 * successful >= OPERATIONAL_FROM * total:
        return Status.OPERATIONAL
    return Status.PARTIAL_OUTAGE if 1000 * successful >= PARTIAL_FROM * total else Status.MAJOR_OUTAGE


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time; `end` None means that it goes on."""

    start: datetime
    end: datetime | None

    def within(self, start: datetime, end: datetime) -> timedelta:
        """Return how much of this lies between two moments."""
        return max(timedelta(0), min(self.end or end, end) - max(self.start, start))


def empty(
    start: datetime, end: datetime, *, created_at: datetime, removed_at: datetime | None, inactive: Iterable[Span], now: datetime
) -> bool:
    """Say whether a day without checks is `e` rather than `nd`: outside the service's life, wholly inactive, or still to come."""
    if end <= created_at or start > now or (removed_at is not None and start >= removed_at):
        return True
    return any(span.within(start, end) == end - start for span in inactive)
