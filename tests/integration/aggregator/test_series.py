"""Series of response times on a real database, beside the same reckoned from the checks themselves."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import series
from services.aggregator.domain.calendar import bounds
from services.aggregator.rollups import DAY, HOUR, MINUTE, floor
from services.aggregator.series import Kept
from shared.contracts.checks import CheckResult
from shared.contracts.codes import Outcome
from shared.contracts.history import Series, SeriesPoint, SeriesQuery
from shared.database import Pool
from shared.rpc import Refused
from tests.integration.aggregator.story import START, batch, definition, fold, learn
from tests.integration.aggregator.test_rollups import SETTLED, advance, begin, checks, usable

SERVICE = "service-0"
UTC_ZONE, BERLIN, KATHMANDU = (ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "Asia/Kathmandu"))
SECOND = timedelta(seconds=1)


async def read(
    pool: Pool,
    start: datetime,
    length: timedelta,
    *,
    region: str | None = None,
    points: int = 200,
    now: datetime = START + DAY,
    zone: ZoneInfo = UTC_ZONE,
) -> Series:
    query = SeriesQuery(service_id=SERVICE, starts_at=start, ends_at=start + length, region=region, points=points)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await series.read(conn, query, now=now, zone=zone, kept=Kept())


async def happened(
    pool: Pool, *, start: datetime, length: timedelta, step: timedelta, rolled: timedelta, zone: ZoneInfo = UTC_ZONE
) -> list[CheckResult]:
    """Have two services checked from two regions, and rolled up a part of the time; return the checks of the one that is read."""
    everything = checks(random.Random(7), services=2, begin=start, minutes=length // MINUTE, step=step)
    await learn(pool, definition(SERVICE))
    await begin(pool, floor(start, HOUR))
    await fold(pool, batch(everything), now=start + length)
    await advance(pool, start + rolled + SETTLED, zone)
    return [one for one in everything if one.service_id == SERVICE and one.attempt == 0]


def agrees(point: SeriesPoint, given: Sequence[CheckResult], end: datetime, *, region: str | None = None) -> None:
    """Assert that a point says what its checks say: counts as they are, percentiles within 1 %."""
    mine = [one for one in given if point.starts_at <= one.scheduled_at < end and one.region == (region or one.region)]
    times = usable(mine)
    failed = sum(one.outcome is Outcome.FAILED for one in mine)
    assert (point.total, point.failed) == (sum(one.outcome is not Outcome.UNKNOWN for one in mine), failed)
    assert (point.min, point.max) == (min(times, default=None), max(times, default=None))
    if not times:
        assert (point.avg, point.p50, point.p95, point.p99) == (None,) * 4
        return
    assert point.avg == round(sum(round(one * 1000) for one in times) / len(times) / 1000, 3)
    for value, share in ((point.p50, 0.5), (point.p95, 0.95), (point.p99, 0.99)):
        true = max(times[int(share * (len(times) - 1))], 0.001)
        assert value is not None
        assert abs(value - true) <= true * 0.01 * (1 + 1e-9) + 0.0005


def all_agree(found: Series, given: Sequence[CheckResult], edges: Sequence[datetime], *, region: str | None = None) -> None:
    assert [one.starts_at for one in found.points] == list(edges[:-1])
    for point, end in zip(found.points, edges[1:], strict=True):
        agrees(point, given, end, region=region)
    agrees(found.whole, given, edges[-1], region=region)
    assert found.whole.total > 0


@pytest.mark.parametrize("region", ["eu", "us", None])
async def test_each_point_is_what_its_checks_say(pool: Pool, region: str | None) -> None:
    """Over a window of odd edges, an hour of it rolled up, the rest not yet; of one region, and of all.

    Seen red with the region not asked for, with checks that are not rolled up left out, and with percentiles a bin too high.
    """
    given = await happened(pool, start=START, length=3 * HOUR, step=20 * SECOND, rolled=HOUR)

    found = await read(pool, START + timedelta(minutes=3, seconds=17.5), timedelta(minutes=150), region=region)

    assert found.resolution_s == 60
    first = START + 3 * MINUTE
    all_agree(found, given, [first + place * MINUTE for place in range(152)], region=region)


@pytest.mark.parametrize("region", ["eu", None])
async def test_a_few_hours_of_long_ago_are_made_of_checks_by_the_minute(pool: Pool, region: str | None) -> None:
    """Seen red with the minutes asked for that are gone, and with the hours."""
    given = await happened(pool, start=START, length=4 * HOUR, step=20 * SECOND, rolled=4 * HOUR)
    await pool.execute("delete from rollup_minute")

    found = await read(pool, START + timedelta(minutes=50, seconds=30), timedelta(minutes=99), region=region, now=START + 60 * DAY)

    assert found.resolution_s == 60
    all_agree(found, given, [START + place * MINUTE for place in range(50, 151)], region=region)


@pytest.mark.parametrize("region", ["eu", None])
async def test_hours_are_made_of_hours_and_of_what_is_none_yet(pool: Pool, region: str | None) -> None:
    """Asked five days later, when minutes are no longer counted on; the last hours are rolled up to minutes, or not at all.

    Seen red with stages that end with the hours.
    """
    given = await happened(pool, start=START, length=10 * HOUR, step=MINUTE, rolled=timedelta(hours=7, minutes=20))

    found = await read(pool, START + timedelta(minutes=30), 8 * HOUR, region=region, now=START + 5 * DAY)

    assert found.resolution_s == 3600
    all_agree(found, given, [START + place * HOUR for place in range(10)], region=region)


@pytest.mark.parametrize("zone", [UTC_ZONE, BERLIN, KATHMANDU], ids=str)
async def test_days_are_those_of_the_zone(pool: Pool, zone: ZoneInfo) -> None:
    """Also the one on which the clocks change, and the one that is not over; widened to their midnights.

    Seen red with days of UTC.
    """
    first = bounds(date(2026, 3, 28), zone)[0]
    given = await happened(pool, start=first, length=3 * DAY + 5 * HOUR, step=10 * MINUTE, rolled=3 * DAY + 2 * HOUR, zone=zone)

    found = await read(pool, first + 7 * HOUR, timedelta(days=34), now=first + 35 * DAY, zone=zone)

    days = [bounds(date(2026, 3, 28) + place * DAY, zone)[0] for place in range(36)]
    all_agree(found, given, days)
    lengths = {end - start for start, end in pairwise(days)}
    assert lengths == ({23 * HOUR, DAY} if zone is BERLIN else {DAY})


async def test_the_whole_is_merged_of_its_points(pool: Pool) -> None:
    """However many points a time is cut into, its whole is the same, and that of one point is that point.

    Seen red with a whole whose percentiles are the mean of its points'.
    """
    await happened(pool, start=START, length=2 * HOUR, step=20 * SECOND, rolled=HOUR)

    cut = [await read(pool, START, 2 * HOUR, points=number) for number in (500, 120, 24, 7, 1)]

    assert [len(one.points) for one in cut] == [120, 120, 24, 4, 1]
    assert all(one.whole == cut[0].whole for one in cut)
    assert cut[-1].points == (cut[-1].whole,)
    assert cut[0].whole.total == sum(point.total for point in cut[0].points) > 0


@pytest.mark.parametrize(
    ("length", "ago", "points", "resolution"),
    [
        (30 * MINUTE, HOUR, 500, MINUTE),
        (8 * HOUR, DAY, 500, MINUTE),
        (DAY, DAY, 500, 5 * MINUTE),
        (DAY, DAY, 200, 10 * MINUTE),
        (2 * DAY, 2 * DAY, 200, 15 * MINUTE),
        (DAY, 5 * DAY, 500, HOUR),
        (3 * HOUR, 5 * DAY, 500, MINUTE),
        (2 * HOUR, 80 * DAY, 60, 2 * MINUTE),
        (4 * HOUR, 80 * DAY, 60, HOUR),
        (2 * HOUR, 90 * DAY, 60, HOUR),
        (30 * DAY, 30 * DAY, 500, 2 * HOUR),
        (30 * DAY, 30 * DAY, 50, DAY),
        (32 * DAY, 32 * DAY, 500, 2 * HOUR),
        (33 * DAY, 33 * DAY, 500, DAY),
        (DAY, 800 * DAY, 500, DAY),
        (3650 * DAY, 3650 * DAY, 500, 8 * DAY),
    ],
    ids=str,
)
async def test_the_resolution_follows_from_length_and_age(
    pool: Pool, length: timedelta, ago: timedelta, points: int, resolution: timedelta
) -> None:
    """Minutes are kept for three days, hours for two years; hours serve a month, days all the rest; checks a few hours of three months.

    Seen red with minutes asked for that are gone, with hours of any length, and with checks of any time asked for.
    """
    await learn(pool, definition(SERVICE))

    found = await read(pool, START - ago, length, points=points, now=START)

    assert found.resolution_s == resolution.total_seconds()
    assert len(found.points) <= points


async def test_there_are_never_more_points_than_asked_for(pool: Pool) -> None:
    """Windows of every length with odd edges; each within its series, without a gap.

    Seen red with a step chosen by the length alone: edges widened to it make one more.
    """
    await learn(pool, definition(SERVICE))
    chance = random.Random(5)
    for _ in range(150):
        length = SECOND * 10 ** chance.uniform(0, 8.4)
        start = START - length - DAY * chance.uniform(0, 5)
        points = chance.choice((1, 2, 7, 60, 200, 500))
        found = await read(pool, start, length, points=points, now=START)
        starts = [one.starts_at for one in found.points]
        step = timedelta(seconds=found.resolution_s)
        assert 1 <= len(starts) <= points
        assert starts[0] <= start < starts[0] + step
        assert starts[-1] < start + length <= starts[-1] + step
        assert all(later - earlier == step for earlier, later in pairwise(starts))


async def test_a_time_without_checks_has_points_that_say_nothing(pool: Pool) -> None:
    await learn(pool, definition(SERVICE))

    found = await read(pool, START, HOUR)

    nothing = [SeriesPoint(starts_at=START + place * MINUTE, total=0, failed=0) for place in range(60)]
    assert list(found.points) == nothing
    assert found.whole == nothing[0]


@pytest.mark.parametrize(
    ("service_id", "length", "status"),
    [("stranger", HOUR, 404), (SERVICE, timedelta(0), 422), (SERVICE, -HOUR, 422), (SERVICE, 3661 * DAY, 422)],
)
async def test_what_cannot_be_answered_is_refused(pool: Pool, service_id: str, length: timedelta, status: int) -> None:
    await learn(pool, definition(SERVICE))
    query = SeriesQuery(service_id=service_id, starts_at=START, ends_at=START + length)
    async with pool.acquire() as conn:
        with pytest.raises(Refused) as refused:
            await series.read(conn, query, now=datetime.now(UTC), zone=UTC_ZONE, kept=Kept())
    assert refused.value.problem.status == status
