"""The one sentence at the top of the page: which of a few things is true of all services together."""

from collections.abc import Iterable
from enum import StrEnum

from shared.contracts.codes import Status


class Headline(StrEnum):
    """What can be said of everything at once; each has its sentence in the dictionaries."""

    OPERATIONAL = "operational"
    DEGRADED = "degraded"
    OUTAGE = "outage"
    UNKNOWN = "unknown"
    PARTLY_UNKNOWN = "partly_unknown"
    NOTHING = "nothing"


def headline(statuses: Iterable[Status]) -> Headline:
    """Return the headline for the statuses of all services. What is not known is never called operational."""
    seen = {status for status in statuses if status is not Status.EMPTY}
    if not seen:
        return Headline.NOTHING
    if Status.MAJOR_OUTAGE in seen:
        return Headline.OUTAGE
    if Status.PARTIAL_OUTAGE in seen:
        return Headline.DEGRADED
    if seen == {Status.NO_DATA}:
        return Headline.UNKNOWN
    return Headline.PARTLY_UNKNOWN if Status.NO_DATA in seen else Headline.OPERATIONAL
