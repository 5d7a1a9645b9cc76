"""What the checker knows of jobs that report themselves and of other services' statuses: a copy in memory.

Read by probes, kept by the catalog. Times in milliseconds since the epoch.
"""

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


@dataclass(slots=True)
class Known:
    """The copy. `as_of_ms` is when it last was seen to agree with the database: what is older than a few intervals proves nothing."""

    pushes: dict[str, PushState] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    as_of_ms: int = 0


def is_stale(known: Known, now_ms: int, interval_ms: int) -> bool:
    """Say whether the copy is too old to tell anything: 2.5 intervals and 10 s, and never more than ten minutes."""
    return now_ms - known.as_of_ms > min(interval_ms * 5 // 2, 600_000) + 10_000
