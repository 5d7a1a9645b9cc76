"""The reference of numbers: days, uptime by checks and by time, percentiles."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import floor, isfinite
from zoneinfo import ZoneInfo

from tests.reference.history import EPOCH, FAILED, UNKNOWN, Check, History, Stay, moment_of, ms_of
from tests.reference.states import Stage, corrected, timeline

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Day:
    """A daily record. Percentages cut to two decimals."""

    status: str
    total: int
    successful: int
    failed: int
    uptime: Decimal | None
    least_ms: float | None
    most_ms: float | None
    mean_ms: float | None
    times_ms: tuple[float, ...]


@dataclass(frozen=True)
class Time:
    """A window as some accounting counts it, in milliseconds. Percentage cut to four decimals."""

    counted: int
    downtime: Fraction
    maintenance: int
    excluded: int
    unknown: int
    inactive: int

    @property
    def uptime(self) -> Decimal | None:
        """1 - downtime / counted, in percent."""
        return cut((self.counted - self.downtime) / Fraction(self.counted), 4) if self.counted else None


def cut(share: Fraction, places: int) -> Decimal:
    """Return a share in percent without what comes after so many decimals."""
    with localcontext() as context:
        context.prec, context.rounding = 40, ROUND_FLOOR
        return Decimal(floor(share * 100 * 10**places)).scaleb(-places)


def local_day(moment: int, zone: ZoneInfo) -> date:
    """Return the day that the clocks on the wall show."""
    return moment_of(moment).astimezone(zone).date()


@cache
def day_begins(day: date, zone: ZoneInfo) -> int:
    """Return the first moment at which the wall shows this day or a later one, minute by minute."""
    moment = ms_of(datetime(day.year, day.month, day.day, tzinfo=EPOCH.tzinfo) - timedelta(hours=16))
    while local_day(moment, zone) < day:
        moment += MINUTE_MS
    return moment


def day(history: History, which: date, zone: ZoneInfo) -> Day:
    """Return a day's record. Checks of slots count, confirmations and unknown outcomes do not; a degraded check is successful."""
    counted = [check for check in slots(history) if local_day(check.slot, zone) == which]
    return of_checks(counted, is_active=is_active(history, day_begins(which, zone), day_begins(which + timedelta(days=1), zone)))


def slots(history: History) -> list[Check]:
    """Return the checks that days count."""
    return [check for check in history.facts() if check.attempt == 0 and check.outcome != UNKNOWN]


def is_active(history: History, start: int, end: int) -> bool:
    """Say whether the service was active at any moment of a window that has come."""
    ends = [definition.since for definition in history.definitions[1:]] + [history.now + 1]
    lives = zip(history.definitions, ends, strict=True)
    return any(definition.watched and max(definition.since, start) < min(until, end) for definition, until in lives)


def of_checks(counted: list[Check], *, is_active: bool) -> Day:
    """Return the record of some checks."""
    failed = sum(check.outcome == FAILED for check in counted)
    successful = len(counted) - failed
    given = [check.ms for check in counted if check.outcome != FAILED]
    times = sorted(ms for ms in given if ms is not None and isfinite(ms) and ms >= 0)
    return Day(
        status=day_status(successful, len(counted)) if counted else "nd" if is_active else "e",
        total=len(counted),
        successful=successful,
        failed=failed,
        uptime=cut(Fraction(successful, len(counted)), 2) if counted else None,
        least_ms=times[0] if times else None,
        most_ms=times[-1] if times else None,
        mean_ms=sum(times) / len(times) if times else None,
        times_ms=tuple(times),
    )


def day_status(successful: int, total: int) -> str:
    """Return what a day with checks is called."""
    if successful * 1000 >= total * 999:
        return "o"
    return "po" if successful * 100 >= total * 95 else "mo"


def percentile(times: tuple[float, ...], share: float) -> float | None:
    """Return the exact percentile: the value of that rank, as the DDSketch paper defines it (section 1: x of rank 1 + q(n - 1), cut)."""
    return times[floor(Fraction(str(share)) * (len(times) - 1))] if times else None


def uptime(
    history: History, start: int, end: int, *, partial: Fraction = Fraction(3, 10), maintenance: bool = False, unknown: bool = False
) -> Time:
    """Return a window by time. `maintenance`, `unknown`: whether that time counts."""
    return counted_time(
        corrected(timeline(history), history.believed(), start, end),
        history.maintenances,
        history.exclusions,
        partial=partial,
        maintenance=maintenance,
        unknown=unknown,
    )


def counted_time(
    stages: list[Stage],
    maintenances: tuple[Stay, ...],
    exclusions: tuple[Stay, ...],
    *,
    partial: Fraction,
    maintenance: bool,
    unknown: bool,
) -> Time:
    """Step over every moment at which anything begins or ends, and put the time until the next into one box."""
    edges = [(one.start, one.end) for one in stages] + [(one.start, one.end) for one in (*maintenances, *exclusions)]
    cuts = {moment for edge in edges for moment in edge}
    ordered = sorted(cuts)
    boxes = dict.fromkeys(("counted", "maintenance", "excluded", "unknown", "inactive"), 0)
    shares = {"up": Fraction(0), "degraded": Fraction(0), "partial": partial, "down": Fraction(1), "unknown": Fraction(1)}
    down = Fraction(0)
    for start, end in pairwise(ordered):
        state = next((stage.state for stage in stages if stage.start <= start < stage.end), None)
        if state is None:
            continue
        box = _box(state, _in(maintenances, start) and not maintenance, _in(exclusions, start), leave_unknown=not unknown)
        boxes[box] += end - start
        if box == "counted":
            down += shares[state] * (end - start)
    return Time(downtime=down, **boxes)


@dataclass(frozen=True)
class Budget:
    """How a window stands against a target: milliseconds that may be down, that are left, and the used part in percent."""

    allowed: Fraction
    left: Fraction
    used: Decimal | None
    met: bool | None


def budget(counted: Time, target: Fraction, *, still_to_come: int) -> Budget:
    """Return the error budget of a window so far. `target` is a share."""
    allowed = (1 - target) * (counted.counted + still_to_come)
    used = cut(counted.downtime / allowed, 4) if allowed else None if counted.downtime else Decimal(0)
    met = None if not counted.counted else 1 - counted.downtime / counted.counted >= target
    return Budget(allowed, allowed - counted.downtime, used, met)


def period_around(moment: int, period: str, zone: ZoneInfo) -> tuple[int, int]:
    """Return the month or quarter that a moment lies in, day by day."""
    months = {"month": 1, "quarter": 3}[period]
    first = last = local_day(moment, zone)
    while first.day > 1 or (first.month - 1) % months:
        first -= timedelta(days=1)
    while last.day > 1 or (last.month - 1) % months or last <= first:
        last += timedelta(days=1)
    return day_begins(first, zone), day_begins(last, zone)


def _in(stays: tuple[Stay, ...], moment: int) -> bool:
    return any(stay.start <= moment < stay.end for stay in stays)


def _box(state: str, maintained: bool, excluded: bool, *, leave_unknown: bool) -> str:  # noqa: FBT001  # the order is the page's
    if state == "inactive":
        return "inactive"
    if excluded:
        return "excluded"
    if maintained:
        return "maintenance"
    return "unknown" if state == UNKNOWN and leave_unknown else "counted"
