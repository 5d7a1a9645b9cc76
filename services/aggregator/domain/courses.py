"""The timeline of a service from its outcomes: what `verdict` says of the present, said of every moment, in event time.

The same rules as in verdict.py: a region turns after so many outcomes in a row, and has turned since the first of them; a gap of more than
`silent_after` makes it unknown from the first slot that was missed. Regions are combined by the service's quorum. A pure function of the
ordered outcomes: late ones and corrections are taken in by computing again, and a dry run is the same with other rules.

Moments and slots are milliseconds since 1970, UTC.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter, itemgetter

from services.aggregator.domain.timeline import State
from services.aggregator.domain.verdict import Condition, Course, Observation, Region, Standing, Thresholds, reached, standing

CHECKPOINT_EVERY = 3_600_000
"""How far checkpoints lie apart, in ms."""


class View(StrEnum):
    """How a service is from one region."""

    UNKNOWN = "unknown"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a definition asks for, from `since` on. `watched`: it is active and not removed. `regions` empty: all. Times in ms."""

    since: int
    check_interval: int
    thresholds: Thresholds
    quorum: str = "majority"
    regions: frozenset[str] = frozenset()
    watched: bool = True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How a region stood after the outcome of `slot`: what the rest can be computed from. `slot` -1: before the first."""

    slot: int = -1
    standing: Standing = field(default_factory=Standing)

    @property
    def settled_before(self) -> int:
        """Up to here nothing can change any more: a turn that is under way began later."""
        return min([self.slot, *(one.streak_since for one in (self.standing.available, self.standing.well) if _is_turning(one))])


def _is_turning(course: Course) -> bool:
    """Say whether the present streak speaks against the condition: once long enough, the condition will have turned with its first."""
    return course.streak != 0 and course.condition is not (Condition.UP if course.streak > 0 else Condition.DOWN)


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a region was from `start` up to, and without, `end`."""

    start: int
    end: int
    view: View


@dataclass(frozen=True, slots=True)
class Stage:
    """A state of a service with the regions that made it, from `start` up to, and without, `end`."""

    start: int
    end: int
    state: State
    down: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


def rules_at(rules: Sequence[Rules], at: int) -> Rules:
    """Return the rules of a moment. `rules` ascend by `since`; what is before the first has the first's."""
    if at >= rules[-1].since:
        return rules[-1]
    return next((one for one in reversed(rules) if one.since <= at), rules[0])


def pause_edge(rules: Sequence[Rules], after: int, until: int) -> int | None:
    """Return when a pause began or ended next: what was seen before says nothing of what is after it, even if it was seen in the pause."""
    edges = (two.since for one, two in pairwise(rules) if one.watched is not two.watched)
    return next((since for since in edges if after < since <= until), None)


def view(standing: Standing) -> View:
    """Return how a region is, by its standing."""
    if standing.is_down:
        return View.DOWN
    if not standing.is_up:
        return View.UNKNOWN
    return View.DEGRADED if standing.degraded_since is not None else View.UP


class _Line:
    """A course of one region in the making: conditions, each from a moment on; a turn reaches back to its first outcome."""

    def __init__(self, begin: int, course: Course) -> None:
        self.turns: list[tuple[int, Condition]] = [(begin, course.condition)]
        if course.since > begin:
            # Only out of the unknown can one course turn while a streak that is older goes on against the other.
            self.turns = [(begin, Condition.UNKNOWN), (course.since, course.condition)]

    def turn(self, since: int, condition: Condition) -> None:
        while len(self.turns) > 1 and self.turns[-1][0] >= since:
            self.turns.pop()
        if self.turns[-1][0] >= since:
            self.turns[0] = (since, condition)
        elif self.turns[-1][1] is not condition:
            self.turns.append((since, condition))


