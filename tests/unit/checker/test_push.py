"""What a job's reports mean, and when it is due."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from random import Random
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.assertions import judge as judge_assertions
from services.checker.domain.known import GAP_MS, Gap, Known, PushState
from services.checker.domain.push import FAILED, NOT_DONE, NOT_ENDED, NOT_YET, UNHEARD, Signal, judge, take
from services.checker.domain.target import Target
from services.checker.probes.push import KIND, PushOptions, probe
from shared.contracts.codes import Outcome

S = 1_000
PERIOD, GRACE, CREATED = 60 * S, 10 * S, 1_000_000


def verdict(state: PushState | None, at: int) -> tuple[Outcome, str | None]:
    """Judge a job that is due every minute, with a grace of ten seconds, `at` milliseconds after it was created."""
    told = judge(state, created_ms=CREATED, as_of_ms=CREATED + at, grace_ms=GRACE, next_due=lambda after: after + PERIOD)
    return told.outcome, told.message


def after(*signals: Signal) -> PushState:
    state = PushState()
    for signal in signals:
        state = take(state, replace(signal, at_ms=CREATED + signal.at_ms))
    return state


def start(at: int) -> Signal:
    return Signal("start", at)


def success(at: int) -> Signal:
    return Signal("success", at, 0)


def fail(at: int, code: int | None = None) -> Signal:
    return Signal("fail", at, code)


HEALTHY = (Outcome.HEALTHY, None)
CASES: list[tuple[str, PushState | None, int, tuple[Outcome, str | None]]] = [
    ("never heard of, not due yet", None, 60 * S, (Outcome.UNKNOWN, NOT_YET)),
    ("never heard of, within the grace", None, 70 * S, (Outcome.UNKNOWN, NOT_YET)),
    ("never heard of, too late", None, 70 * S + 1, (Outcome.FAILED, NOT_DONE)),
    ("done, not due again", after(success(5 * S)), 65 * S, HEALTHY),
    ("done, within the grace", after(success(5 * S)), 75 * S, HEALTHY),
    ("done, too late", after(success(5 * S)), 75 * S + 1, (Outcome.FAILED, NOT_DONE)),
    ("failed", after(success(5 * S), fail(6 * S)), 7 * S, (Outcome.FAILED, FAILED)),
    ("failed with a code", after(fail(6 * S, 3)), 7 * S, (Outcome.FAILED, "the job reported exit code 3")),
    ("failed, and done since", after(fail(6 * S, 3), success(7 * S)), 8 * S, HEALTHY),
    ("failed, and started again", after(fail(6 * S, 3), start(7 * S)), 8 * S, (Outcome.FAILED, "the job reported exit code 3")),
    ("running", after(success(5 * S), start(60 * S)), 70 * S, HEALTHY),
    ("running for the first time", after(start(1 * S)), 5 * S, (Outcome.UNKNOWN, NOT_YET)),
    ("started in time, still running within its grace", after(success(5 * S), start(74 * S)), 80 * S, HEALTHY),
    ("started in time, did not end", after(success(5 * S), start(60 * S)), 70 * S + 1, (Outcome.FAILED, NOT_ENDED)),
    ("started too late", after(success(5 * S), start(80 * S)), 81 * S, (Outcome.FAILED, NOT_DONE)),
    ("of a service that once had this id", PushState(failed_ms=CREATED - 1, exit_code=3), 5 * S, (Outcome.UNKNOWN, NOT_YET)),
]


@pytest.mark.parametrize(("state", "at", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_reports_mean(state: PushState | None, at: int, expected: tuple[Outcome, str | None]) -> None:
    """Mutants seen red: the grace left out; a start taken for a success; a late start excuses; reports from before creation count."""
    assert verdict(state, at) == expected


GAPS: list[tuple[str, PushState | None, list[tuple[int, int]], int, tuple[Outcome, str | None]]] = [
    ("due while nothing was heard", after(success(5 * S)), [(60, 200)], 201, (Outcome.UNKNOWN, UNHEARD)),
    ("due anew after the gap, in time", after(success(5 * S)), [(60, 200)], 270, (Outcome.UNKNOWN, UNHEARD)),
    ("due anew after the gap, too late", after(success(5 * S)), [(60, 200)], 271, (Outcome.FAILED, NOT_DONE)),
    ("heard again", after(success(210 * S)), [(60, 200)], 271, HEALTHY),
    ("heard again, and late since", after(success(210 * S)), [(60, 200)], 281, (Outcome.FAILED, NOT_DONE)),
    ("late before the gap", after(success(5 * S)), [(76, 200)], 201, (Outcome.FAILED, NOT_DONE)),
    ("the gap began as the grace ended", after(success(5 * S)), [(75, 200)], 201, (Outcome.UNKNOWN, UNHEARD)),
    ("one gap after another", after(success(5 * S)), [(60, 200), (260, 300)], 370, (Outcome.UNKNOWN, UNHEARD)),
    ("a gap that came too late for the next", after(success(5 * S)), [(60, 200), (271, 300)], 301, (Outcome.FAILED, NOT_DONE)),
    ("the end of a run was not heard", after(success(5 * S), start(60 * S)), [(62, 200)], 201, (Outcome.UNKNOWN, UNHEARD)),
    ("the run had been too long before", after(success(5 * S), start(60 * S)), [(71, 200)], 201, (Outcome.FAILED, NOT_ENDED)),
    ("failed before the gap", after(fail(6 * S, 3)), [(60, 200)], 201, (Outcome.FAILED, "the job reported exit code 3")),
    ("never heard of", None, [(60, 200)], 201, (Outcome.UNKNOWN, UNHEARD)),
    ("the gap ended just before it was due", after(success(5 * S)), [(10, 56)], 76, (Outcome.UNKNOWN, UNHEARD)),
    ("the gap was long before", after(success(5 * S)), [(10, 54)], 76, (Outcome.FAILED, NOT_DONE)),
]


@pytest.mark.parametrize(("state", "gaps", "at", "expected"), [case[1:] for case in GAPS], ids=[case[0] for case in GAPS])
def test_nobody_is_late_who_could_not_be_heard(
    state: PushState | None, gaps: list[tuple[int, int]], at: int, expected: tuple[Outcome, str | None]
) -> None:
    """Seconds. Seen red without gaps.

    Mutants seen red: only the last gap counts; any gap excuses what was late before it; a gap excuses however long before it was: of a
    job of once a day, with a restart a day, nothing was ever told.
    """
    told = judge(
        state,
        created_ms=CREATED,
        as_of_ms=CREATED + at * S,
        grace_ms=GRACE,
        next_due=lambda after: after + PERIOD,
        gaps=[(CREATED + began * S, CREATED + ended * S) for began, ended in gaps],
    )
    assert (told.outcome, told.message) == expected


def test_a_time_without_hearing_is_a_gap_and_a_start_is_none() -> None:
    """Mutants seen red: the first moment after a start ends a gap; every moment does."""
    known = Known()
    for at in (NOW_MS, NOW_MS + GAP_MS, NOW_MS + 60_000, NOW_MS + 60_500):
        known.hear(at)
    assert list(known.gaps) == [(NOW_MS + GAP_MS, NOW_MS + 60_000)]
    assert known.as_of_ms == NOW_MS + 60_500
    known.hear(NOW_MS + 61_000, [(7, 8), *known.gaps])
    assert list(known.gaps) == [(7, 8), (NOW_MS + GAP_MS, NOW_MS + 60_000)]


def test_reports_in_any_order_tell_the_same_but_for_the_duration() -> None:
    """Mutant seen red: `take` lets the last to come win."""
    signals = [start(1 * S), success(3 * S), start(10 * S), fail(12 * S, 2), success(20 * S)]
    states = {replace(after(*order), duration_ms=None) for order in permutations(signals)}
    assert len(states) == 1
    assert {verdict(after(*order), 21 * S) for order in permutations(signals)} == {HEALTHY}


@given(
    st.lists(st.builds(Signal, st.sampled_from(["start", "success", "fail"]), st.integers(0, 20), st.none() | st.integers(-2, 2))),
    st.randoms(),
)
def test_whatever_is_reported_the_newest_moments_stay(signals: list[Signal], chance: Random) -> None:
    in_order, mixed = after(*signals), list(signals)
    chance.shuffle(mixed)
    other = after(*mixed)
    assert (in_order.started_ms, in_order.succeeded_ms, in_order.failed_ms) == (other.started_ms, other.succeeded_ms, other.failed_ms)
    assert verdict(in_order, 21)[0] is verdict(other, 21)[0]


def test_how_long_a_job_took() -> None:
    assert after(start(1 * S), success(4 * S)).duration_ms == 3 * S
    assert after(start(1 * S), success(4 * S), success(9 * S)).duration_ms is None  # the second did not say that it started
    assert after(start(1 * S), replace(success(4 * S), duration_ms=2.5)).duration_ms == 2.5
    assert after(success(4 * S), start(1 * S)).duration_ms is None


def test_an_exit_code_speaks_louder_than_the_address_that_was_called() -> None:
    assert verdict(after(Signal("success", 1, 1)), 2) == (Outcome.FAILED, "the job reported exit code 1")


def due(cron: str, zone: str, moment: str) -> str:
    """Return when a cron expression next comes true, in its zone."""
    options = PushOptions(cron=cron, time_zone=zone)
    after_ms = int(datetime.fromisoformat(moment).timestamp() * 1000)
    found = options.next_due(after_ms)
    assert found is not None
    assert found > after_ms
    return datetime.fromtimestamp(found / 1000, ZoneInfo(zone)).isoformat()


DUE = [
    ("30 4 * * *", "Asia/Seoul", "2026-05-17T04:29:59+09:00", "2026-05-17T04:30:00+09:00"),
    ("30 4 * * *", "Asia/Seoul", "2026-05-17T04:30:00+09:00", "2026-05-18T04:30:00+09:00"),
    ("0 9 * * 1-5", "UTC", "2026-05-15T09:00:01+00:00", "2026-05-18T09:00:00+00:00"),
    # Clocks go forward from 2 to 3: what was due at half past two comes as soon as that hour is over, once.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"),
    ("30 2 * * *", "Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"),
    # Clocks go back from 3 to 2: half past two comes twice, and is due the first time only.
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10:00+01:00", "2026-10-26T02:30:00+01:00"),
    # Every hour is every hour, twice two o'clock or not.
    ("0 * * * *", "Europe/Berlin", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"),
]


@pytest.mark.parametrize(("cron", "zone", "moment", "expected"), DUE)
def test_when_a_job_is_due_where_clocks_are_set(cron: str, zone: str, moment: str, expected: str) -> None:
    """Mutants seen red: the zone left out; the first moment taken though it lies before the one asked for."""
    assert due(cron, zone, moment) == expected


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "options", "either period_s or cron"),
    ({"period_s": 60, "cron": "* * * * *"}, "options", "either period_s or cron"),
    ({"period_s": 1}, "options.period_s", "10"),
    ({"cron": "* * * *  "}, "options.cron", "five fields"),
    ({"cron": "0 * * * * *"}, "options.cron", "five fields"),
    ({"cron": "61 * * * *"}, "options.cron", "five fields"),
    ({"cron": "0 0 30 2 *"}, "options.cron", "five fields"),  # never
    ({"period_s": 60, "time_zone": "Mars/Base"}, "options.time_zone", "IANA"),
    ({"period_s": 60, "time_zone": "../etc/passwd"}, "options.time_zone", "IANA"),
    ({"period_s": 60, "grace_s": -1}, "options.grace_s", "0"),
]


@pytest.mark.parametrize(("options", "field", "reason"), REFUSED, ids=[str(case[0]) for case in REFUSED])
def test_options_that_cannot_work_are_refused(options: dict[str, Any], field: str, reason: str) -> None:
    read, flaws = KIND.read(options)
    assert read is None
    assert any(flaw.field == field and reason in flaw.reason for flaw in flaws), flaws


NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def probed(state: PushState | None, *, as_of_ms: int = NOW_MS, created_ms: int = 0, gaps: Iterable[Gap] = ()) -> Any:  # noqa: ANN401  # judged
    target = Target("job", "push", "push://job", 60_000, 5_000, PushOptions(period_s=600, grace_s=60), created_ms, 1)
    known = Known(pushes={} if state is None else {"job": state}, as_of_ms=as_of_ms, gaps=deque(gaps))
    tools: Any = SimpleNamespace(known=known, clock=lambda: NOW)
    return judge_assertions(asyncio.run(probe(target, tools)), target)


def test_a_check_tells_the_jobs_duration_and_its_log_only_of_a_failure() -> None:
    good = probed(PushState(succeeded_ms=NOW_MS - 1, duration_ms=1_500.0, log="fine"))
    assert (good.outcome, good.response_time_ms, good.evidence) == (Outcome.HEALTHY, 1_500.0, None)
    bad = probed(PushState(failed_ms=NOW_MS - 1, exit_code=3, log="disk full, password=abc"))
    assert (bad.outcome, bad.error_message) == (Outcome.FAILED, "the job reported exit code 3")
    assert bad.evidence == "disk full, password=********"


def test_what_is_not_known_now_is_unknown_and_no_job_is_late_before_it_was_looked_at() -> None:
    """Mutants seen red: staleness not looked at; lateness by the clock, though the database was last read before."""
    late = PushState(succeeded_ms=NOW_MS - 661_000)
    assert probed(late).outcome is Outcome.FAILED
    assert probed(late, as_of_ms=NOW_MS - 2_000).outcome is Outcome.HEALTHY
    stale = probed(late, as_of_ms=NOW_MS - 161_000)
    assert (stale.outcome, stale.error_message) == (Outcome.UNKNOWN, "not checked: what the job reported is not known now")
    assert probed(None, created_ms=NOW_MS).error_message == NOT_YET


def test_a_check_excuses_who_was_due_in_a_gap() -> None:
    """Seen red with the gaps not handed on."""
    told = probed(PushState(succeeded_ms=NOW_MS - 661_000), gaps=[(NOW_MS - 100_000, NOW_MS - 50_000)])
    assert (told.outcome, told.error_message) == (Outcome.UNKNOWN, UNHEARD)
