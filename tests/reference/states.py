"""The reference of statuses and timelines: every moment at which anything may change is asked on its own."""

from dataclasses import dataclass
from itertools import pairwise

from tests.reference.history import DEGRADED, FAILED, HEALTHY, UNKNOWN, Check, Correction, Definition, History

CODES = {"up": "o", "degraded": "po", "partial": "po", "down": "mo", "unknown": "nd", "inactive": "e"}


@dataclass(frozen=True)
class Stage:
    """A state from `start` up to, and without, `end`, and the regions that made it."""

    start: int
    end: int
    state: str
    down: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


def timeline(history: History) -> list[Stage]:
    """Return what was measured, from the service's beginning to now, without gaps: neighbours differ."""
    views = {region: _views(history, region) for region in sorted({check.region for check in history.checks})}
    begin = history.definitions[0].since
    moments = {begin} | {definition.since for definition in history.definitions}
    for painted in views.values():
        moments |= set(painted)
    cuts = sorted(moment for moment in moments if begin <= moment < history.now)
    stages = [
        _stage(history.definition_at(start), {region: _latest(painted, start) for region, painted in views.items()}, start, end)
        for start, end in zip(cuts, [*cuts[1:], history.now], strict=True)
    ]
    return _joined(stages)


def corrected(stages: list[Stage], corrections: tuple[Correction, ...], start: int, end: int) -> list[Stage]:
    """Return the window as it is believed after corrections; what no stage covers is inactive."""
    cuts = {start, end}
    for edge in [(one.start, one.end) for one in stages] + [(one.start, one.end) for one in corrections]:
        cuts |= {moment for moment in edge if start < moment < end}
    ordered = sorted(cuts)
    found = []
    for first, after in pairwise(ordered):
        state = next((stage.state for stage in stages if stage.start <= first < stage.end), "inactive")
        for correction in corrections:
            if correction.start <= first < correction.end:
                state = correction.state
        found.append(Stage(first, after, state))
    return _joined(found)


def live(history: History) -> Stage:
    """Return how it is now, once everything has arrived."""
    views = {region: _latest(_views(history, region), history.now) for region in sorted({check.region for check in history.checks})}
    return _stage(history.definition_at(history.now), views, history.now, history.now + 1)


def _views(history: History, region: str) -> dict[int, str]:
    """Return how a region was, from each moment at which that may change."""
    known = [check for check in history.facts() if check.region == region and check.outcome != UNKNOWN and check.slot < history.now]
    pauses = [two.since for one, two in pairwise(history.definitions) if one.watched != two.watched]
    blanks = _blanks(history, known, pauses)
    moments = sorted({check.slot for check in known} | set(blanks))
    works = _painted(history, moments, [(check, check.outcome != FAILED) for check in known], blanks)
    well = _painted(history, moments, [(check, check.outcome == HEALTHY) for check in known], blanks)
    return {moment: _view(works[moment], well[moment]) for moment in moments}


def _view(works: bool | None, well: bool | None) -> str:  # noqa: FBT001  # three values, two of them truth values
    if works is None:
        return UNKNOWN
    if not works:
        return "down"
    return DEGRADED if well is False else "up"


def _blanks(history: History, known: list[Check], pauses: list[int]) -> list[int]:
    """Return the moments from which nothing is known any more: pauses, and the first slot missed in each silence."""
    blanks = list(pauses)
    for place, check in enumerate(known):
        following = [one.slot for one in known[place + 1 :]] + [pause for pause in pauses if pause > check.slot] + [history.now]
        asked, then = history.definition_at(check.slot), history.definition_at(min(following))
        if min(following) - check.slot > max(asked.silent_after, then.silent_after):  # another interval makes no silence
            blanks.append(check.slot + asked.interval)
    return blanks


def _painted(history: History, moments: list[int], seen: list[tuple[Check, bool]], blanks: list[int]) -> dict[int, bool | None]:
    """Return at each moment whether it was good. A turn is painted back over the run of outcomes that made it."""
    painted: dict[int, bool | None] = {}
    for moment in moments:
        if moment in blanks:
            painted[moment] = None
        else:
            painted[moment] = painted[max(painted)] if painted else None
        for check, good in seen:
            if check.slot == moment:
                run = _run(seen, blanks, moment, good=good)
                asked = history.definition_at(moment)
                needed = asked.recovery if good else asked.failure
                if len(run) >= needed or (good and painted[moment] is None):
                    painted.update({one: good for one in painted if one >= run[0]})
    return painted


def _run(seen: list[tuple[Check, bool]], blanks: list[int], moment: int, *, good: bool) -> list[int]:
    """Return the slots of the unbroken run of equal outcomes that ends at a moment, oldest first."""
    run: list[int] = []
    for check, one in reversed(seen):
        if check.slot > moment:
            continue
        if one is not good or any(check.slot < blank <= moment for blank in blanks):
            break
        run.insert(0, check.slot)
    return run


def _latest(painted: dict[int, str], moment: int) -> str:
    before = [one for one in painted if one <= moment]
    return painted[max(before)] if before else UNKNOWN


def _stage(asked: Definition, views: dict[str, str], start: int, end: int) -> Stage:
    """Return the state of one moment by the quorum of that moment."""
    if not asked.watched:
        return Stage(start, end, "inactive")
    counting = {region: view for region, view in views.items() if view != UNKNOWN and (not asked.regions or region in asked.regions)}
    down = tuple(region for region, view in counting.items() if view == "down")
    degraded = tuple(region for region, view in counting.items() if view == DEGRADED)
    if not counting:
        state = UNKNOWN
    elif len(down) >= needed(asked.quorum, len(counting)):
        state = "down"
    elif down:
        state = "partial"
    else:
        state = DEGRADED if degraded else "up"
    return Stage(start, end, state, down, degraded)


def needed(quorum: str, known: int) -> int:
    """Return how many of the regions with data must be down. A number that there are not so many regions for means all of them."""
    words = {"any": 1, "majority": known // 2 + 1, "all": known}
    return words[quorum] if quorum in words else min(int(quorum), known)


def _joined(stages: list[Stage]) -> list[Stage]:
    joined: list[Stage] = []
    for stage in stages:
        last = joined[-1] if joined else None
        if last and (last.state, last.down, last.degraded) == (stage.state, stage.down, stage.degraded):
            joined[-1] = Stage(last.start, stage.end, stage.state, stage.down, stage.degraded)
        else:
            joined.append(stage)
    return joined
