"""All services together; the head of the stream; months of partitions; percentiles of bins."""

import math
import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator import partitions
from services.aggregator.domain.intake import Intake, look
from services.aggregator.domain.system import overall
from services.aggregator.sketch import GAMMA, LEAST_MS, RELATIVE_ERROR, percentiles
from shared.contracts.codes import OverallStatus, Status

O, PO, MO, ND = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA  # noqa: E741  # the codes as everybody knows them
START = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("counts", "status", "message"),
    [
        ({}, OverallStatus.OPERATIONAL, "Nothing is watched yet."),
        ({O: 5}, OverallStatus.OPERATIONAL, "All 5 services are operational."),
        ({O: 4, ND: 1}, OverallStatus.DEGRADED, "Of 5 services: 1 without data."),
        ({ND: 5}, OverallStatus.DEGRADED, "Of 5 services: 5 without data."),
        ({Status.EMPTY: 5}, OverallStatus.OPERATIONAL, "Nothing is watched yet."),
        ({O: 4, PO: 1}, OverallStatus.DEGRADED, "Of 5 services: 1 partly down."),
        ({PO: 5}, OverallStatus.DEGRADED, "Of 5 services: 5 partly down."),
        ({O: 4, MO: 1}, OverallStatus.DEGRADED, "Of 5 services: 1 down."),
        ({O: 2, MO: 2, Status.EMPTY: 9}, OverallStatus.OUTAGE, "Of 4 services: 2 down."),
        ({O: 1, MO: 1, ND: 8}, OverallStatus.OUTAGE, "Of 10 services: 1 down, 8 without data."),
        ({PO: 3, MO: 2}, OverallStatus.DEGRADED, "Of 5 services: 2 down, 3 partly down."),
    ],
)
def test_the_whole_by_its_counts(counts: dict[Status, int], status: OverallStatus, message: str) -> None:
    found = overall(counts)

    assert (found.overall, found.operational, found.message) == (status, counts.get(O, 0), message)


def test_the_intake_is_settled_since_it_saw_nothing_waiting_and_begins_anew_after_any_trouble() -> None:
    def seconds(number: int) -> datetime:
        return START + timedelta(seconds=number)

    intake = look(Intake(), now=seconds(0), waiting=3, storing=True)
    assert intake.settled_since is None, "a backlog"
    intake = look(intake, now=seconds(1), waiting=0, storing=True)
    intake = look(intake, now=seconds(2), waiting=0, storing=True)
    assert intake.settled_since == seconds(1)
    assert look(intake, now=seconds(3), waiting=0, storing=False).settled_since is None, "results cannot be stored"
    assert look(intake, now=seconds(3), waiting=None, storing=True).settled_since is None, "the broker is away"
    assert look(intake, now=seconds(60), waiting=0, storing=True).settled_since == seconds(60), "the process stood still"


def looks(waiting: Iterable[int], *, every_s: float = 1) -> list[float | None]:
    """Return since which second silence may be concluded, look by look; None while nothing may."""
    intake, found = Intake(), list[float | None]()
    for number, messages in enumerate(waiting):
        intake = look(intake, now=START + timedelta(seconds=number * every_s), waiting=messages, storing=True)
        since = intake.listening_since
        found.append(None if since is None else (since - START).total_seconds())
    return found


def test_a_message_that_waits_now_and_then_does_not_put_off_silence_for_ever() -> None:
    """Seen red with an intake that begins anew at each look with a message waiting."""
    found = looks([0, 0, 0, 4] * 30)

    assert found[-4:] == [None, 0, 0, None], "nothing is concluded while it waits, nor at the next look; then all of the time counts"


def test_a_backlog_begins_anew_when_it_lasts() -> None:
    """Seen red with a backlog that is measured from the last look, and with one that is forgiven however long it lasts."""
    assert looks([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])[-2:] == [None, 0], "five seconds"
    assert looks([0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0])[-2:] == [9, 9], "six seconds"


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (date(2026, 1, 15), [date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)]),
        (date(2026, 12, 31), [date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)]),
    ],
)
def test_months_go_on_over_the_turn_of_the_year(today: date, expected: list[date]) -> None:
    assert partitions.CHECKS.starts(today, ahead=1) == expected
    assert [partitions.CHECKS.end(partitions.CHECKS.name(first)) for first in expected[:-1]] == expected[1:]


@given(st.lists(st.floats(LEAST_MS, 1e7), min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_percentiles_of_bins_are_within_one_percent_and_the_same_however_the_bins_come(times: list[float], chance: random.Random) -> None:
    """Seen red with bins that are cut down instead of up: each value is then two percent too great."""
    keys = [math.ceil(math.log(one) / math.log(GAMMA)) for one in times]
    counted = sorted(Counter(keys).items())

    found = percentiles(counted)

    assert found is not None
    for value, share in ((found.p50, 0.5), (found.p95, 0.95), (found.p99, 0.99)):
        true = sorted(times)[int(share * (len(times) - 1))]
        assert abs(value - true) <= true * RELATIVE_ERROR * (1 + 1e-9) + 0.0005, "the last is what rounding to microseconds may add"
    assert percentiles((key, 1) for key in chance.sample(keys, len(keys))) == found


def test_nothing_has_no_percentiles() -> None:
    assert percentiles([]) is None
