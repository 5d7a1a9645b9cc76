"""Histories made by chance, from a seed: many services over the days around a change of clocks, and how what is known of them arrives."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from tests.reference.figures import day_begins
from tests.reference.history import DEGRADED, FAILED, HEALTHY, UNKNOWN, Check, Correction, Definition, History, Stay

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
INTERVAL_MS = 30 * MINUTE_MS
INTERVALS = (INTERVAL_MS, 2 * INTERVAL_MS, 2 * INTERVAL_MS, 4 * INTERVAL_MS)
HEARD_MS = 20 * HOUR_MS
"""So long before the end nobody of a `recent` story is silent any more, and nothing is late."""
SERVICES = 40
"""Of one story: they share what a story costs."""
FORGOTTEN = 24
"""A result moves the live status as long as fewer than so many newer ones of its region came before it."""
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
Told = tuple[str, Check]
"""What arrives: of a service, a check."""


@dataclass(frozen=True)
class Step:
    """What arrives together: definitions first, by service and number; then results in batches; then it is `now`."""

    now: int
    definitions: tuple[tuple[str, int], ...]
    batches: tuple[tuple[Told, ...], ...]


@dataclass(frozen=True)
class Agreement:
    """What an SLA contract says of some services. Its exclusions are theirs. `period`: month, quarter or rolling (days)."""

    services: tuple[str, ...]
    target: str
    partial: str
    maintenance: bool
    unknown: bool
    period: str
    days: int
    exclusions: tuple[Stay, ...] = ()


@dataclass(frozen=True)
class Story:
    """Services with everything that arrives of them in the end, and the order in which it does. Work is announced in the last step."""

    zone: ZoneInfo
    services: dict[str, History]
    steps: list[Step] = field(default_factory=list)
    agreement: Agreement | None = None

    def until(self, place: int) -> "Story":
        """Return what was known after a step: of services that had a definition by then."""
        steps = self.steps[: place + 1]
        now = steps[-1].now
        arrived: dict[str, list[Check]] = defaultdict(list)
        for step in steps:
            for name, check in (one for found in step.batches for one in found):
                arrived[name].append(check)
        known = {
            name: replace(
                history,
                definitions=tuple(one for one in history.definitions if one.since <= now),
                checks=tuple(arrived[name]),
                corrections=tuple(one for one in history.corrections if one.made <= now),
                maintenances=history.maintenances if place == len(self.steps) - 1 else (),
                exclusions=tuple(one for one in history.exclusions if one.made <= now),
                now=now,
            )
            for name, history in self.services.items()
            if history.definitions[0].since < now
        }
        return replace(self, services=known, steps=steps)

    def overtaken(self, name: str) -> set[tuple[str, int]]:
        """Return region and slot of the results that a live status may be without, as so many newer ones came no later."""
        arrived: dict[str, set[int]] = defaultdict(set)
        found = set()
        for step in self.steps:
            new = {(one.region, one.slot) for batch in step.batches for service, one in batch if service == name}
            fresh = {(region, slot) for region, slot in new if slot not in arrived[region]}
            for region, slot in fresh:
                arrived[region].add(slot)
            found |= {(region, slot) for region, slot in fresh if sum(one > slot for one in arrived[region]) >= FORGOTTEN}
        return found


def made(seed: int, *, services: int = SERVICES) -> Story:
    """Return the story of a seed: two or three days, today not over yet."""
    chance = random.Random(seed)
    name, changing = DAYS[seed % len(DAYS)]
    zone = ZoneInfo(name)
    begin = day_begins(changing, zone) - chance.randrange(4, 24) * HOUR_MS - chance.randrange(1000)
    now = day_begins(changing + timedelta(days=1), zone) + chance.randrange(3, 20) * HOUR_MS + chance.randrange(1000)
    ends = _ends(chance, begin, now)
    changes = sorted(chance.sample(ends[:-1], min(4, len(ends) - 1)))
    told = {f"service-{number}": _history(chance, chance.choice((begin, begin, *changes[:2])), ends, changes) for number in range(services)}
    agreement = _agreement(chance, tuple(name for name, one in told.items() if one.definitions[0].since == begin), ends)
    told |= {name: replace(told[name], exclusions=agreement.exclusions) for name in agreement.services}
    return Story(zone, told, _steps(chance, told, ends), agreement)


def _agreement(chance: random.Random, services: tuple[str, ...], ends: Sequence[int]) -> Agreement:
    exclusions = []
    for made_at in sorted(chance.choices(ends, k=chance.randint(0, 3))):
        start = ends[0] + chance.randrange(ends[-1] - ends[0])
        exclusions.append(Stay(start, start + chance.randrange(1, 12 * HOUR_MS), made_at))
    return Agreement(
        services=services,
        target=chance.choice(("99.9", "99", "95", "50", "100")),
        partial=chance.choice(("0", "0.3", "0.5", "1")),
        maintenance=chance.random() < 0.5,
        unknown=chance.random() < 0.5,
        period=chance.choice(("month", "quarter", "rolling")),
        days=chance.choice((1, 2, 30)),
        exclusions=tuple(exclusions),
    )


def recent(seed: int, now: int, *, services: int) -> Story:
    """Return the story of the three days before a moment. Nobody is switched off, and nobody is silent in the end."""
    chance = random.Random(seed)
    begin, heard = now - 72 * HOUR_MS, now - HEARD_MS
    ends = _ends(chance, begin, now)
    changes = [end for end in ends if end < heard - HOUR_MS]
    changes = sorted(chance.sample(changes, min(4, len(changes))))
    told = {f"service-{number}": _history(chance, begin, ends, changes, heard=heard) for number in range(services)}
    return Story(ZoneInfo("UTC"), told, _steps(chance, told, ends, heard=heard))


def _ends(chance: random.Random, begin: int, now: int) -> list[int]:
    """Cut the time into steps of some hours."""
    ends = [begin + chance.randrange(HOUR_MS, 6 * HOUR_MS)]
    while ends[-1] < now:
        ends.append(ends[-1] + chance.randrange(HOUR_MS, 6 * HOUR_MS))
    return [*ends[:-1], now]


def _history(chance: random.Random, begin: int, ends: Sequence[int], changes: Sequence[int], *, heard: int | None = None) -> History:
    regions = ("eu", "us", "ap")[: chance.randint(1, 3)]
    interval = INTERVAL_MS if heard else chance.choice(INTERVALS)
    now = ends[-1]
    paces = (interval, chance.choice((1000, 5000)))
    definitions = [_definition(chance, begin, paces, regions)]
    for moment in changes:
        if moment > begin and chance.random() < 0.4:
            watched = heard is not None or not definitions[-1].watched or chance.random() < 0.6
            definitions.append(replace(_definition(chance, moment, paces, regions), watched=watched))
    history = History(tuple(definitions), (), now)
    checks = tuple(check for region in regions for check in _seen(chance, history, region, heard=heard))
    return replace(history, checks=checks, corrections=_corrections(chance, begin, ends), maintenances=_stays(chance, begin, now))


def _definition(chance: random.Random, since: int, paces: tuple[int, int], regions: tuple[str, ...]) -> Definition:
    interval, timeout = paces
    return Definition(
        since=since,
        interval=interval,
        timeout=timeout,
        failure=chance.randint(1, 3),
        recovery=chance.randint(1, 3),
        quorum=chance.choice(("any", "majority", "majority", "all", "2")),
        regions=chance.choice(((), (), regions, regions[:1])),
    )


def _corrections(chance: random.Random, begin: int, ends: Sequence[int]) -> tuple[Correction, ...]:
    """Correct some of what is past at the ends of steps, in their order; some of it is taken back later."""
    found = []
    for made_at in sorted(chance.choices([end for end in ends if end > begin], k=chance.choice((0, 0, 1, 2, 4)))):
        start = chance.choice((begin, begin + chance.randrange(made_at - begin)))
        end = min(made_at, start + chance.randrange(MINUTE_MS, 9 * HOUR_MS))
        revoked = chance.choice([one for one in ends if one >= made_at]) if chance.random() < 0.3 else None
        found.append(Correction(start, end, chance.choice(STATES), made_at, revoked))
    return tuple(found)


def _stays(chance: random.Random, begin: int, now: int) -> tuple[Stay, ...]:
    starts = [begin + chance.randrange(now - begin) for _ in range(chance.randint(0, 2))]
    return tuple(Stay(start, start + chance.randrange(1, 6 * HOUR_MS)) for start in starts)


def _seen(chance: random.Random, history: History, region: str, *, heard: int | None) -> list[Check]:
    """Walk through the slots with changing moods; doubtful outcomes are confirmed a minute later, some of them again."""
    found: list[Check] = []
    mood, left = "good", chance.randint(1, 10)
    begin, interval = history.definitions[0].since, history.definitions[0].interval
    slot = begin - begin % interval + chance.randrange(interval)
    while slot < history.now:
        if left == 0:
            may_miss = heard is None or slot < heard - 16 * interval
            moods = ("good", "good", "slow", "bad", "torn", *(("isolated", "silent") if may_miss else ()))
            mood, left = chance.choice(moods), chance.randint(1, 12)
        is_calm = heard is not None and heard <= slot < heard + 4 * interval
        outcome = HEALTHY if is_calm else _drawn(chance, mood)
        if slot >= begin and outcome is not None and history.definition_at(slot).watched:
            found += _confirmed(chance, Check(region, slot, outcome, _took(chance, outcome)))
        slot, left = slot + interval, left - 1
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
    if outcome == UNKNOWN or chance.random() < 0.02:
        return None
    return 0.0 if chance.random() < 0.01 else round(chance.lognormvariate(4, 1), 3)


def _steps(chance: random.Random, told: dict[str, History], ends: Sequence[int], *, heard: int | None = None) -> list[Step]:
    """Let most arrive in the step of its slot, some late by a step, some by days; some again, and a few again with another outcome."""
    arriving: list[list[Told]] = [[] for _ in ends]
    repeats: list[list[Told]] = [[] for _ in ends]
    for name, history in told.items():
        for check in history.checks:
            first = next(place for place, end in enumerate(ends) if check.slot < end)
            place = min(len(ends) - 1, first + _late_by(chance, len(ends) - 1 - first))
            if heard is not None and ends[place] >= heard:
                place = first
            arriving[place].append((name, check))
            if chance.random() < 0.03:
                repeats[chance.randrange(place, len(ends))].append((name, check))
            if chance.random() < 0.02 and place + 1 < len(ends):
                repeats[chance.randrange(place + 1, len(ends))].append((name, _contradicted(check)))
    known = dict.fromkeys(told, 0)
    steps = []
    for place, end in enumerate(ends):
        news = [(name, number) for name, history in told.items() for number in _news(history, known[name], end)]
        known.update({name: number + 1 for name, number in news})
        steps.append(Step(end, tuple(news), _batches(chance, arriving[place], repeats[place])))
    return steps


def _late_by(chance: random.Random, most: int) -> int:
    """Return by how many steps a result is late."""
    drawn = chance.random()
    return 0 if drawn < 0.88 or not most else 1 if drawn < 0.96 else chance.randint(1, most)


def _contradicted(check: Check) -> Check:
    """Return what says something else of a slot that is known: it repeats it, whatever it says."""
    return replace(check, outcome=FAILED if check.outcome == HEALTHY else HEALTHY, ms=7.5)


def _news(history: History, known: int, end: int) -> list[int]:
    return [number for number, one in enumerate(history.definitions) if number >= known and one.since <= end]


def _batches(chance: random.Random, arriving: list[Told], repeated: list[Told]) -> tuple[tuple[Told, ...], ...]:
    """Shuffle, repeat some, cut."""
    again = [one for one in arriving if chance.random() < 0.1]
    order = [*arriving, *again, *repeated]
    chance.shuffle(order)
    most = max(25, len(arriving) // 6)
    batches = []
    while order:
        size = chance.randint(1, most)
        batches.append(tuple(order[:size]))
        order = order[size:]
    return tuple(batches)
