"""Whether this process is at the head of the stream of results, and since when.

Silence of a service may be concluded only from results that would have been here by now. While this process was away, has a
backlog to work through, or cannot store what it takes, the silence is its own. So silence is measured from the moment since when
the intake is settled: asked every second or so, the broker had nothing waiting and what was taken could be stored.

Where results come all the time, one of them waits at many a look. So a short backlog does not unsettle the intake: nothing is concluded
while it lasts, nor at the first look after it, for what was taken last may not be stored yet.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

PAUSE = timedelta(seconds=5)
"""A longer gap between two looks means that this process itself stood still, or its machine did; a longer backlog, that it is behind."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Since when results are taken as they come (None: they are not now), when that was last seen, and since when something waits."""

    settled_since: datetime | None = None
    looked_at: datetime | None = None
    waiting_since: datetime | None = None
    quiet: bool = False
    """Whether nothing waited at the last look, nor at the one before it where the intake was settled by then."""

    @property
    def listening_since(self) -> datetime | None:
        """Since when silence is the services' own; None if nothing may be concluded now."""
        return self.settled_since if self.quiet else None


def look(intake: Intake, *, now: datetime, waiting: int | None, storing: bool) -> Intake:
    """Return the intake after one more look. `waiting` is how many messages lie in the queue, None if the broker did not say."""
    if waiting is None or not storing:
        return Intake(None, now)
    stood_still = intake.looked_at is None or now - intake.looked_at > PAUSE
    settled_since = None if stood_still else intake.settled_since
    if waiting:
        since = intake.waiting_since or now
        return Intake(None if now - since > PAUSE else settled_since, now, since)
    if settled_since is None:
        return Intake(now, now, quiet=True)
    return Intake(settled_since, now, quiet=intake.waiting_since is None)
