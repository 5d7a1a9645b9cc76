"""What the checker knows of jobs that report themselves and of other services' statuses: a copy in memory.

Read by probes, kept by the catalog. Times in milliseconds since the epoch.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PushState:
    """What a watched job last reported. None: never."""

    started_ms: int | None = None
    succeeded_ms: int | None = None
    failed_ms: int | None = None
    exit_code: int | None = None
    duration_ms: float | None = None
    log: str = ""


GAP_MS = 5_000
"""What was heard at moments no further apart than this was heard in between."""
MOST_GAPS = 50

Gap = tuple[int, int]
"""The last moment of hearing before a time without, and the first one after it."""


@dataclass(slots=True)
class Known:
    """The copy. `as_of_ms` is when it last agreed with the database while the broker could be heard: what is older proves nothing.

    In `gaps`, oldest first, it was not so: whatever was said then may be lost. Those in which no checker at all could hear anything are
    kept in the database, and last.
    """

    pushes: dict[str, PushState] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    as_of_ms: int = 0
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=MOST_GAPS))

    def hear(self, now_ms: int, everybodys: Iterable[Gap] = ()) -> None:
        """Note that at this moment everything that was said is known, and when nobody heard anything."""
        if self.as_of_ms and now_ms - self.as_of_ms > GAP_MS:
            self.gaps.append((self.as_of_ms, now_ms))
        if new := set(everybodys) - set(self.gaps):
            self.gaps = deque(sorted([*self.gaps, *new]), maxlen=MOST_GAPS)
        self.as_of_ms = now_ms


def is_stale(known: Known, now_ms: int, interval_ms: int) -> bool:
    """Say whether the copy is too old to tell anything: 2.5 intervals and 10 s, and never more than ten minutes."""
    return now_ms - known.as_of_ms > min(interval_ms * 5 // 2, 600_000) + 10_000
