"""The domain agrees with the reference (tests/reference) on any history: states, live status, days, uptime, percentiles.

Seen red, in verdict, with a turn one failure too late, with `recovery` asked of the unknown, with a turn dated to its last failure, with
one outcome lost when the window moves on, with `majority` at half, and with a slot that counts twice; in courses, with silence a
millisecond early, with unknown time from the next outcome only, with pauses that end unnoticed, with regions that are not named, and with
the rules of the first outcome; and with exclusions ignored, unknown time never down, corrections in reverse or cutting too much, 94 % as
`po`, midnight read with fold=1, and percentiles two in a hundred too low.
"""

import math
import random
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator import sketch
from services.aggregator.domain import accounting, calendar, courses, timeline, verdict
from services.aggregator.domain import day as domain_day
from services.aggregator.domain.courses import Checkpoint, Rules
from services.aggregator.domain.timeline import Interval, Span, State
from services.aggregator.domain.verdict import Observation, Region, Thresholds
from tests.reference import figures, states
from tests.reference.history import DEGRADED, FAILED, UNKNOWN, Check, Correction, Definition, History, Stay

INTERVAL = 1000
OUTCOMES = {"h": "healthy", "d": DEGRADED, "f": FAILED, "u": UNKNOWN}
ZONES = ("UTC", "Europe/Berlin", "Asia/Seoul", "Australia/Lord_Howe", "America/Sao_Paulo", "Atlantic/Azores", "Asia/Kathmandu")
QUORUMS = st.sampled_from(("any", "majority", "all", "1", "2", "3"))

definitions_ = st.builds(
    Definition,
    since=st.just(0),
    interval=st.sampled_from((INTERVAL, 4000)),
    timeout=st.sampled_from((500, 1000)),
    failure=st.integers(1, 4),
    recovery=st.integers(1, 4),
    quorum=QUORUMS,
    regions=st.sampled_from(((), ("a",), ("a", "b"), ("c",))),
    watched=st.sampled_from((True, True, True, False)),
)


