"""All services together.

Watched services are those that are neither removed nor inactive; known ones are those of them with data (`o`, `po`, `mo`).
`outage`: at least one is `mo`, and at least half of the known ones are. `degraded`: any is `po`, `mo` or without data (`nd`), for what is
unknown is never called operational; so a service that was only just registered degrades the whole until its first checks come.
Else `operational`: every watched service is `o`, or none is watched. The message says how many are without data.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.codes import OverallStatus, Status


@dataclass(frozen=True, slots=True)
class Whole:
    """The overall status, its counts, and a sentence for people."""

    overall: OverallStatus
    operational: int
    total: int
    message: str


def overall(counts: Mapping[Status, int]) -> Whole:
    """Return the whole, from how many watched services have each status."""
    watched = {status: number for status, number in counts.items() if status is not Status.EMPTY}
    total = sum(watched.values())
    up, part, down, silent = (
        watched.get(one, 0) for one in (Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA)
    )
    if down and 2 * down >= up + part + down:
        status = OverallStatus.OUTAGE
    elif down or part or silent:
        status = OverallStatus.DEGRADED
    else:
        status = OverallStatus.OPERATIONAL
    return Whole(status, up, total, _message(total, part, down, silent))


def _message(total: int, part: int, down: int, silent: int) -> str:
    if total == 0:
        return "Nothing is watched yet."
    told = [(down, "down"), (part, "partly down"), (silent, "without data")]
    parts = [f"{number} {what}" for number, what in told if number]
    return f"Of {total} services: {', '.join(parts)}." if parts else f"All {total} services are operational."
