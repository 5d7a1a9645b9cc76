"""What an SLA contract may say, which windows follow from it, and when something is said of it.

Seen red with a target of 0 and of 100.0001 taken, with a service that does not exist passed by, with windows that ended told twice
(from the moment that one ended), with quarters beginning on any month's first day, with an end of a burn that is not said, with a
budget told again in the same window and with a judged window judged again.
"""

from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.domain.accounting import Accounting
from services.aggregator.domain.alarming import ALWAYS, BREACHED, EXHAUSTED, Finding, Key, Step, steps
from services.aggregator.domain.calendar import DAY_MS, Period, Window, to_ms
from services.aggregator.domain.contracts import Draft, Terms, beginning, ended, flaw_of_text, flaws, present, zone
from services.aggregator.domain.timeline import Interval, Span, State, pieces
from services.aggregator.facts import within

GOOD = Draft("eu-gold", "Gold", "99.95", 30, "Europe/Berlin", ("api", "web"), "0.3")
MONTH = Terms(Fraction(999, 1000), Period.MONTH, 30, ZoneInfo("Europe/Berlin"), Accounting())
ZONES = ("UTC", "Europe/Berlin", "Asia/Seoul", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia")
MOMENTS = st.integers(1_000_000_000_000, 1_900_000_000_000)
TERMS = st.builds(
    Terms,
    target=st.just(Fraction(999, 1000)),
    period=st.sampled_from(Period),
    rolling_days=st.integers(1, 366),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    accounting=st.just(Accounting()),
)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, []),
        ({"target": "100"}, []),
        ({"target": "0.0001"}, []),
        ({"partial_share": "1", "rolling_days": 366, "time_zone": "UTC"}, []),
        ({"id": "Eu"}, ["id"]),
        ({"id": "eu--gold"}, ["id"]),
        ({"id": "-eu"}, ["id"]),
        ({"id": ""}, ["id"]),
        ({"id": "a" * 64}, ["id"]),
        ({"id": "eu\n"}, ["id"]),
        ({"name": " "}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": "a\x00"}, ["name"]),
        ({"target": "0"}, ["target"]),
        ({"target": "0.0000"}, ["target"]),
        ({"target": "100.0001"}, ["target"]),
        ({"target": "99.99999"}, ["target"]),
        ({"target": "-1"}, ["target"]),
        ({"target": "1e1"}, ["target"]),
        ({"target": "99,9"}, ["target"]),
        ({"target": "٩٩"}, ["target"]),
        ({"target": "NaN"}, ["target"]),
        ({"rolling_days": 0}, ["rolling_days"]),
        ({"rolling_days": 367}, ["rolling_days"]),
        ({"time_zone": "Mars/Olympus"}, ["time_zone"]),
        ({"time_zone": "../etc/passwd"}, ["time_zone"]),
        ({"time_zone": "Europe"}, ["time_zone"]),
        ({"time_zone": ""}, ["time_zone"]),
        ({"time_zone": "x" * 5000}, ["time_zone"]),
        ({"partial_share": "0.4"}, ["partial_share"]),
        ({"partial_share": "0.30"}, ["partial_share"]),
        ({"services": ()}, ["services"]),
        ({"services": tuple(f"s{n}" for n in range(1001))}, ["services"]),
        ({"services": ("api", "gone", "api")}, ["services.1", "services.2"]),
        ({"id": "?", "target": "x", "services": (), "time_zone": "x"}, ["id", "target", "time_zone", "services"]),
    ],
)
def test_every_flaw_is_named_by_its_field(change: dict[str, object], fields: list[str]) -> None:
    assert [one.field for one in flaws(replace(GOOD, **change), missing={"gone"})] == fields  # type: ignore[arg-type]  # a table


def test_reasons_may_have_lines_and_need_words() -> None:
    assert flaw_of_text("moved the data centre,\nas agreed", most=100) is None
    assert flaw_of_text("\n ", most=100)
    assert flaw_of_text("a\x07", most=100)
    assert flaw_of_text("x" * 101, most=100)
    assert zone("Asia/Seoul") == ZoneInfo("Asia/Seoul")


@given(TERMS, MOMENTS)
def test_now_lies_in_the_present_window(terms: Terms, now: int) -> None:
    window = present(terms, now)
    if terms.period is Period.ROLLING:
        assert (window.end, window.length) == (now, terms.rolling_days * DAY_MS)
    else:
        assert window.start <= now < window.end


@given(TERMS, MOMENTS, st.lists(st.integers(0, 200 * DAY_MS), max_size=4))
def test_windows_that_ended_come_once_and_without_gaps_however_often_one_looks(terms: Terms, begin: int, pauses: list[int]) -> None:
    looked = [begin]
    for pause in pauses:
        looked.append(looked[-1] + pause)
    found = [window for after, until in pairwise(looked) for window in ended(terms, after=after, until=until)]
    assert found == ended(terms, after=begin, until=looked[-1])
    assert all(one.end == other.start for one, other in pairwise(found))
    if terms.period is not Period.ROLLING:
        assert [*found, present(terms, looked[-1])][0].start <= begin
    else:
        assert not found


