"""Histories made by chance, from a seed: some services over the days around a change of clocks, and how their results arrive."""

import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from tests.reference.figures import day_begins
from tests.reference.history import DEGRADED, FAILED, HEALTHY, UNKNOWN, Check, Correction, Definition, History, Stay

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
INTERVAL_MS = 30 * MINUTE_MS
SYNC_MS = 20 * HOUR_MS
"""So long before the end every region is well for some slots. From then on nothing is late, and silence is declared when it is there.

A live status is made of what was known when: what comes after its silence was declared, or is overtaken by 24, no longer moves it.
"""
DAYS = (
    ("Europe/Berlin", date(2026, 3, 29)),  # 23 hours
    ("Europe/Berlin", date(2025, 10, 26)),  # 25 hours
    ("Asia/Seoul", date(2026, 3, 29)),  # its days begin at 15:00 UTC, and its clocks have not changed since 1988
    ("Australia/Lord_Howe", date(2026, 4, 5)),  # 24.5 hours
    ("UTC", date(2026, 3, 1)),
)
MOODS = {
    "good": ((HEALTHY, 30), (DEGRADED, 1), (FAILED, 1)),
    "slow": ((HEALTHY, 2), (DEGRADED, 6), (FAILED, 1)),
    "bad": ((HEALTHY, 1), (DEGRADED, 1), (FAILED, 8)),
    "torn": ((HEALTHY, 3), (DEGRADED, 2), (FAILED, 3)),
    "isolated": ((UNKNOWN, 1),),
    "silent": ((None, 1),),
}
STATES = ("up", "degraded", "partial", "down", "unknown", "inactive")


@dataclass(frozen=True)
class Step:
    """What arrives together: definitions first, by service and number; then results in batches; then it is `now`."""

    now: int
    definitions: tuple[tuple[str, int], ...]
    batches: tuple[tuple[tuple[str, Check], ...], ...]


@dataclass(frozen=True)
class Story:
    """Services with everything that arrives of them in the end, and the order in which it does."""

    zone: ZoneInfo
    services: dict[str, History]
    steps: list[Step] = field(default_factory=list)


def made(seed: int, *, services: int = 3) -> Story:
    """Return the story of a seed: about four days, today not over yet."""
    chance = random.Random(seed)
    name, changing = DAYS[seed % len(DAYS)]
    zone = ZoneInfo(name)
    begin = day_begins(changing - timedelta(days=1), zone) + chance.randrange(6) * HOUR_MS + chance.randrange(1000)
    now = day_begins(changing + timedelta(days=2), zone) + chance.randrange(3, 12) * HOUR_MS + chance.randrange(1000)
    told = {f"service-{number}": _history(chance, begin, now) for number in range(services)}
    return Story(zone, told, _steps(chance, told, begin, now))


def recent(seed: int, now: int, *, services: int) -> Story:
    """Return the story of the three days before a moment. Nobody is switched off, and nobody is silent in the end."""
    chance = random.Random(seed)
    begin = now - 72 * HOUR_MS
    told = {f"service-{number}": _history(chance, begin, now, steady=True) for number in range(services)}
    return Story(ZoneInfo("UTC"), told, _steps(chance, told, begin, now))


def _history(chance: random.Random, begin: int, now: int, *, steady: bool = False) -> History:
    regions = ("eu", "us", "ap")[: chance.randint(1, 3)]
    first = _definition(chance, begin, regions)
    latest = now - begin - (SYNC_MS + HOUR_MS if steady else 12 * HOUR_MS)
    moments = sorted(begin + chance.randrange(latest) for _ in range(chance.randint(0, 3)))
    definitions = [first]
    for moment in moments:
        last = definitions[-1]
        watched = steady or not last.watched or chance.random() < 0.6
        definitions.append(replace(_definition(chance, moment, regions), watched=watched))
    if not definitions[-1].watched and chance.random() < 0.7:
        definitions.append(replace(definitions[-1], since=moments[-1] + chance.randrange(1, 30) * HOUR_MS, watched=True))
    definitions = [one for one in definitions if one.since < now - 6 * HOUR_MS]
    history = History(tuple(definitions), (), now)
    checks = tuple(check for region in regions for check in _seen(chance, history, region, steady=steady))
    corrections = tuple(
        Correction(start, min(now, start + chance.randrange(MINUTE_MS, 9 * HOUR_MS)), chance.choice(STATES))
        for start in (begin + chance.randrange(now - begin) for _ in range(chance.randint(0, 3)))
    )
    return replace(history, checks=checks, corrections=corrections, maintenances=_stays(chance, begin, now))


def _definition(chance: random.Random, since: int, regions: tuple[str, ...]) -> Definition:
    return Definition(
        since=since,
        interval=INTERVAL_MS,
        timeout=chance.choice((1000, 5000)),
        failure=chance.randint(1, 3),
        recovery=chance.randint(1, 3),
        quorum=chance.choice(("any", "majority", "majority", "all", "2")),
        regions=chance.choice(((), (), regions, regions[:1])),
    )


