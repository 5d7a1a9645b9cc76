"""The one sentence at the top of the page: which of a few things is true of all services together."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.contracts.codes import Status


class Headline(StrEnum):
    """What can be said of everything at once; each has its sentence in the dictionaries."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    IMPAIRED = "impaired"
    MAINTENANCE = "maintenance"
    OUTAGE = "outage"
    UNKNOWN = "unknown"
    PARTLY_UNKNOWN = "partly_unknown"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the page knows of one service. `degraded`: it answers, but not as it should; `in_maintenance`: as announced."""

    status: Status
    degraded: bool = False
    in_maintenance: bool = False


def headline(services: Iterable[Seen]) -> Headline:
    """Return the headline for all services. What is not known is never called operational; announced work is no outage."""
    seen = [one for one in services if one.status is not Status.EMPTY]
    if not seen:
        return Headline.NOTHING
    unannounced = [one for one in seen if not one.in_maintenance]
    if any(one.in_maintenance for one in seen) and all(one.status is Status.OPERATIONAL for one in unannounced):
        return Headline.MAINTENANCE
    return _of_those(unannounced)


def _of_those(seen: list[Seen]) -> Headline:
    found = {one.status for one in seen}
    if Status.MAJOR_OUTAGE in found:
        return Headline.OUTAGE
    if Status.PARTIAL_OUTAGE in found:
        partly = [one for one in seen if one.status is Status.PARTIAL_OUTAGE]
        return Headline.IMPAIRED if all(one.degraded for one in partly) else Headline.DEGRADED
    if found == {Status.NO_DATA}:
        return Headline.UNKNOWN
    return Headline.PARTLY_UNKNOWN if Status.NO_DATA in found else Headline.OPERATIONAL
