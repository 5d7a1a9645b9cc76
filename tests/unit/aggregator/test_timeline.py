"""Timelines, calendars and accounts under chance: nothing is lost, nothing counts twice.

Seen red with `corrected` dropping the rest of a split interval, with `pieces` cutting at span starts only, with a day ending at
start + 24 h, with `_of` counting excluded time as inactive, with the oldest correction winning and with one burn window looked at only.
"""

from datetime import date
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.accounting import (
    BURN_RULES,
    Account,
    Accounting,
    account,
    budget,
    burn_rate,
    burning,
    judge,
    worst,
)
from services.aggregator.domain.calendar import DAY_MS, Period, Window, day_of, day_window, days, window_at
from services.aggregator.domain.timeline import Correction, Interval, Span, State, clip, corrected, filled, merged, pieces

ZONES = ("UTC", "Europe/Berlin", "Asia/Seoul", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Kathmandu")
MOMENTS = st.integers(1_000_000_000_000, 1_900_000_000_000)
END = 10_000


@st.composite
def timelines(draw: st.DrawFn) -> list[Interval]:
    cuts = sorted(draw(st.sets(st.integers(0, END), min_size=2, max_size=12)))
    states = draw(st.lists(st.sampled_from([*State, None]), min_size=len(cuts) - 1, max_size=len(cuts) - 1))
    return [Interval(start, end, state) for start, end, state in zip(cuts, cuts[1:], states, strict=False) if state]


SPANS = st.lists(
    st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from("abc")).map(lambda t: Span(min(t[:2]), max(t[:2]), t[2])),
    max_size=6,
)
CORRECTIONS = st.lists(st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from(list(State))), max_size=5).map(
    lambda given_: [Correction(min(a, b), max(a, b), state, f"c{n}", n) for n, (a, b, state) in enumerate(given_)]
)
PARTIAL_SHARES = (Fraction(0), Fraction(3, 10), Fraction(1, 2), Fraction(1))
ACCOUNTINGS = st.builds(
    Accounting, partial_share=st.sampled_from(PARTIAL_SHARES), count_maintenance=st.booleans(), count_unknown=st.booleans()
)
WINDOW = Window(0, END)


def state_at(intervals: list[Interval], at: int) -> State:
    return next((one.state for one in intervals if one.start <= at < one.end), State.INACTIVE)


@given(timelines(), CORRECTIONS)
def test_a_correction_changes_what_it_covers_and_nothing_else(facts: list[Interval], corrections: list[Correction]) -> None:
    after = corrected(facts, corrections, WINDOW)
    assert (after[0].start, after[-1].end) == (0, END)
    assert all(one.end == two.start for one, two in pairwise(after))
    for at in range(0, END, 97):
        over = [one for one in corrections if one.start <= at < one.end]
        assert state_at(after, at) == (max(over, key=lambda one: one.number).state if over else state_at(facts, at))


@given(timelines(), SPANS, ACCOUNTINGS)
def test_every_millisecond_is_accounted_for_once(facts: list[Interval], spans: list[Span], accounting: Accounting) -> None:
    whole = filled(facts, WINDOW)
    found = account(pieces(whole, spans), accounting, maintenance=frozenset("a"), exclusions=frozenset("b"))
    assert found.counted + found.maintenance + found.excluded + found.unknown + found.inactive == END
    assert 0 <= found.downtime <= found.counted
    slow = [state_at(whole, at) for at in range(END)]
    covered = {name: {at for span in spans if span.id == name for at in range(span.start, span.end)} for name in "ab"}
    counted = [
        state
        for at, state in enumerate(slow)
        if state is not State.INACTIVE
        and at not in covered["b"]
        and (accounting.count_maintenance or at not in covered["a"])
        and (accounting.count_unknown or state is not State.UNKNOWN)
    ]
    assert found.counted == len(counted)
    down = sum(state in {State.DOWN, State.UNKNOWN} for state in counted) + accounting.partial_share * counted.count(State.PARTIAL)
    assert found.downtime == down
    assert found.excluded == sum(state is not State.INACTIVE and at in covered["b"] for at, state in enumerate(slow))


