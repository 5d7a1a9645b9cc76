"""What a day was like."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from services.aggregator.domain.calendar import LocalDays, bounds
from services.aggregator.domain.day import Span, Tally, day_status, empty, tally, uptime_percentage
from services.aggregator.settings import AggregatorSettings
from shared.contracts.codes import Status

DAY = (datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 3, 11, tzinfo=UTC))
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
checks = st.lists(st.one_of(st.none(), st.floats(0, 60_000, allow_nan=False)), max_size=30)


@pytest.mark.parametrize(
    ("successful", "total", "status", "percentage"),
    [
        (0, 0, Status.NO_DATA, None),
        (1, 1, Status.OPERATIONAL, "100.00"),
        (999, 1000, Status.OPERATIONAL, "99.90"),
        (99_899, 100_000, Status.PARTIAL_OUTAGE, "99.89"),
        (99_999, 100_000, Status.OPERATIONAL, "99.99"),
        (19, 20, Status.PARTIAL_OUTAGE, "95.00"),
        (9499, 10_000, Status.MAJOR_OUTAGE, "94.99"),
        (2, 3, Status.MAJOR_OUTAGE, "66.66"),
        (0, 5, Status.MAJOR_OUTAGE, "0.00"),
    ],
)
def test_a_day_by_its_counts(successful: int, total: int, status: Status, percentage: str | None) -> None:
    assert day_status(successful, total) is status
    assert uptime_percentage(successful, total) == (None if percentage is None else Decimal(percentage))


@given(st.lists(checks, max_size=6))
def test_tallies_add_up_to_the_same_in_any_grouping(groups: list[list[float | None]]) -> None:
    def count(some: list[float | None]) -> Tally:
        times = [one for one in some if one is not None]
        return tally(successful=len(times), failed=len(some) - len(times), response_times_ms=times)

    together = count([one for group in groups for one in group])
    forward, backward = Tally(), Tally()
    for group in groups:
        forward = forward.plus(count(group))
    for group in reversed(groups):
        backward = backward.plus(count(group))

    assert forward == backward == together


def at(hour: float) -> datetime:
    """Return a moment of the day, or of the days around it."""
    return datetime(2026, 3, 10, tzinfo=UTC) + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("created", "removed", "inactive", "expected"),
    [
        (at(-100), None, [], False),
        (at(24), None, [], True),  # it began on the next day
        (at(23), None, [], False),
        (at(-100), at(-1), [], True),
        (at(-100), at(1), [], False),
        (at(-100), None, [Span(at(-1), None)], True),
        (at(-100), None, [Span(at(1), None)], False),
    ],
)
def test_a_day_without_checks_is_empty_only_outside_the_services_life(
    created: datetime, removed: datetime | None, inactive: list[Span], *, expected: bool
) -> None:
    assert empty(*DAY, created_at=created, removed_at=removed, inactive=inactive, now=at(100)) is expected


def test_a_day_that_has_not_come_is_empty() -> None:
    assert empty(*DAY, created_at=at(-100), removed_at=None, inactive=[], now=at(-1))


@given(st.integers(0, 2 * 365 * 24 * 60), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]))
def test_remembered_days_are_the_days(minute: int, name: str) -> None:
    """Seen red with the end of a day taken as still of it."""
    zone = ZoneInfo(name)
    days = LocalDays(zone)
    at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    start, end = bounds(at.date(), zone)
    for moment in (at, start, end, start - timedelta(milliseconds=1), end - timedelta(milliseconds=1), start):
        assert days.of(moment) == moment.astimezone(zone).date()


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="there is no time zone 'Mars/Olympus'"):
        AggregatorSettings(database_url=SecretStr("postgresql://"), broker_url=SecretStr("amqp://"), time_zone="Mars/Olympus")
