"""When a maintenance window begins and ends, and what may be changed of it meanwhile."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.incidents.domain.maintenance import CannotChange, Changes, Window, WindowStep, changed, due, ended
from shared.contracts.codes import MaintenanceStatus

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
SCHEDULED, IN_PROGRESS, COMPLETED, CANCELLED = MaintenanceStatus
ANNOUNCED = Window(UUID(int=1), "New disks", ("database",), START, START + timedelta(hours=1), "kim", START - timedelta(days=1))
BEGUN = replace(ANNOUNCED, status=IN_PROGRESS, version=2)
DONE = replace(BEGUN, status=COMPLETED, version=3)


def at(minute: float) -> datetime:
    """Return a moment of the story; the window is from 0 to 60."""
    return START + timedelta(minutes=minute)


@pytest.mark.parametrize(
    ("window", "minute", "steps"),
    [
        (ANNOUNCED, -1, []),
        (ANNOUNCED, 0, [(WindowStep.STARTED, IN_PROGRESS, 2)]),
        (ANNOUNCED, 59, [(WindowStep.STARTED, IN_PROGRESS, 2)]),
        (ANNOUNCED, 600, [(WindowStep.STARTED, IN_PROGRESS, 2), (WindowStep.ENDED, COMPLETED, 3)]),  # nobody looked for long
        (BEGUN, 59, []),
        (BEGUN, 60, [(WindowStep.ENDED, COMPLETED, 3)]),
        (DONE, 600, []),
        (replace(ANNOUNCED, status=CANCELLED), 30, []),
    ],
)
def test_a_window_begins_and_ends_when_its_time_has_come(
    window: Window, minute: int, steps: list[tuple[WindowStep, MaintenanceStatus, int]]
) -> None:
    found = list(due(window, at(minute)))

    assert [(step, after.status, after.version) for after, step in found] == steps
    assert all((after.starts_at, after.ends_at) == (window.starts_at, window.ends_at) for after, _ in found), "as it was announced"


@given(st.lists(st.integers(-100, 200), min_size=1, max_size=20))
def test_however_often_and_late_somebody_looks_each_step_is_taken_once(minutes: list[int]) -> None:
    """Seen red with a window that began and ended unseen only ended."""
    window, steps = ANNOUNCED, []
    for minute in sorted(minutes):
        for after, step in due(window, at(minute)):
            assert after.version == window.version + 1
            window = after
            steps.append(step)

    latest = max(minutes)
    assert steps == [WindowStep.STARTED, WindowStep.ENDED][: (latest >= 0) + (latest >= 60)]


@pytest.mark.parametrize(
    ("window", "minute", "status", "ends"),
    [(ANNOUNCED, -5, CANCELLED, 60), (BEGUN, 20, COMPLETED, 20), (BEGUN, 61, COMPLETED, 60)],
)
def test_a_window_that_is_ended_by_hand_ends_now_or_never_was(window: Window, minute: int, status: MaintenanceStatus, ends: int) -> None:
    found = ended(window, at(minute))

    assert found is not None
    assert (found[0].status, found[0].ends_at, found[0].version, found[1]) == (status, at(ends), window.version + 1, WindowStep.ENDED)
    assert ended(found[0], at(minute)) is None, "to end it again is nothing"


def test_what_is_changed_before_the_end_is_one_version_and_what_changes_nothing_is_none() -> None:
    found = changed(BEGUN, Changes(ends_at=at(90), services=("database", "api")), at(30))

    assert found == (replace(BEGUN, ends_at=at(90), services=("database", "api"), version=3), WindowStep.UPDATED)
    assert changed(DONE, Changes(title="New disks"), at(90)) is None


@pytest.mark.parametrize(
    ("window", "changes", "minute", "field"),
    [
        (DONE, Changes(title="More disks"), 90, ""),
        (BEGUN, Changes(starts_at=at(40)), 30, "starts_at"),
        (BEGUN, Changes(ends_at=at(20)), 30, "ends_at"),
        (ANNOUNCED, Changes(starts_at=at(-20)), -10, "starts_at"),
        (ANNOUNCED, Changes(starts_at=at(70)), -10, "ends_at"),
    ],
)
def test_what_cannot_be_changed_names_its_field(window: Window, changes: Changes, minute: int, field: str) -> None:
    with pytest.raises(CannotChange) as refusal:
        changed(window, changes, at(minute))
    assert refusal.value.field == field
