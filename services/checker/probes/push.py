"""Push checks: the job reports itself by calling a secret address; the check looks at what it last said and at when it is due."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from services.checker.domain import push
from services.checker.domain.kinds import Kind, Source
from services.checker.domain.known import is_stale
from services.checker.domain.target import Facts, Measurement, Target, Times, not_looked
from services.checker.probes.options import Options, reader
from services.checker.probes.tools import Tools
from shared.contracts.codes import Outcome

CRON_FIELDS = 5
SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


class PushOptions(Options):
    """When the job is to report a success: every so often, or by a cron expression."""

    period_s: int | None = Field(default=None, ge=10, le=366 * 86_400)
    """Seconds from one success to the next. Either this or cron."""
    cron: str | None = Field(default=None, min_length=9, max_length=100)
    """When the job is to run, in five fields as crontab has them: minute, hour, day, month, weekday. Either this or period_s."""
    time_zone: str = Field(default="UTC", min_length=1, max_length=64)
    """The zone of the cron expression, as in Asia/Seoul."""
    grace_s: int = Field(default=300, ge=0, le=31 * 86_400)
    """So many seconds late is still in time; and so long may a job run that reported its start."""

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, written: str | None) -> str | None:
        if written is not None and not _comes_true(written):
            msg = "must be five fields of crontab that come true some day, as in 30 4 * * 1-5"
            raise ValueError(msg)
        return written

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            msg = "must be a zone of the IANA database, as in Asia/Seoul"
            raise ValueError(msg) from None
        return name

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.period_s is None) == (self.cron is None):
            msg = "must have either period_s or cron"
            raise ValueError(msg)
        return self

    def next_due(self, after_ms: int) -> int | None:
        """Return the first moment after another at which the job is due; None if there is none within fifty years."""
        if self.cron is None:
            return after_ms + (self.period_s or 0) * 1000
        return _next_of_cron(self.cron, self.time_zone, after_ms)


KIND = Kind(
    "push",
    "Push (the job reports itself)",
    ("push",),
    "push://name",
    reader(PushOptions),
    PushOptions.model_json_schema(),
    needs_port=False,
    needs_host=False,
    sources={"response_time": Source("number"), "exit_code": Source("number"), "log": Source("text")},
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Say what a job's reports mean now."""
    options = target.options
    if not isinstance(options, PushOptions):
        msg = f"{target.id} has no push options"
        raise TypeError(msg)
    now_ms = int(tools.clock().timestamp() * 1000)
    if is_stale(tools.known, now_ms, target.interval_ms):
        return not_looked("what the job reported is not known now")
    state = tools.known.pushes.get(target.id)
    # As of the moment of knowing: a success that was reported after it is not missing.
    verdict = push.judge(
        state,
        created_ms=target.created_ms,
        as_of_ms=min(now_ms, tools.known.as_of_ms),
        grace_ms=options.grace_s * 1000,
        next_due=options.next_due,
        gaps=tools.known.gaps,
    )
    heard = state is not None and verdict.message != push.NOT_YET
    return Measurement(
        verdict.outcome,
        response_time_ms=state.duration_ms if state and heard and verdict.outcome is Outcome.HEALTHY else None,
        error_type=verdict.error_type,
        error_message=verdict.message,
        times=Times(total_ms=state.duration_ms) if state and heard else Times(),
        facts=Facts(body=state.log.encode(errors="replace"), values={"exit_code": state.exit_code, "log": state.log or None})
        if state and heard
        else Facts(),
    )


def _comes_true(cron: str) -> bool:
    try:
        return len(cron.split()) == CRON_FIELDS and next(CronSim(cron, SOME_DAY), None) is not None
    except CronSimError:
        return False


@lru_cache(maxsize=16_384)
def _next_of_cron(cron: str, zone: str, after_ms: int) -> int | None:
    """Return when a cron expression next comes true. The same is asked at every check until the job reports again."""
    after = datetime.fromtimestamp(after_ms / 1000, ZoneInfo(zone))
    # Where clocks are set back, cronsim gives the first of two equal hours even after the second began.
    return next((due for moment in CronSim(cron, after) if (due := int(moment.timestamp() * 1000)) > after_ms), None)
