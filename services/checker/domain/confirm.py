"""When to look again before the next slot: an outcome that contradicts what is held of a service is repeated soon. Times in milliseconds.

Held is up or down. A healthy or degraded outcome says up, a failed one down; an unknown one says nothing, and neither confirms nor resets.
What is held turns once as many outcomes in a row say otherwise as the threshold of that direction. This decides only how soon a check is
repeated; what the outcomes mean for the status is the aggregator's.
"""

from dataclasses import dataclass

from shared.contracts.codes import Outcome

SHORTEST_DEFAULT_MS = 1_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What is held of a service, and how many outcomes in a row said otherwise. Nothing known is held up: a first failure is repeated."""

    up: bool = True
    contrary: int = 0


UP = Standing()


def heard(standing: Standing, outcome: Outcome, *, failure_threshold: int, recovery_threshold: int) -> Standing:
    """Return what is held after one more outcome."""
    if outcome is Outcome.UNKNOWN:
        return standing
    if (outcome is not Outcome.FAILED) == standing.up:
        return Standing(standing.up) if standing.contrary else standing
    contrary = standing.contrary + 1
    if contrary >= (failure_threshold if standing.up else recovery_threshold):
        return Standing(not standing.up)
    return Standing(standing.up, contrary)


def retry_after(retry_interval_ms: int | None, interval_ms: int) -> int:
    """Return how long after the end of a check it is repeated: as was set, or a tenth of the interval, a second at least."""
    return max(SHORTEST_DEFAULT_MS, interval_ms // 10) if retry_interval_ms is None else retry_interval_ms


def repeat_at(standing: Standing, ended_ms: int, *, after_ms: int, next_slot_ms: int) -> int | None:
    """Return when to repeat a check that ended just now; None if nothing is in doubt, or the next slot comes no later."""
    if not standing.contrary:
        return None
    due = ended_ms + after_ms
    return due if due < next_slot_ms else None
