"""What a job that reports itself has said, and what follows from it. Times in milliseconds since the epoch.

A job is due when its period or its cron expression says so, counted from its last success; it may be late by a grace, and a job that said
that it started may run for as long.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from services.checker.domain.known import Gap, PushState
from shared.contracts.codes import ErrorType, Outcome

NOT_YET = "has not reported yet"
NOT_DONE = "no success reported since it was due"
NOT_ENDED = "the job started and did not end"
FAILED = "the job reported that it failed"
UNHEARD = "reports could not be heard meanwhile"


@dataclass(frozen=True, slots=True)
class Signal:
    """One report of a job: "start", "success" or "fail"."""

    what: str
    at_ms: int
    exit_code: int | None = None
    duration_ms: float | None = None
    log: str = ""


@dataclass(frozen=True, slots=True)
class PushVerdict:
    """What a job's reports mean. `error_type` and `message` where it is not healthy."""

    outcome: Outcome
    error_type: ErrorType | None = None
    message: str | None = None


def take(state: PushState, signal: Signal) -> PushState:
    """Return what is known after a report. In whatever order reports come: what is older never replaces what is newer.

    An exit code other than 0 is a failure, whatever was called. How long the job took is what it says, or the time since it said that it
    started.
    """
    if signal.what == "start":
        return replace(state, started_ms=_latest(state.started_ms, signal.at_ms))
    ended = _latest(state.succeeded_ms, state.failed_ms)
    failed = signal.what == "fail" or bool(signal.exit_code)
    # Of two ends in one millisecond the failure counts.
    if ended is None or (signal.at_ms, failed) >= (ended, state.failed_ms == ended):
        started = state.started_ms
        running = started is not None and started <= signal.at_ms and (ended is None or started > ended)
        took = float(signal.at_ms - started) if running and started is not None else None
        duration = took if signal.duration_ms is None else signal.duration_ms
        state = replace(state, exit_code=signal.exit_code, duration_ms=duration, log=signal.log)
    if failed:
        return replace(state, failed_ms=_latest(state.failed_ms, signal.at_ms))
    return replace(state, succeeded_ms=_latest(state.succeeded_ms, signal.at_ms))


def judge(
    state: PushState | None,
    *,
    created_ms: int,
    as_of_ms: int,
    grace_ms: int,
    next_due: Callable[[int], int | None],
    gaps: Iterable[Gap] = (),
) -> PushVerdict:
    """Return what a job's reports, as they were known at `as_of_ms`, mean.

    `next_due` gives the first moment after another at which the job is due (None: never again). Reports from before `created_ms` are
    those of another service that once had this id. Whoever was expected to report in one of the `gaps` (oldest first; expected: within a
    grace of when it was due) is not called late before it is due anew after that gap; what was late before it stays so. A gap long before
    it was due excuses nobody: with a restart a day a job of once a day would never be late.
    """

    def late(at_ms: int, words: str) -> PushVerdict:
        for began, ended in gaps:
            expected = began <= at_ms and ended >= at_ms - 2 * grace_ms
            anew = next_due(ended) if expected else None
            if anew is not None:
                at_ms = max(at_ms, anew + grace_ms)
        heard = as_of_ms > at_ms
        return PushVerdict(Outcome.FAILED, ErrorType.TIMEOUT, words) if heard else PushVerdict(Outcome.UNKNOWN, ErrorType.UNKNOWN, UNHEARD)

    known = state or PushState()
    started, succeeded, failed = (_since(created_ms, one) for one in (known.started_ms, known.succeeded_ms, known.failed_ms))
    ended = _latest(succeeded, failed)
    if failed is not None and failed == ended:
        code = f"the job reported exit code {known.exit_code}" if known.exit_code else FAILED
        return PushVerdict(Outcome.FAILED, ErrorType.UNKNOWN, code)
    due = next_due(created_ms if succeeded is None else succeeded)
    latest = None if due is None else due + grace_ms
    running = started is not None and (ended is None or started > ended)
    if running and started is not None and (latest is None or started <= latest):
        if as_of_ms > started + grace_ms:
            return late(started + grace_ms, NOT_ENDED)
    elif latest is not None and as_of_ms > latest:
        return late(latest, NOT_DONE)
    return PushVerdict(Outcome.UNKNOWN, ErrorType.UNKNOWN, NOT_YET) if succeeded is None else PushVerdict(Outcome.HEALTHY)


def _latest(one: int | None, other: int | None) -> int | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


def _since(created_ms: int, moment: int | None) -> int | None:
    return None if moment is None or moment < created_ms else moment