def _stays(chance: random.Random, begin: int, now: int) -> tuple[Stay, ...]:
    starts = [begin + chance.randrange(now - begin) for _ in range(chance.randint(0, 2))]
    return tuple(Stay(start, start + chance.randrange(1, 6 * HOUR_MS)) for start in starts)


def _seen(chance: random.Random, history: History, region: str, *, steady: bool) -> list[Check]:
    """Walk through the slots with changing moods; doubtful outcomes are confirmed a minute later, some of them again."""
    found: list[Check] = []
    mood, left = "good", 10
    begin = history.definitions[0].since
    slot = begin - begin % INTERVAL_MS + chance.randrange(INTERVAL_MS)
    calms = (begin + 26 * HOUR_MS, history.now - SYNC_MS)
    while slot < history.now:
        if left == 0:
            heard = steady and slot >= history.now - SYNC_MS - 16 * INTERVAL_MS
            moods = ("good", "good", "slow", "bad", "torn", *(() if heard else ("isolated", "silent")))
            mood, left = chance.choice(moods), chance.randint(1, 16)
        is_calm = any(calm <= slot < calm + 4 * INTERVAL_MS for calm in calms)
        outcome = HEALTHY if is_calm else _drawn(chance, mood)
        if slot >= begin and outcome is not None and history.definition_at(slot).watched:
            found += _confirmed(chance, Check(region, slot, outcome, _took(chance, outcome)))
        slot, left = slot + INTERVAL_MS, left - 1
    return [check for check in found if check.slot < history.now]


def _drawn(chance: random.Random, mood: str) -> str | None:
    outcomes, weights = zip(*MOODS[mood], strict=True)
    drawn: str | None = chance.choices(outcomes, weights)[0]
    return drawn


def _confirmed(chance: random.Random, check: Check) -> list[Check]:
    found = [check]
    while found[-1].outcome in {FAILED, DEGRADED} and len(found) < 3 and chance.random() < 0.4:
        outcome = chance.choice((found[-1].outcome, HEALTHY))
        found.append(Check(check.region, found[-1].slot + MINUTE_MS, outcome, _took(chance, outcome), attempt=len(found)))
    return found


def _took(chance: random.Random, outcome: str) -> float | None:
    return None if outcome == UNKNOWN else round(chance.lognormvariate(4, 1), 3)


def _steps(chance: random.Random, told: dict[str, History], begin: int, now: int) -> list[Step]:
    """Cut the time into steps of some hours, and wherever a definition changed. Some results are late by a step, some by days."""
    ends = {now}
    at = begin
    while at < now:
        at += chance.randrange(HOUR_MS, 7 * HOUR_MS)
        ends.add(min(at, now))
    ends |= {silence for history in told.values() for silence in _silences(history) if now - SYNC_MS < silence < now}
    changes = {definition.since for history in told.values() for definition in history.definitions[1:]}
    steps: list[Step] = []
    waiting = sorted((check.slot, name, check) for name, history in told.items() for check in history.checks)
    very_late = [one for one in waiting if one[0] < begin + 20 * HOUR_MS and chance.random() < 0.05]
    late: list[tuple[int, str, Check]] = []
    known = dict.fromkeys(told, 0)
    for end in sorted(ends | changes):
        due = [one for one in waiting if one[0] < end and one not in very_late]
        waiting = [one for one in waiting if one[0] >= end]
        held = [one for one in due if end not in changes and end < now - SYNC_MS and chance.random() < 0.1]
        arriving = [one for one in due if one not in held] + late
        if end >= begin + 24 * HOUR_MS:
            arriving, very_late = arriving + very_late, []
        late = held
        news = [(name, number) for name, history in told.items() for number in _news(history, known[name], end)]
        known.update({name: number + 1 for name, number in news})
        steps.append(Step(end, tuple(news), _batches(chance, [(name, check) for _, name, check in arriving])))
    return steps


def _silences(history: History) -> list[int]:
    """Return when each silence was long enough to be declared."""
    found = []
    for region in sorted({check.region for check in history.checks}):
        slots = [check.slot for check in history.facts() if check.region == region and check.outcome != UNKNOWN]
        for slot, following in pairwise([*slots, history.now]):
            declared = slot + history.definition_at(slot).silent_after + 1
            if declared < following:
                found.append(declared)
    return found


def _news(history: History, known: int, end: int) -> list[int]:
    return [number for number, one in enumerate(history.definitions) if number >= known and one.since <= end]


def _batches(chance: random.Random, arriving: list[tuple[str, Check]]) -> tuple[tuple[tuple[str, Check], ...], ...]:
    """Shuffle, repeat some, cut."""
    again = [one for one in arriving if chance.random() < 0.15]
    order = [*arriving, *again]
    chance.shuffle(order)
    batches = []
    while order:
        size = chance.randint(1, 25)
        batches.append(tuple(order[:size]))
        order = order[size:]
    return tuple(batches)
