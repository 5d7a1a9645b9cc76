"""How a timeline that was published becomes the one that is known now: what stays, what is no longer believed, and what is new.

Moments are milliseconds since 1970, UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.aggregator.domain.courses import Stage
from services.aggregator.domain.timeline import State


@dataclass(frozen=True, slots=True)
class Row:
    """A state that was published, with the regions that made it; `end` None: it goes on."""

    start: int
    end: int | None
    state: State
    down: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    def continues(self, other: "Row") -> bool:
        """Say whether this is the same state as the one before it, without a gap."""
        return other.end == self.start and (self.state, self.down, self.degraded) == (other.state, other.down, other.degraded)


def rows(stages: Sequence[Stage]) -> list[Row]:
    """Return stages as rows. The last goes on; time that is inactive has no row."""
    found = [Row(one.start, one.end, one.state, one.down, one.degraded) for one in stages]
    if found:
        found[-1] = replace(found[-1], end=None)
    return [one for one in found if one.state is not State.INACTIVE]


def amended(published: Sequence[Row], fresh: Sequence[Row], *, since: int) -> tuple[list[Row], list[Row]]:
    """Return which published rows are no longer believed, and which are new.

    `published` ascend and are those that end at `since`, later or not at all; `fresh` is how it is from `since` on.
    """
    before = [replace(one, end=since if one.end is None else min(one.end, since)) for one in published if one.start < since]
    known: list[Row] = []
    for one in [*before, *fresh]:
        if known and one.continues(known[-1]):
            known[-1] = replace(known[-1], end=one.end)
        else:
            known.append(one)
    stays = set(known) & set(published)
    return [one for one in published if one not in stays], [one for one in known if one not in stays]
