"""The ground that every contract stands on: immutable, strict about what it writes, tolerant of what newer senders add."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer


class Contract(BaseModel):
    """A message part: frozen; fields that it does not know are ignored, so that a sender may add some first."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        msg = "needs a time zone, as in 2026-01-31T09:30:00.000Z"
        raise ValueError(msg)
    return value.astimezone(UTC)


def rfc3339(value: datetime) -> str:
    """Return `value` as RFC 3339 in UTC with milliseconds: `2026-01-31T09:30:00.000Z`."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, AfterValidator(_aware), PlainSerializer(rfc3339, return_type=str, when_used="json")]
"""A moment: timezone-aware, UTC inside, RFC 3339 with milliseconds in JSON."""
