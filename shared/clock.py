"""Time as an argument. Only `__main__` picks the real clock."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present moment, timezone-aware, UTC."""
    return datetime.now(UTC)
