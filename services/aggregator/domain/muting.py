"""Who is to be alerted of a status, and why not: the facts are told all the same.

- In a maintenance window nobody is alerted, of whatever status.
- A service that is not well while one that it depends on is down (`mo`) raises no alert of its own. In a chain each link mutes the next:
  a muted service that is down is down. The same while a dependency may be what is wrong though it is not down: when it came back just now,
  or its checks fail and are not confirmed yet (dependencies.py says how long).
- A service that changes too often is flapping: that is announced by the change that made it so; those that follow alert nobody, until it
  has calmed down.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from shared.contracts.codes import Status

FLAPPING = "flapping"
ALERTED = frozenset({Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE})
UNWELL = ALERTED | {Status.NO_DATA}


@dataclass(frozen=True, slots=True)
class Flapping:
    """How many changes of the status within a time are too many. It is over when at most half as many are left."""

    changes: int = 6
    window: timedelta = timedelta(hours=1)

    def holds(self, changes: int, *, before: bool) -> bool:
        """Say whether so many changes are flapping. `before`: it was until now."""
        return changes > (self.calm if before else self.changes)

    @property
    def calm(self) -> int:
        """How many changes are few again."""
        return self.changes // 2


USUAL = Flapping()


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is so around a service: the window it is in, a dependency that is to blame, and its changes of status, this one included."""

    maintenance: UUID | None = None
    dependency: str | None = None
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Alerting:
    """What is said beside a status."""

    maintenance: UUID | None = None
    flapping: bool = False
    muted_by: str | None = None


def alerting(status: Status, before: Alerting, around: Circumstances, limits: Flapping, *, moved: bool) -> Alerting:
    """Return what is to be said beside a status. `moved`: it, or the regions that made it, differ from what was said before."""
    if status is Status.EMPTY:
        return Alerting()
    flapping = limits.holds(around.changes, before=before.flapping)
    muted_by = None
    if around.maintenance is not None:
        muted_by = f"maintenance:{around.maintenance}"
    elif around.dependency is not None and status in UNWELL:
        muted_by = f"dependency:{around.dependency}"
    elif flapping and before.flapping and (moved or before.muted_by is not None):
        muted_by = FLAPPING  # the change that made it flapping was told, and stays told
    return Alerting(around.maintenance, flapping, muted_by)
