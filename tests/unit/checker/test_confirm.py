"""Confirmation: what is held turns after as many outcomes in a row as the threshold says, and only what is in doubt is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.confirm import UP, Standing, heard, repeat_at, retry_after
from shared.contracts.codes import Outcome

H, D, F, U = Outcome.HEALTHY, Outcome.DEGRADED, Outcome.FAILED, Outcome.UNKNOWN
DOWN = Standing(up=False)
outcomes = st.lists(st.sampled_from([H, D, F, U]), max_size=60)
thresholds = st.integers(min_value=1, max_value=10)


def after(told: list[Outcome], *, failure: int = 2, recovery: int = 2, since: Standing = UP) -> Standing:
    for outcome in told:
        since = heard(since, outcome, failure_threshold=failure, recovery_threshold=recovery)
    return since


@pytest.mark.parametrize(
    ("since", "told", "failure", "recovery", "held"),
    [
        (UP, [H], 2, 2, UP),
        (UP, [D], 2, 2, UP),
        (UP, [U], 2, 2, UP),
        (UP, [F], 2, 2, Standing(up=True, contrary=1)),
        (UP, [F], 1, 2, DOWN),
        (UP, [F, F], 2, 2, DOWN),
        (UP, [F, U, U, F], 2, 2, DOWN),
        (UP, [F, H, F], 2, 2, Standing(up=True, contrary=1)),
        (UP, [F, D, F], 2, 2, Standing(up=True, contrary=1)),
        (UP, [F, F], 3, 2, Standing(up=True, contrary=2)),
        (DOWN, [H], 2, 1, UP),
        (DOWN, [H, D], 2, 2, UP),
        (DOWN, [D, F, H], 2, 2, Standing(up=False, contrary=1)),
        (DOWN, [F, U, F], 2, 2, DOWN),
        (DOWN, [H, U, H, U, H], 2, 3, UP),
    ],
)
def test_what_is_held_after(since: Standing, told: list[Outcome], failure: int, recovery: int, held: Standing) -> None:
    """Seen red with degraded taken for down, with unknown resetting the run, and with one threshold used both ways."""
    assert after(told, failure=failure, recovery=recovery, since=since) == held


@given(told=outcomes, failure=thresholds, recovery=thresholds)
def test_unknown_outcomes_change_nothing_wherever_they_come(told: list[Outcome], failure: int, recovery: int) -> None:
    known = [outcome for outcome in told if outcome is not U]
    assert after(told, failure=failure, recovery=recovery) == after(known, failure=failure, recovery=recovery)


@given(told=outcomes, failure=thresholds, recovery=thresholds)
def test_what_is_held_turns_only_after_a_whole_run_and_after_every_whole_run(told: list[Outcome], failure: int, recovery: int) -> None:
    says = [outcome is not F for outcome in told if outcome is not U]
    up, run = True, 0
    for one in says:
        run = 0 if one == up else run + 1
        if run == (failure if up else recovery):
            up, run = not up, 0
    assert after(told, failure=failure, recovery=recovery) == Standing(up, run)


@pytest.mark.parametrize(
    ("standing", "ended", "after_ms", "next_slot", "due"),
    [
        (UP, 1_000, 500, 60_000, None),
        (DOWN, 1_000, 500, 60_000, None),
        (Standing(up=True, contrary=1), 1_000, 500, 60_000, 1_500),
        (Standing(up=False, contrary=3), 1_000, 500, 1_501, 1_500),
        (Standing(up=True, contrary=1), 1_000, 500, 1_500, None),
        (Standing(up=True, contrary=1), 1_000, 500, 1_200, None),
    ],
)
def test_only_what_is_in_doubt_is_repeated_and_only_before_the_next_slot(
    standing: Standing, ended: int, after_ms: int, next_slot: int, due: int | None
) -> None:
    assert repeat_at(standing, ended, after_ms=after_ms, next_slot_ms=next_slot) == due


@pytest.mark.parametrize(
    ("chosen", "interval", "wait"),
    [(None, 60_000, 6_000), (None, 5_000, 1_000), (None, 1_000, 1_000), (700, 60_000, 700), (700, 1_000, 700)],
)
def test_how_soon_a_check_is_repeated(chosen: int | None, interval: int, wait: int) -> None:
    assert retry_after(chosen, interval) == wait
