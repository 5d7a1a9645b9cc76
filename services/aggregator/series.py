"""Response times over any window: rollups of the resolution that fits, added up; percentiles always of merged sketches.

What is not rolled up yet is counted from the checks, so a series goes up to now.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.aggregator import rollups, sketch, store
from services.aggregator.domain.calendar import Window, bounds, days, to_ms
from services.aggregator.rollups import DAY, HOUR, MINUTE, Done, Part, ceil, floor
from shared.contracts.commands import Problem
from shared.contracts.history import Series, SeriesPoint, SeriesQuery
from shared.database import Connection
from shared.rpc import Refused

STEPS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720))
"""Resolutions below a day."""
HOURS_AT_MOST = 32 * DAY
"""Longer windows are made of days: hours of three months would be thousands of sketches."""
LONGEST_DAYS = 3660
FROM_CHECKS = 3 * HOUR
"""Windows up to this length have minutes as long as there are checks: so many are rolled up while somebody waits."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How many days checks are kept, and rollups by the minute and by the hour."""

    checks: int = 90
    minutes: int = 3
    hours: int = 731


async def read(conn: Connection, query: SeriesQuery, *, now: datetime, zone: ZoneInfo, kept: Kept) -> Series:
    """Return a series and its whole. The window is widened to the resolution's minutes, hours or local days.

    Raises `Refused`: 404 for a service that was never heard of, 422 for a window that is empty or longer than ten years. Needs a
    repeatable read.
    """
    if await store.find_service(conn, query.service_id) is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {query.service_id!r}."))
    if not timedelta(0) < query.ends_at - query.starts_at <= LONGEST_DAYS * DAY:
        raise Refused(Problem(title="Unprocessable", status=422, detail="The window must end after it starts, within ten years."))
    from_checks = _from_checks(query, now=now, kept=kept)
    finest = MINUTE if from_checks else _finest(query, now=now, kept=kept)
    edges = _edges(query, finest, zone)
    if from_checks:
        parts = await rollups.fresh(conn, query.service_id, edges[0], edges[-1], region=query.region)
    else:
        parts = await over(conn, query.service_id, edges[0], edges[-1], finest=finest, region=query.region)
    merged = [merge(start, some) for start, some in zip(edges, _groups(parts, edges), strict=False)]
    return Series(
        service_id=query.service_id,
        resolution_s=int((edges[1] - edges[0]).total_seconds()),
        points=tuple(_point(one) for one in merged),
        whole=_point(merge(edges[0], merged)),
    )


def _from_checks(query: SeriesQuery, *, now: datetime, kept: Kept) -> bool:
    """Say whether a short window has no minutes any more, but its checks."""
    is_short = query.ends_at - query.starts_at <= FROM_CHECKS
    return is_short and now - (kept.checks - 1) * DAY <= query.starts_at < now - (kept.minutes - 1) * DAY


def _finest(query: SeriesQuery, *, now: datetime, kept: Kept) -> timedelta:
    """Return the finest rollups that reach back to the start, and are not too many."""
    if query.ends_at - query.starts_at > HOURS_AT_MOST or query.starts_at < now - (kept.hours - 1) * DAY:
        return DAY
    return MINUTE if query.starts_at >= now - (kept.minutes - 1) * DAY else HOUR


def _edges(query: SeriesQuery, finest: timedelta, zone: ZoneInfo) -> list[datetime]:
    """Return where points begin, and where the last ends: at most `points` of them, a step apart, days at local midnights."""
    if finest < DAY:
        for step in STEPS:
            start, end = floor(query.starts_at, step), ceil(query.ends_at, step)
            number = (end - start) // step
            if step >= finest and number <= query.points:
                return [start + place * step for place in range(number + 1)]
    local = days(Window(to_ms(query.starts_at), to_ms(query.ends_at)), zone)
    width = -(-len(local) // query.points)
    return [*(bounds(day, zone)[0] for day in local[::width]), bounds(local[-1], zone)[1]]


async def over(
    conn: Connection, service_id: str, start: datetime, end: datetime, *, finest: timedelta, region: str | None = None
) -> list[Part]:
    """Return the rollups of a time: days or hours as far as they go and `finest` asks for, then finer ones, then the checks themselves."""
    found: list[Part] = []
    at = start
    for table, until in _stages(start, end, finest, await rollups.done(conn)):
        if at < until:
            found += await rollups.parts(conn, table, service_id, at, until, region=region)
            at = until
    if at < end:
        found += await rollups.fresh(conn, service_id, at, end, region=region)
    return found


def _stages(start: datetime, end: datetime, finest: timedelta, done: Done) -> list[tuple[str, datetime]]:
    """Return which rollups reach up to where. Hours begin and end on the hour, days perhaps not: minutes lie between."""
    days_end, hours_end, minutes_end = (min(until or start, end) for until in (done.day, done.hour, done.minute))
    stages = [("rollup_minute", minutes_end)]
    if finest >= HOUR:
        first_hour = ceil(max(start, days_end) if finest == DAY else start, HOUR)
        stages = [("rollup_minute", min(first_hour, minutes_end)), ("rollup_hour", floor(hours_end, HOUR)), *stages]
    return [("rollup_day", days_end), *stages] if finest == DAY else stages


def _groups(parts: Iterable[Part], edges: Sequence[datetime]) -> list[list[Part]]:
    """Return the parts that lie between each edge and the next."""
    groups: list[list[Part]] = [[] for _ in edges[:-1]]
    for part in parts:
        # A day rolled up in a zone of before may begin outside.
        groups[min(max(bisect_right(edges, part.bucket) - 1, 0), len(groups) - 1)].append(part)
    return groups


def merge(start: datetime, parts: Iterable[Part]) -> Part:
    """Return some parts as one: counts and sketches added up. In one loop: a day has thousands of parts of many bins each."""
    bins: dict[int, int] = {}
    so_far = bins.get
    healthy = degraded = failed = unknown = responses = sum_us = 0
    least: float | None = None
    most: float | None = None
    for part in parts:
        healthy += part.healthy
        degraded += part.degraded
        failed += part.failed
        unknown += part.unknown
        responses += part.response_count
        sum_us += part.response_sum_us
        for key, count in zip(part.keys, part.counts, strict=True):
            bins[key] = so_far(key, 0) + count
        if part.min_ms is not None and (least is None or part.min_ms < least):
            least = part.min_ms
        if part.max_ms is not None and (most is None or part.max_ms > most):
            most = part.max_ms
    return Part(start, healthy, degraded, failed, unknown, responses, sum_us, least, most, tuple(bins), tuple(bins.values()))


def _point(part: Part) -> SeriesPoint:
    found = sketch.percentiles(part.bins)
    return SeriesPoint(
        starts_at=part.bucket,
        total=part.healthy + part.degraded + part.failed,
        failed=part.failed,
        p50=found.p50 if found else None,
        p95=found.p95 if found else None,
        p99=found.p99 if found else None,
        avg=round(part.response_sum_us / part.response_count / 1000, 3) if part.response_count else None,
        min=part.min_ms,
        max=part.max_ms,
    )
