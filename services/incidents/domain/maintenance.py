"""A maintenance window, and the steps that it can take: scheduled → in_progress → completed, or cancelled before it began.

It begins and ends when its time has come, whoever looks, and however late. Each step is one version and one event. What has ended stays
as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.contracts.codes import MaintenanceStatus

SINCE_ASKED = timedelta(minutes=1)
"""How long it may take until a window that is to begin now is asked for."""


class WindowStep(StrEnum):
    """What happened to a window."""

    SCHEDULED = "scheduled"
    UPDATED = "updated"
    STARTED = "started"
    ENDED = "ended"


class CannotChange(ValueError):  # noqa: N818  # names the fact
    """The window cannot be changed so; the message is for the field in `field`, empty for the whole."""

    def __init__(self, *, field: str, reason: str) -> None:
        """Name the field at fault, and why."""
        super().__init__(reason)
        self.field = field


@dataclass(frozen=True, slots=True)
class Window:
    """Announced work, as it is at `version`. Once it has begun and ended, `ends_at` is when it did."""

    id: UUID
    title: str
    services: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    created_at: datetime
    description: str = ""
    status: MaintenanceStatus = MaintenanceStatus.SCHEDULED
    version: int = 1

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in {MaintenanceStatus.COMPLETED, MaintenanceStatus.CANCELLED}


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to change of a window; None: as it was."""

    title: str | None = None
    description: str | None = None
    services: tuple[str, ...] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None


def due(window: Window, now: datetime) -> Iterator[tuple[Window, WindowStep]]:
    """Give the steps whose time has come, in order: two for a window that began and ended while nobody looked."""
    if window.status is MaintenanceStatus.SCHEDULED and window.starts_at <= now:
        window = replace(window, status=MaintenanceStatus.IN_PROGRESS, version=window.version + 1)
        yield window, WindowStep.STARTED
    if window.status is MaintenanceStatus.IN_PROGRESS and window.ends_at <= now:
        yield replace(window, status=MaintenanceStatus.COMPLETED, version=window.version + 1), WindowStep.ENDED


def ended(window: Window, now: datetime) -> tuple[Window, WindowStep] | None:
    """Return the window as it ends now: completed, or cancelled if it had not begun. None if it is over already."""
    if window.is_over:
        return None
    after = replace(window, version=window.version + 1)
    if window.status is MaintenanceStatus.SCHEDULED:
        return replace(after, status=MaintenanceStatus.CANCELLED), WindowStep.ENDED
    return replace(after, status=MaintenanceStatus.COMPLETED, ends_at=max(min(now, window.ends_at), window.starts_at)), WindowStep.ENDED


def changed(window: Window, changes: Changes, now: datetime) -> tuple[Window, WindowStep] | None:
    """Return the window as changed, or None if nothing is. Raises `CannotChange`."""
    wanted = {name: value for name in Changes.__dataclass_fields__ if (value := getattr(changes, name)) is not None}
    after = replace(window, **wanted)
    if after == window:
        return None
    if window.is_over:
        raise CannotChange(field="", reason=f"this window is {window.status.value} and stays as it is")
    if after.starts_at != window.starts_at and window.status is not MaintenanceStatus.SCHEDULED:
        raise CannotChange(field="starts_at", reason="it has begun")
    check_times(after, now, starts=after.starts_at != window.starts_at)
    return replace(after, version=window.version + 1), WindowStep.UPDATED


def check_times(window: Window, now: datetime, *, starts: bool = True) -> None:
    """Raise `CannotChange` for times that a window cannot have. `starts`: its start is new; the past is not announced, but corrected."""
    if starts and window.starts_at < now - SINCE_ASKED:
        raise CannotChange(field="starts_at", reason="lies in the past: for what was, there are corrections and exclusions")
    if window.ends_at <= window.starts_at:
        raise CannotChange(field="ends_at", reason="must be later than starts_at")
    if window.ends_at <= now:
        raise CannotChange(field="ends_at", reason="lies in the past; to end it now, end it")
