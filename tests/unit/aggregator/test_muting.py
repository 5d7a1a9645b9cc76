"""Whom not to alert, and why."""

from datetime import timedelta
from uuid import UUID

import pytest

from services.aggregator.domain.muting import Alerting, Circumstances, Flapping, alerting
from shared.contracts.codes import Status

O, PO, MO, ND, E = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA, Status.EMPTY  # noqa: E741  # the codes as everybody knows them
WINDOW = UUID(int=1)
MAINTENANCE = f"maintenance:{WINDOW}"
LIMITS = Flapping(changes=4, window=timedelta(minutes=10))
QUIET, ANNOUNCED, MUTED = Alerting(), Alerting(None, flapping=True), Alerting(None, flapping=True, muted_by="flapping")


@pytest.mark.parametrize(
    ("status", "around", "muted_by"),
    [
        (MO, Circumstances(), None),
        (MO, Circumstances(maintenance=WINDOW), MAINTENANCE),
        (O, Circumstances(maintenance=WINDOW), MAINTENANCE),  # nor of its recovery
        (MO, Circumstances(dependency="database"), "dependency:database"),
        (PO, Circumstances(dependency="database"), "dependency:database"),
        (ND, Circumstances(dependency="database"), "dependency:database"),
        (O, Circumstances(dependency="database"), None),  # nothing is wrong with it
        (MO, Circumstances(maintenance=WINDOW, dependency="database"), MAINTENANCE),
        (E, Circumstances(maintenance=WINDOW, dependency="database", changes=99), None),
    ],
)
def test_why_nobody_is_alerted(status: Status, around: Circumstances, muted_by: str | None) -> None:
    """Seen red with a dependency that mutes what is well, and with the dependency put before the maintenance."""
    found = alerting(status, QUIET, around, LIMITS, moved=True)

    assert found.muted_by == muted_by
    assert found.maintenance == (around.maintenance if status is not E else None)


@pytest.mark.parametrize(
    ("before", "changes", "moved", "after"),
    [
        (QUIET, 4, True, QUIET),
        (QUIET, 5, True, ANNOUNCED),  # the change that makes it so is told
        (ANNOUNCED, 5, False, ANNOUNCED),  # and is not taken back
        (ANNOUNCED, 6, True, MUTED),
        (MUTED, 6, False, MUTED),
        (MUTED, 3, True, MUTED),  # still more than a half
        (MUTED, 2, False, QUIET),
        (ANNOUNCED, 2, True, QUIET),
        (QUIET, 3, True, QUIET),  # half a limit alone is nothing
    ],
)
def test_flapping_is_announced_once_and_over_at_half(before: Alerting, changes: int, moved: bool, after: Alerting) -> None:  # noqa: FBT001  # a row of a table
    """Seen red with the first flapping change muted, with one limit for beginning and end, and with the mute put upon what was told."""
    assert alerting(MO, before, Circumstances(changes=changes), LIMITS, moved=moved) == after


def test_a_window_that_ends_leaves_a_flapping_service_muted() -> None:
    in_window = Alerting(WINDOW, flapping=True, muted_by=MAINTENANCE)

    assert alerting(MO, in_window, Circumstances(changes=9), LIMITS, moved=False) == MUTED