class _Walk:
    """One region, outcome by outcome. Between two checkpoints, well outcomes of a region that is calm are only counted."""

    def __init__(self, rules: Sequence[Rules], begin: Checkpoint) -> None:
        first = begin.settled_before if begin.slot >= 0 else rules[0].since
        self.lines = (_Line(first, begin.standing.available), _Line(first, begin.standing.well))
        self.checkpoints: list[Checkpoint] = []
        self._rules = rules
        self._slot, self._standing = begin.slot, begin.standing
        self._calm, self._times = begin.standing.is_calm, 0
        self._then = rules_at(rules, begin.slot)

    @property
    def at(self) -> Checkpoint:
        """Where it stands."""
        return Checkpoint(self._slot, self._standing.calmer(self._times) if self._times else self._standing)

    def take(self, one: Observation) -> None:
        """Go on with the next outcome."""
        if one.slot // CHECKPOINT_EVERY > self._slot // CHECKPOINT_EVERY:
            self.checkpoints.append(self.at)
        rules = rules_at(self._rules, one.slot)
        if self._slot >= 0 and self.forgotten(one.slot, rules):
            self.forget(one.slot)
        if self._calm and one.well:
            self._times += 1
        else:
            self._turn(one, rules.thresholds)
        self._slot, self._then = one.slot, rules

    def _turn(self, one: Observation, thresholds: Thresholds) -> None:
        before = self.at.standing
        after = before.after(one, thresholds)
        for line, old, new in zip(self.lines, (before.available, before.well), (after.available, after.well), strict=True):
            if new.condition is not old.condition:
                line.turn(new.since, new.condition)
        self._standing, self._calm, self._times = after, after.is_calm, 0

    def forgotten(self, at: int, rules: Rules) -> bool:
        """Say whether what was known says nothing of a moment, by its `rules`: nothing was heard for too long, or a pause came or went."""
        return self._silent(at, rules) or (rules is not self._then and self._pause(at) is not None)

    def _silent(self, at: int, rules: Rules) -> bool:
        """Say whether the gap is too long by the definition at its beginning and by that at its end: another interval makes no silence."""
        last, then = self._slot, self._then
        return then.thresholds.forgotten(last, at) and (rules is then or rules.thresholds.forgotten(last, at))

    def _pause(self, until: int) -> int | None:
        return pause_edge(self._rules, self._slot, until)

    def forget(self, until: int) -> None:
        """Begin from unknown: from the slot that was missed first, or from where nobody listened any more; at the latest from `until`."""
        since, pause = min(self._slot + self._then.check_interval, until), self._pause(until)
        if pause is not None and not self._silent(pause, rules_at(self._rules, pause)):
            since = pause  # until then, it had not been silent for long enough
        for line in self.lines:
            line.turn(since, Condition.UNKNOWN)
        self._standing, self._calm, self._times = Standing(), False, 0


def region_stretches(
    outcomes: Iterable[Observation], rules: Sequence[Rules], *, begin: Checkpoint, until: int, silent: bool
) -> tuple[list[Stretch], list[Checkpoint]]:
    """Return how a region was, from where `begin` is settled up to `until`, and its checkpoints: one an hour, and the last.

    `outcomes` are the known ones after `begin.slot`, ascending by slot. `silent`: nothing is known any more of it by now.
    """
    walk = _Walk(rules, begin)
    for one in outcomes:
        walk.take(one)
    checkpoints = [*walk.checkpoints, walk.at]
    if checkpoints[-1].slot >= 0 and (silent or walk.forgotten(until, rules_at(rules, until))):
        walk.forget(until - 1 if silent else until)  # who was declared silent is so now, even if no slot was missed yet
    return _stretches(*walk.lines, until), checkpoints


def extended(stretches: Sequence[Stretch], more: Sequence[Stretch]) -> list[Stretch]:
    """Return what was computed in two goes, which meet or overlap, as one: where they overlap, the later go is right."""
    if not more:
        return list(stretches)
    first = more[0]
    kept = list(stretches[: bisect_left(stretches, first.start, key=attrgetter("start"))])
    if kept:
        last = kept.pop()
        kept.append(replace(last, end=first.end if last.view is first.view else first.start))
        more = more[1:] if last.view is first.view else more
    return [*kept, *more]


def disturbed_from(before: Region, seen: Iterable[Observation], thresholds: Thresholds, *, calm: bool) -> int | None:
    """Return the slot of the first new outcome that more follows from than that things go on as they were; None if there is none.

    `before`: what was remembered of the region; `calm`: it is `unmoved` by what is new. Of most
    outcomes nothing follows, so that their timeline need not be computed again.
    """
    ordered = sorted(seen)
    if before.is_silent or ordered[0].slot <= before.newest_slot or _judged_otherwise(before, thresholds):
        return ordered[0].slot
    if not calm and _forgot_early(before, thresholds):
        return ordered[0].slot
    newest, present = before.newest_slot, None if calm else standing(before, thresholds)
    for one in ordered:
        if thresholds.forgotten(newest, one.slot):
            return one.slot
        newest = one.slot
        if present is not None:
            after = present.after(one, thresholds)
            if view(after) is not view(present):
                return one.slot
            present = after
    return None


