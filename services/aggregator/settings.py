"""Settings of the aggregator."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from shared.settings import ServiceSettings


def _known(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"there is no time zone {name!r}"
        raise ValueError(message) from error
    return name


Zone = Annotated[str, AfterValidator(_known)]


class AggregatorSettings(ServiceSettings):
    """What can be chosen for one aggregator process. Replicas may differ, but for the time zone."""

    batch_max_messages: int = Field(
        default=50, ge=1, le=500, description="Messages per transaction at most; more is cheaper and locks longer"
    )
    batch_max_wait_s: float = Field(
        default=0.02, gt=0, le=5, description="How long a transaction waits for more messages; each status change is later by this"
    )
    silence_look_s: float = Field(
        default=1.0, gt=0, le=4, description="How often silent services are looked for; no data is said later by this at most"
    )
    flapping_changes: int = Field(
        default=6, ge=2, le=1000, description="A service whose status changes more often than this is flapping: said once, then not alerted"
    )
    flapping_window_s: float = Field(
        default=3600, ge=60, le=86_400, description="In how many seconds; it is over when at most half as many changes are left in them"
    )
    time_zone: Zone = Field(
        default="UTC",
        description="Where days begin, as the IANA names it (Asia/Seoul). The same for all replicas; past days stay as they are",
    )
    minute_retention_days: int = Field(
        default=3, ge=2, le=731, description="Days that rollups of a minute are kept: a row per minute, service and region"
    )
    hour_retention_days: int = Field(default=731, ge=40, description="Days that rollups of an hour are kept; whole months go")
    partition_months_ahead: int = Field(default=2, ge=1, le=24, description="Months of api_response_times made before they begin")
    raw_retention_days: int = Field(
        default=90,
        ge=62,
        description="Days that api_response_times are kept at least; whole months go. Not below what a repeated message may be late: "
        "it is known by its row",
    )
