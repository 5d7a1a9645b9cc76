"""Days, months and quarters as a time zone has them: a day of a clock change has 23 or 25 hours. Moments in milliseconds since 1970, UTC.

A day begins at its local midnight. Where a clock change skips midnight, it begins at the change; where midnight comes twice, at the
first. So days follow each other without gap or overlap.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.contracts.codes import SlaPeriod

Period = SlaPeriod

DAY_MS = 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time from `start` up to, and without, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Its length in milliseconds."""
        return self.end - self.start


def to_ms(at: datetime) -> int:
    """Return an aware moment in milliseconds since 1970."""
    return (at - _EPOCH) // _MILLISECOND


def day_start(day: date, zone: ZoneInfo) -> int:
    """Return the first moment of a local day."""
    # A midnight that does not exist is read with the offset before the change (PEP 495, fold=0): exactly the moment of the change.
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC))


def day_window(day: date, zone: ZoneInfo) -> Window:
    """Return a local day: 23, 24 or 25 hours, or whatever the zone had."""
    return Window(day_start(day, zone), day_start(day + timedelta(days=1), zone))


def day_of(at_ms: int, zone: ZoneInfo) -> date:
    """Return the local day that a moment lies in."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).date()


class LocalDays:
    """The days of a zone by moments, remembered: of many results nearly all lie in the same day or two."""

    _KEPT = 4

    def __init__(self, zone: ZoneInfo) -> None:
        """Begin with no day known."""
        self.zone = zone
        self._known: list[tuple[datetime, datetime, date]] = []

    def of(self, at: datetime) -> date:
        """Return the local day that a moment lies in."""
        for start, end, day in self._known:
            if start <= at < end:
                return day
        day = day_of(to_ms(at), self.zone)
        start, end = bounds(day, self.zone)
        self._known = [(start, end, day), *self._known[: self._KEPT - 1]]
        return day


def bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first moment of a local day and of the next, in UTC."""
    window = day_window(day, zone)
    return _EPOCH + timedelta(milliseconds=window.start), _EPOCH + timedelta(milliseconds=window.end)


def days(window: Window, zone: ZoneInfo) -> list[date]:
    """Return every local day that a window touches, oldest first."""
    if window.end <= window.start:
        return []
    first, last = day_of(window.start, zone), day_of(window.end - 1, zone)
    return [first + timedelta(days=step) for step in range((last - first).days + 1)]


def window_at(period: Period, at_ms: int, zone: ZoneInfo, *, rolling_days: int = 30) -> Window:
    """Return the window that a moment is counted in: its month or quarter, or the `rolling_days` times 24 hours that end with it."""
    if period is Period.ROLLING:
        return Window(at_ms - rolling_days * DAY_MS, at_ms)
    day = day_of(at_ms, zone)
    months = 1 if period is Period.MONTH else 3
    first = date(day.year, (day.month - 1) // months * months + 1, 1)
    return Window(day_start(first, zone), day_start(_months_later(first, months), zone))


def _months_later(first: date, months: int) -> date:
    index = first.year * 12 + first.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)