def _judged_otherwise(region: Region, thresholds: Thresholds) -> bool:
    """Say whether a region may be otherwise in the timeline: what came before `asked_since` was judged there by what was asked for then.

    No longer so after as many outcomes of one kind in a row as turn it whatever it was.
    """
    if thresholds.asked_since == 0:
        return False
    enough, kind, times = max(thresholds.failure, thresholds.recovery), None, 0
    for one in reversed(region.window):
        if one.slot < thresholds.asked_since:
            return True
        times = times + 1 if (one.healthy, one.degraded) == kind else 1
        kind = (one.healthy, one.degraded)
        if times >= enough:
            return False
    return True


def _forgot_early(region: Region, thresholds: Thresholds) -> bool:
    """Say whether a region began from unknown where its slots have no gap: by a pause, or by a silence of a version that forgot in silence.

    What was before may say something of what is now, and then only the timeline knows it.
    """
    return region.base == Standing() and region.base_slot >= 0 and not thresholds.forgotten(region.base_slot, region.window[0].slot)


def _stretches(available: _Line, well: _Line, until: int) -> list[Stretch]:
    """Return both courses as one: degraded where it is up and not well."""
    cuts = sorted({since for line in (available, well) for since, _ in line.turns if since < until})
    found: list[Stretch] = []
    for start, end in zip(cuts, [*cuts[1:], until], strict=True):
        condition, quality = _at(available, start), _at(well, start)
        seen = View.DEGRADED if condition is Condition.UP and quality is Condition.DOWN else View(condition.value)
        if found and found[-1].view is seen:
            found[-1] = replace(found[-1], end=end)
        else:
            found.append(Stretch(start, end, seen))
    return found


def _at(line: _Line, moment: int) -> Condition:
    place = bisect_right(line.turns, moment, key=itemgetter(0))
    return line.turns[place - 1][1] if place else Condition.UNKNOWN


def combined(regions: Mapping[str, Sequence[Stretch]], rules: Sequence[Rules], *, start: int, until: int) -> list[Stage]:
    """Return the states of the service from `start` to `until`, without gaps. Regions that are not named do not count."""
    cuts = {start, *(one.since for one in rules), *(edge for some in regions.values() for one in some for edge in (one.start, one.end))}
    edges = [*sorted(cut for cut in cuts if start <= cut < until), until]
    places = dict.fromkeys(regions, 0)
    found: list[Stage] = []
    for begin, end in pairwise(edges):
        views = {name: _view_at(regions[name], places, name, begin) for name in sorted(regions)}
        stage = _stage(views, rules_at(rules, begin), begin, end)
        last = found[-1] if found else None
        if last and (last.state, last.down, last.degraded) == (stage.state, stage.down, stage.degraded):
            found[-1] = replace(last, end=end)
        else:
            found.append(stage)
    return found


def _view_at(stretches: Sequence[Stretch], places: dict[str, int], name: str, at: int) -> View:
    """Return the view of a moment; moments are asked for in ascending order, so each region is walked through once."""
    place = places[name]
    while place < len(stretches) and stretches[place].end <= at:
        place += 1
    places[name] = place
    return stretches[place].view if place < len(stretches) and stretches[place].start <= at else View.UNKNOWN


def _stage(views: Mapping[str, View], rules: Rules, start: int, end: int) -> Stage:
    if not rules.watched:
        return Stage(start, end, State.INACTIVE)
    counted = {name: one for name, one in views.items() if not rules.regions or name in rules.regions}
    known = sum(one is not View.UNKNOWN for one in counted.values())
    down = tuple(name for name, one in counted.items() if one is View.DOWN)
    degraded = tuple(name for name, one in counted.items() if one is View.DEGRADED)
    if known == 0:
        state = State.UNKNOWN
    elif reached(rules.quorum, down=len(down), known=known):
        state = State.DOWN
    elif down:
        state = State.PARTIAL
    else:
        state = State.DEGRADED if degraded else State.UP
    return Stage(start, end, state, down, degraded)
