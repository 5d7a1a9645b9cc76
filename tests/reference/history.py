"""What happened: the facts that every number follows from. Moments in milliseconds since 1970, UTC.

This folder is a second aggregator, for tests: written from docs/sla.md and the contracts alone, slow, in memory, whole history at once.
It imports nothing of services/aggregator, so that a mistake there is not made here, too.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEALTHY, DEGRADED, FAILED, UNKNOWN = "healthy", "degraded", "failed", "unknown"


@dataclass(frozen=True)
class Check:
    """One check that arrived, perhaps for the second time. `attempt` above 0: a confirmation."""

    region: str
    slot: int
    outcome: str
    ms: float | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Definition:
    """What was asked for from `since` on, until the next definition. `regions` empty: all."""

    since: int
    interval: int
    timeout: int
    failure: int
    recovery: int
    quorum: str = "majority"
    regions: tuple[str, ...] = ()
    watched: bool = True

    @property
    def silent_after(self) -> int:
        """How long nothing must be heard until nothing is known: 2.5 intervals, the time a check may take, and never less than 3 s."""
        return max(3000, self.interval * 5 // 2 + self.timeout)


@dataclass(frozen=True)
class Correction:
    """A stretch that a person reclassified, since `made` and until it was `revoked`. Of two the later in the list holds."""

    start: int
    end: int
    state: str
    made: int = 0
    revoked: int | None = None

    def holds(self, at: int) -> bool:
        """Say whether it was believed at a moment."""
        return self.made <= at and (self.revoked is None or at < self.revoked)


@dataclass(frozen=True)
class Stay:
    """A stretch that lies over the facts: a maintenance window, or an exclusion of a contract (which is known since it was `made`)."""

    start: int
    end: int
    made: int = 0


@dataclass(frozen=True)
class History:
    """One service: everything that arrived, in whatever order. `definitions` ascend by `since`; the first began its life."""

    definitions: tuple[Definition, ...]
    checks: tuple[Check, ...]
    now: int
    corrections: tuple[Correction, ...] = ()
    maintenances: tuple[Stay, ...] = ()
    exclusions: tuple[Stay, ...] = field(default=())

    def facts(self) -> list[Check]:
        """Each slot of each region once, by slot. The first to arrive is the fact; the others repeat it."""
        once: dict[tuple[str, int], Check] = {}
        for check in self.checks:
            once.setdefault((check.region, check.slot), check)
        return sorted(once.values(), key=lambda check: (check.slot, check.region))

    def believed(self) -> tuple[Correction, ...]:
        """Return the corrections that hold by now."""
        return tuple(one for one in self.corrections if one.holds(self.now))

    def definition_at(self, moment: int) -> Definition:
        """What was asked for at a moment."""
        asked = self.definitions[0]
        for definition in self.definitions:
            if definition.since <= moment:
                asked = definition
        return asked


def moment_of(ms: int) -> datetime:
    """Return milliseconds as a moment."""
    return EPOCH + timedelta(milliseconds=ms)


def ms_of(moment: datetime) -> int:
    """Return a moment as milliseconds."""
    return (moment - EPOCH) // timedelta(milliseconds=1)