@given(timelines(), st.integers(0, END), st.integers(0, END))
def test_windows_add_up(facts: list[Interval], one: int, two: int) -> None:
    first, second = sorted((one, two))
    windows = [Window(0, first), Window(first, second), Window(second, END)]
    parts = [account(pieces(filled(facts, window), ()), Accounting()) for window in windows]
    whole = account(pieces(filled(facts, WINDOW), ()), Accounting())
    assert parts[0].plus(parts[1]).plus(parts[2]) == whole
    assert merged(clip(facts, WINDOW)) == merged(facts)


@given(MOMENTS, st.sampled_from(ZONES))
def test_days_follow_each_other_without_gap(at: int, name: str) -> None:
    zone = ZoneInfo(name)
    day = day_of(at, zone)
    window = day_window(day, zone)
    assert window.start <= at < window.end
    following = day_of(window.end, zone)
    assert day_window(following, zone).start == window.end
    assert days(Window(window.start, window.end + 1), zone)[-1] == following


@pytest.mark.parametrize(
    ("day", "name", "hours"),
    [
        (date(2026, 3, 29), "Europe/Berlin", 23),
        (date(2026, 10, 25), "Europe/Berlin", 25),
        (date(2026, 3, 29), "Asia/Seoul", 24),
        (date(2026, 4, 5), "Australia/Lord_Howe", 24.5),
        (date(2024, 3, 31), "Asia/Beirut", 23),  # midnight does not exist
        (date(2011, 12, 30), "Pacific/Apia", 0),  # nor does the day
    ],
)
def test_a_day_has_the_hours_that_its_zone_gave_it(day: date, name: str, hours: float) -> None:
    assert day_window(day, ZoneInfo(name)).length == hours * 3_600_000


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from([Period.MONTH, Period.QUARTER]))
def test_a_moment_lies_in_its_month_and_quarter(at: int, name: str, period: Period) -> None:
    zone = ZoneInfo(name)
    window = window_at(period, at, zone)
    assert window.start <= at < window.end
    assert window_at(period, window.start, zone) == window == window_at(period, window.end - 1, zone)
    assert window_at(period, window.end, zone).start == window.end


def test_a_rolling_window_ends_now() -> None:
    assert window_at(Period.ROLLING, 100 * DAY_MS, ZoneInfo("UTC"), rolling_days=7) == Window(93 * DAY_MS, 100 * DAY_MS)


def test_a_burn_alert_needs_both_windows_and_enough_samples() -> None:
    rule, target, month = BURN_RULES[0], Fraction(999, 1000), 30 * DAY_MS
    bad, good = Account(counted=1000, downtime=Fraction(15)), Account(counted=1000, downtime=Fraction(14))
    assert burn_rate(bad, target) == 15
    assert burning(rule, target=target, window=month, long=bad, short=bad, samples=10)
    assert not burning(rule, target=target, window=month, long=bad, short=good, samples=10)
    assert not burning(rule, target=target, window=month, long=good, short=bad, samples=10)
    assert not burning(rule, target=target, window=month, long=bad, short=bad, samples=9)
    assert not burning(rule, target=target, window=month, long=Account(), short=bad, samples=10)
    assert burn_rate(bad, Fraction(1)) is None


def test_a_budget_of_nothing_is_exhausted_by_anything() -> None:
    assert not budget(Fraction(1), Account(counted=10), still_to_come=5).exhausted
    spent = budget(Fraction(1), Account(counted=10, downtime=Fraction(1)), still_to_come=5)
    assert spent.exhausted
    assert spent.used_share is None


def test_a_contract_is_told_by_its_worst_service() -> None:
    judged = [judge(Fraction(99, 100), Account(100, Fraction(down)), still_to_come=0) for down in (0, 2, 1)]
    assert worst([judge(Fraction(99, 100), Account(), still_to_come=0), *judged]) is judged[1]
    assert [one.met for one in judged] == [True, False, True]
    assert worst([judge(Fraction(1), Account(), still_to_come=0)]) is None


@pytest.mark.parametrize("share", PARTIAL_SHARES)
def test_a_higher_share_never_gives_a_higher_uptime(share: Fraction) -> None:
    facts = [Interval(0, 5, State.PARTIAL), Interval(5, 10, State.UP)]
    assert account(pieces(facts, ()), Accounting(partial_share=share)).uptime == 1 - share / 2