@st.composite
def histories(draw: st.DrawFn, *, most: int = 30, changing: bool = True) -> History:
    """A service with up to three regions, whose checks come in any order and some of them twice."""
    length = draw(st.integers(1, most))
    first = draw(definitions_)
    later = sorted(draw(st.sets(st.integers(1, length * 4), max_size=2))) if changing else ()
    definitions = [first, *(replace(draw(definitions_), since=quarter * INTERVAL // 4) for quarter in later)]
    checks = [check for region in "abc"[: draw(st.integers(1, 3))] for check in draw(_seen(region, length))]
    again = draw(st.lists(st.sampled_from(checks), max_size=5)) if checks else []
    order = [*checks, *again]
    random.Random(draw(st.integers(0, 99))).shuffle(order)
    newest = max((check.slot for check in order), default=0)
    now = newest + draw(st.sampled_from((1, 700, INTERVAL, 2500, 3000, 3001, 3500, 3501, 4000, 20_000)))
    return History(tuple(one for one in definitions if one.since < now), tuple(order), now)


def _restless(length: int) -> st.SearchStrategy[str]:
    """Outcomes that never let a region turn once they repeat, so that what was long before them still holds."""
    tune = st.text("hdf", min_size=2, max_size=3)
    return st.builds(lambda begin, again: (begin + again * length)[:length], st.text("hdf.", max_size=8), tune)


@st.composite
def _seen(draw: st.DrawFn, region: str, length: int) -> list[Check]:
    phase = draw(st.sampled_from((0, 1, 250, 999)))
    letters = draw(st.one_of(st.text("hhhdffu.", min_size=length, max_size=length), _restless(length)))
    checks = [Check(region, place * INTERVAL + phase, OUTCOMES[letter]) for place, letter in enumerate(letters) if letter != "."]
    doubtful = [check for check in checks if check.outcome != "healthy"]
    more = draw(st.lists(st.tuples(st.sampled_from(doubtful), st.sampled_from("hdf")), max_size=4)) if doubtful else []
    confirmations = {check.slot + 100: Check(region, check.slot + 100, OUTCOMES[letter], attempt=1) for check, letter in more}
    return [*checks, *confirmations.values()]


def rules(history: History) -> list[Rules]:
    """Return the definitions as the domain has them."""
    return [
        Rules(
            since=one.since,
            check_interval=one.interval,
            thresholds=thresholds_of(one),
            quorum=one.quorum,
            regions=frozenset(one.regions),
            watched=one.watched,
        )
        for one in history.definitions
    ]


def thresholds_of(one: Definition) -> Thresholds:
    """Return the thresholds of a definition as the domain has them."""
    return Thresholds(one.failure, one.recovery, verdict.silent_after_ms(check_interval=one.interval, timeout=one.timeout))


def observations(history: History, region: str) -> list[Observation]:
    """Return what was seen from a region, in the order of arrival."""
    return [
        Observation(check.slot, check.outcome != FAILED, check.outcome == DEGRADED)
        for check in history.checks
        if check.region == region and check.outcome != UNKNOWN and check.slot < history.now
    ]


def staged(history: History, until: int) -> list[courses.Stage]:
    """Return the timeline by the domain, with silence declared where the reference finds it."""
    stretches = {}
    for region in sorted({check.region for check in history.checks}):
        seen = sorted(set(observations(history, region)), key=lambda one: one.slot)
        longest = max(history.definition_at(at).silent_after for at in (seen[-1].slot if seen else until, until))
        silent = bool(seen) and until - seen[-1].slot > longest
        stretches[region], _ = courses.region_stretches(seen, rules(history), begin=Checkpoint(), until=until, silent=silent)
    return courses.combined(stretches, rules(history), start=history.definitions[0].since, until=until)


def plain(stages: list[courses.Stage]) -> list[states.Stage]:
    """Return the domain's stages in the reference's words."""
    return [states.Stage(one.start, one.end, one.state.value, one.down, one.degraded) for one in stages]


@settings(max_examples=1500)
@given(histories())
def test_the_timeline_is_the_references(history: History) -> None:
    assert plain(staged(history, history.now)) == states.timeline(history)


@settings(max_examples=600)
@given(histories(most=60, changing=False))
def test_the_live_status_is_how_the_timeline_ends(history: History) -> None:
    """Whatever the order of arrival, as long as nothing is overtaken by 24; silence is declared by the clock, before more comes."""
    asked = history.definitions[0]
    thresholds = thresholds_of(asked)
    regions = [_arrived(history, region, thresholds) for region in sorted({check.region for check in history.checks})]
    counting = [region for region in regions if not asked.regions or region.name in asked.regions]
    said = verdict.judge(counting, thresholds, check_interval=asked.interval, quorum=asked.quorum)
    expected = states.live(history)
    if asked.watched:
        assert said.status.value == states.CODES[expected.state]
        assert (said.down, said.degraded) == (expected.down, expected.degraded)


def _arrived(history: History, name: str, thresholds: Thresholds) -> Region:
    """Give a region its outcomes: those between two silences, a dozen slots at a time, in the order of their arrival."""
    silent_after = history.definitions[0].silent_after
    arrived = observations(history, name)
    slots = sorted({one.slot for one in arrived})
    region, waiting = Region(name), set[int]()
    for slot, following in pairwise([*slots, history.now]):
        waiting.add(slot)
        silent = following - slot > silent_after
        if silent or len(waiting) > 11 or following == history.now:
            for one in arrived:
                if one.slot in waiting:
                    region = verdict.observe(region, [one], thresholds)
            waiting.clear()
        if silent:
            region = verdict.silenced(region)
    return region


corrections_ = st.builds(
    lambda start, length, state: Correction(start, start + length, state),
    st.integers(0, 30_000),
    st.integers(1, 20_000),
    st.sampled_from([state.value for state in State]),
)
stays_ = st.builds(lambda start, length: Stay(start, start + length), st.integers(-5000, 30_000), st.integers(1, 20_000))


@settings(max_examples=400)
@given(
    histories(),
    st.lists(corrections_, max_size=3),
    st.lists(stays_, max_size=3),
    st.lists(stays_, max_size=2),
    st.tuples(st.integers(-3000, 20_000), st.integers(1, 40_000)),
    st.tuples(st.sampled_from(("0", "3/10", "1/2", "1")), st.booleans(), st.booleans()),
)
def test_uptime_by_time_is_the_references_under_each_accounting(
    history: History,
    corrections: list[Correction],
    maintenances: list[Stay],
    exclusions: list[Stay],
    window: tuple[int, int],
    chosen: tuple[str, bool, bool],
) -> None:
    partial, maintenance, unknown = Fraction(chosen[0]), chosen[1], chosen[2]
    start, end = window[0], window[0] + window[1]
    measured = [Interval(one.start, one.end, one.state) for one in staged(history, history.now)]
    believed = [timeline.Correction(one.start, one.end, State(one.state), f"c{n}", n) for n, one in enumerate(corrections)]
    maintained = [Span(one.start, one.end, f"m{n}") for n, one in enumerate(maintenances)]
    excluded = [Span(one.start, one.end, f"x{n}") for n, one in enumerate(exclusions)]
    shuffled = random.Random(0).sample(believed, len(believed))
    whole = timeline.corrected(measured, shuffled, calendar.Window(start, end))
    found = accounting.account(
        timeline.pieces(whole, [*excluded, *maintained]),
        accounting.Accounting(partial, count_maintenance=maintenance, count_unknown=unknown),
        maintenance=frozenset(one.id for one in maintained),
        exclusions=frozenset(one.id for one in excluded),
    )
    facts = History(history.definitions, history.checks, history.now, tuple(corrections), tuple(maintenances), tuple(exclusions))
    expected = figures.uptime(facts, start, end, partial=partial, maintenance=maintenance, unknown=unknown)
    assert found.percentage == expected.uptime
    assert (found.counted, found.downtime, found.maintenance) == (expected.counted, expected.downtime, expected.maintenance)
    assert (found.excluded, found.unknown, found.inactive) == (expected.excluded, expected.unknown, expected.inactive)


@settings(max_examples=300)
@given(st.dates(date(2009, 1, 1), date(2030, 12, 31)), st.sampled_from(ZONES), st.integers(0, 86_400_000))
def test_days_are_those_on_the_wall(day: date, name: str, later: int) -> None:
    zone = ZoneInfo(name)
    window = calendar.day_window(day, zone)
    begins = figures.day_begins(day, zone)
    assert window == calendar.Window(begins, figures.day_begins(day + timedelta(days=1), zone))
    assert calendar.day_of(begins + later, zone) == figures.local_day(begins + later, zone)


CLOCK_CHANGES = (
    ("Europe/Berlin", date(2026, 3, 29), 23),
    ("Europe/Berlin", date(2026, 10, 25), 25),
    ("Asia/Seoul", date(1988, 5, 8), 23),  # the last year in which Seoul changed its clocks
    ("Asia/Seoul", date(1988, 10, 9), 25),
    ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
    ("America/Sao_Paulo", date(2018, 11, 4), 23),  # its midnight was skipped
)


def test_days_of_clock_changes_have_the_hours_that_they_had() -> None:
    for name, day, hours in CLOCK_CHANGES:
        window = calendar.day_window(day, ZoneInfo(name))
        assert window.length == hours * 3_600_000, (name, day)
        assert window.start == figures.day_begins(day, ZoneInfo(name))


times_ = st.one_of(st.none(), st.floats(0, 60_000), st.sampled_from((0.0, 0.0004, 250.0, float("inf"))))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from("hhhhhhhhdfu"), times_, st.sampled_from((0, 0, 0, 1))), max_size=60))
def test_a_days_record_is_the_references(seen: list[tuple[str, float | None, int]]) -> None:
    checks = tuple(Check("a", place, OUTCOMES[letter], ms, attempt) for place, (letter, ms, attempt) in enumerate(seen))
    expected = figures.of_checks(figures.slots(History((Definition(0, 1000, 500, 2, 2),), checks, 100)), is_active=True)
    counted = [one for one in checks if one.attempt == 0 and one.outcome != UNKNOWN]
    good = [one for one in counted if one.outcome != FAILED]
    times = [one.ms for one in good if one.ms is not None and one.ms != float("inf")]
    found = domain_day.tally(successful=len(good), failed=len(counted) - len(good), response_times_ms=times)
    assert (found.successful, found.failed, found.total) == (expected.successful, expected.failed, expected.total)
    assert (found.min_ms, found.max_ms) == (expected.least_ms, expected.most_ms)
    assert domain_day.uptime_percentage(found.successful, found.total) == expected.uptime
    assert (domain_day.day_status(found.successful, found.total).value if found.total else "nd") == expected.status


@settings(max_examples=400)
@given(st.integers(0, 30_000), st.integers(0, 30_000))
def test_a_days_status_and_percentage_are_the_references(successful: int, failed: int) -> None:
    total = successful + failed
    if total:
        assert domain_day.day_status(successful, total).value == figures.day_status(successful, total)
        assert domain_day.uptime_percentage(successful, total) == figures.cut(Fraction(successful, total), 2)


@settings(max_examples=300)
@given(st.lists(st.floats(0.001, 60_000), min_size=1, max_size=200))
def test_percentiles_are_within_one_percent_of_the_sorted_values(times: list[float]) -> None:
    bins = [(math.ceil(math.log(one) / math.log(sketch.GAMMA)), 1) for one in times]
    found = sketch.percentiles(bins)
    assert found is not None
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        exact = figures.percentile(tuple(sorted(times)), share)
        assert exact is not None
        assert abs(value - exact) <= exact * 0.01 + 0.0005, share
