"""Whether this process is at the head of the stream of results, and since when.

Silence of a service may be concluded only from results that would have been here by now. While this process was away, has a
backlog to work through, or cannot store what it takes, the silence is its own. So silence is measured from the moment since when
the intake is settled: asked every second or so, the broker had nothing waiting and what was taken could be stored.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

PAUSE = timedelta(seconds=5)
"""A longer gap between two looks means that this process itself stood still, or its machine did."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Since when results are taken as they come (None: they are not now), and when that was last seen."""

    settled_since: datetime | None = None
    looked_at: datetime | None = None


def look(intake: Intake, *, now: datetime, waiting: int | None, storing: bool) -> Intake:
    """Return the intake after one more look. `waiting` is how many messages lie in the queue, None if the broker did not say."""
    if waiting != 0 or not storing:
        return Intake(None, now)
    paused = intake.looked_at is None or now - intake.looked_at > PAUSE
    if intake.settled_since is None or paused:
        return Intake(now, now)
    return Intake(intake.settled_since, now)