def test_a_window_that_ends_now_has_ended_and_one_that_ended_before_is_not_told_again() -> None:
    end = to_ms(datetime(2026, 3, 31, 22, tzinfo=UTC))  # midnight of Berlin's summer time
    assert [one.end for one in ended(MONTH, after=end - 1, until=end)] == [end]
    assert ended(MONTH, after=end, until=end + DAY_MS) == []
    assert ended(MONTH, after=end - 2, until=end - 1) == []


@pytest.mark.parametrize(
    ("period", "first", "days", "hours"),
    [
        (Period.MONTH, date(2026, 3, 1), 31, -1),
        (Period.MONTH, date(2026, 10, 1), 31, 1),
        (Period.QUARTER, date(2026, 1, 1), 90, -1),
        (Period.MONTH, date(2026, 3, 2), None, 0),
        (Period.QUARTER, date(2026, 2, 1), None, 0),
        (Period.ROLLING, date(2026, 3, 17), 30, 0),
    ],
)
def test_windows_begin_on_a_day(period: Period, first: date, days: int | None, hours: int) -> None:
    window = beginning(replace(MONTH, period=period), first)
    assert (window and window.length) == (None if days is None else days * DAY_MS + hours * 3_600_000)
    assert window is None or window.start == to_ms(datetime(first.year, first.month, first.day, tzinfo=MONTH.zone))


def told(before: dict[Key, bool], *findings: Finding) -> list[str]:
    found = steps(before, findings)
    before.update({one.finding.key: one.finding.holds for one in found})
    return [f"{one.finding.what} {one.finding.holds}" for one in found if one.told]


def test_a_burn_is_said_when_it_begins_and_when_it_ends() -> None:
    before: dict[Key, bool] = {}
    said = [told(before, Finding("burn:fast", ALWAYS, holds=holds)) for holds in (False, True, True, False, False, True)]
    assert said == [[], ["burn:fast True"], [], ["burn:fast False"], [], ["burn:fast True"]]


def test_a_budget_is_used_up_once_in_a_window_and_again_in_the_next() -> None:
    before: dict[Key, bool] = {}
    said = [told(before, Finding(EXHAUSTED, window, holds=holds, once=True)) for window in (1, 2) for holds in (False, True, False, True)]
    assert said == [[], ["exhausted True"], [], []] * 2


def test_a_window_is_judged_once_whatever_the_verdict() -> None:
    before: dict[Key, bool] = {}
    said = [told(before, Finding(BREACHED, 1, holds=holds, once=True, verdict=True)) for holds in (False, True)]
    assert said == [[], []]
    assert told(before, Finding(BREACHED, 2, holds=True, once=True, verdict=True)) == ["breached True"]


@given(st.lists(st.booleans()))
def test_a_rolling_promise_is_broken_again_only_after_it_was_kept(course: list[bool]) -> None:
    before: dict[Key, bool] = {}
    said = [told(before, Finding(BREACHED, ALWAYS, holds=holds)) for holds in course]
    assert [bool(one) for one in said] == [holds and not earlier for earlier, holds in zip([False, *course], course, strict=False)]
    assert all(one in ([], ["breached True"]) for one in said)


@given(st.lists(st.tuples(st.sampled_from(["burn:fast", EXHAUSTED, BREACHED]), st.integers(0, 2), st.booleans(), st.booleans())))
def test_what_was_found_and_remembered_is_no_news(rows: list[tuple[str, int, bool, bool]]) -> None:
    findings = {(what, window): Finding(what, window, holds, once=once) for what, window, holds, once in rows}
    found = steps({}, findings.values())
    remembered = {one.finding.key: one.finding.holds for one in found}
    assert steps(remembered, findings.values()) == []
    assert all(isinstance(one, Step) for one in found)


@given(
    st.lists(st.integers(0, 500), min_size=2, max_size=9, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=4),
    st.tuples(st.integers(-10, 510), st.integers(-10, 510)),
)
def test_a_window_of_pieces_is_what_each_moment_of_it_was(cuts: list[int], spans: list[tuple[int, int]], edges: tuple[int, int]) -> None:
    """Seen red with the last piece not cut, and with a piece left out that ends where another begins."""
    states = [Interval(a, b, list(State)[n % len(State)]) for n, (a, b) in enumerate(pairwise(cuts))]
    whole = pieces(states, [Span(min(one), max(one), f"s{n}") for n, one in enumerate(spans)])
    window = Window(min(edges), max(edges))
    found = within(whole, window)
    moments = {at: (one.state, one.spans) for one in whole for at in range(one.start, one.end) if window.start <= at < window.end}
    assert {at: (one.state, one.spans) for one in found for at in range(one.start, one.end)} == moments
    assert sum(one.length for one in found) == len(moments)
