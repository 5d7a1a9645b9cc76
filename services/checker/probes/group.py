"""Group checks: what follows from the statuses of other services, as they were last told. Nothing is connected to."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from services.checker.domain import group
from services.checker.domain.kinds import Flaw, Kind
from services.checker.domain.known import is_stale
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.probes.options import Options, reader
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome

MAX_MEMBERS = 100


class GroupOptions(Options):
    """Which services belong to the group, and when the group works."""

    members: tuple[Annotated[str, Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)], ...] = Field(
        min_length=1, max_length=MAX_MEMBERS
    )
    """The ids of the services, none of which may lead back to the group. One that does not exist has no data."""
    rule: Literal["worst", "at_least"] = "worst"
    """The worst status of all, or whether at least so many work."""
    least: int | None = Field(default=None, ge=1, le=MAX_MEMBERS)
    """For at_least: how many must work."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.members)) != len(self.members):
            msg = "must name each of its members once"
            raise ValueError(msg)
        if (self.rule == "at_least") != (self.least is not None):
            msg = "must have least with the rule at_least, and with no other"
            raise ValueError(msg)
        if self.least is not None and self.least > len(self.members):
            msg = "must have at least as many members as least asks for"
            raise ValueError(msg)
        return self


def _flaws(address: str, options: GroupOptions | None) -> list[Flaw]:
    """Return what is wrong with a group that is its own member, as far as its address says so: what it said would follow from itself."""
    own = urlsplit(address).hostname
    return [Flaw("options.members", "must not name the group itself")] if options is not None and own in options.members else []


KIND = Kind(
    "group",
    "Group of services",
    ("group",),
    "group://name",
    reader(GroupOptions),
    GroupOptions.model_json_schema(),
    needs_port=False,
    needs_host=False,
    flaws=_flaws,
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Say what the members' statuses mean now."""
    options = target.options
    if not isinstance(options, GroupOptions):
        msg = f"{target.id} has no group options"
        raise TypeError(msg)
    if is_stale(tools.known, int(tools.clock().timestamp() * 1000), target.interval_ms):
        return not_looked("the members' statuses are not known now")
    members = [one for one in options.members if one != target.id]
    verdict = group.judge(members, tools.known.statuses, least=options.least)
    error_type = None if verdict.outcome is Outcome.HEALTHY else ErrorType.UNKNOWN
    return Measurement(verdict.outcome, error_type=error_type, error_message=verdict.message)
