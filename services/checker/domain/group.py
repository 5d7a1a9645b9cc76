"""What follows for a group from the statuses of its members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contracts.codes import Outcome, Status

NAMED = 5
"""So many members are named in a message, at most."""


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """What the members' statuses mean, and for anything but healthy why, naming members in the order of the definition."""

    outcome: Outcome
    message: str | None = None


def judge(members: Sequence[str], statuses: Mapping[str, str], *, least: int | None = None) -> GroupVerdict:
    """Return the verdict on a group: the worst of its members, or with `least` whether at least so many of them work.

    A member whose status is not known has no data; one that is not watched (`e`) is ignored. Nothing is called good or bad that a member
    without data could still turn.
    """
    by_status = {status: [one for one in members if statuses.get(one, Status.NO_DATA) == status] for status in Status}
    if len(by_status[Status.EMPTY]) == len(members):
        return GroupVerdict(Outcome.UNKNOWN, "no member is watched")
    return _worst(by_status) if least is None else _at_least(by_status, least)


def _worst(by_status: Mapping[Status, Sequence[str]]) -> GroupVerdict:
    if by_status[Status.MAJOR_OUTAGE]:
        return GroupVerdict(Outcome.FAILED, _told(by_status, Status.MAJOR_OUTAGE))
    if by_status[Status.NO_DATA]:
        return GroupVerdict(Outcome.UNKNOWN, _told(by_status, Status.NO_DATA))
    if by_status[Status.PARTIAL_OUTAGE]:
        return GroupVerdict(Outcome.DEGRADED, _told(by_status, Status.PARTIAL_OUTAGE))
    return GroupVerdict(Outcome.HEALTHY)


def _at_least(by_status: Mapping[Status, Sequence[str]], least: int) -> GroupVerdict:
    working = len(by_status[Status.OPERATIONAL]) + len(by_status[Status.PARTIAL_OUTAGE])
    unsure = len(by_status[Status.NO_DATA]) + len(by_status[Status.EMPTY])
    troubled = [status for status in (Status.MAJOR_OUTAGE, Status.PARTIAL_OUTAGE, Status.NO_DATA) if by_status[status]]
    if working >= least:
        return GroupVerdict(Outcome.DEGRADED, _told(by_status, *troubled)) if troubled else GroupVerdict(Outcome.HEALTHY)
    if working + unsure < least:
        return GroupVerdict(Outcome.FAILED, f"fewer than {least} work; {_told(by_status, *troubled)}")
    why = _told(by_status, *troubled) or "the others are not watched"
    return GroupVerdict(Outcome.UNKNOWN, f"whether {least} work is not known; {why}")


_WORDS = {Status.MAJOR_OUTAGE: "down", Status.PARTIAL_OUTAGE: "partly down", Status.NO_DATA: "no data"}


def _told(by_status: Mapping[Status, Sequence[str]], *which: Status) -> str:
    return "; ".join(f"{_WORDS[status]}: {_named(by_status[status])}" for status in which)


def _named(members: Sequence[str]) -> str:
    more = len(members) - NAMED
    return ", ".join(members[:NAMED]) + (f" and {more} more" if more > 0 else "")
