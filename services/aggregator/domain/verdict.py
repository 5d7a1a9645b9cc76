"""The status of a service, as a function of the newest outcomes of each region.

A region is judged by its newest 24 outcomes in the order of their slots, on top of a base: the condition in which the outcomes
before them had left it. A slot counts once, and the order in which outcomes arrive changes nothing, as long as none comes so late
that 24 newer ones of its region came before it; such a one is counted in the day's records, and no longer moves the status.

- From unknown, one success makes a region up; `failure` failures in a row make it down.
- An up region is down after `failure` failures in a row, a down region is up after `recovery` successes in a row.
- In the same way, with the same numbers, a region is well or not: only a healthy outcome is well, a degraded one is a success that
  is not. A region that is up and not well is degraded. So outcomes that are degraded and failed by turns make it degraded, too.
- A region without any outcome is silent: nothing is known of it. Silence is declared from outside (`silenced`); a newer outcome ends it.
- What lies behind a gap of more than `silent_after` is forgotten, whether silence was declared meanwhile or not: the outcome after it
  begins from unknown. Where what came late fills the gap, what was known holds. courses.py has the same rule for every moment of the past.
- Where a service names its regions, only those are judged; the caller leaves out the others.
- The service is down (`mo`) when as many regions are down as its quorum asks for, of those with data; partly down (`po`) with fewer, or
  with a degraded one. What disagrees stays named: another set of regions down, degraded or silent is another verdict, with a beginning of
  its own.

Slots are milliseconds since 1970, UTC.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from sys import maxsize
from typing import NamedTuple

from shared.contracts.codes import Status

WINDOW = 24
"""How many outcomes of a region are kept to be judged again when a late one comes: more than the highest threshold. What comes later still
is taken in by the timeline."""
SILENT_INTERVALS = 2.5
SILENT_AT_LEAST_MS = 3_000
PROOF_PER_REGION = 5
PROOF_IN_ALL = 20


class Condition(StrEnum):
    """What is known of a service from one region."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Observation(NamedTuple):
    """The known outcome of one slot. `healthy`: it works, be it degraded."""

    slot: int
    healthy: bool
    degraded: bool = False

    @property
    def well(self) -> bool:
        """Whether it works as it should."""
        return self.healthy and not self.degraded


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many outcomes in a row it takes, and how long a gap between two may be, in ms.

    `silent_after` is asked for since `silent_since`. After an outcome from before that, the gap may be as long as it ever might be.
    All of it is asked for since `asked_since`: what is older was judged otherwise at its time, and the timeline says so.
    """

    failure: int
    recovery: int
    silent_after: int = maxsize
    silent_since: int = 0
    silent_longest: int = maxsize
    asked_since: int = 0

    def forgotten(self, last: int, at: int) -> bool:
        """Say whether an outcome of a slot says nothing any more of a later moment, if none came between."""
        return at - last > (self.silent_after if last >= self.silent_since else self.silent_longest)


@dataclass(frozen=True, slots=True)
class Course:
    """A condition, the slot since when it is so, and the present streak: successes above zero, failures below."""

    condition: Condition = Condition.UNKNOWN
    since: int = 0
    streak: int = 0
    streak_since: int = 0

    def after(self, slot: int, *, good: bool, thresholds: Thresholds) -> "Course":
        """Return the course after one more outcome, of a later slot."""
        goes_on = self.streak != 0 and (self.streak > 0) == good
        streak = (self.streak if goes_on else 0) + (1 if good else -1)
        streak_since = self.streak_since if goes_on else slot
        if good:
            enough = 1 if self.condition is Condition.UNKNOWN else thresholds.recovery
            turned = self.condition is not Condition.UP and streak >= enough
        else:
            turned = self.condition is not Condition.DOWN and -streak >= thresholds.failure
        if turned:
            return Course(Condition.UP if good else Condition.DOWN, streak_since, streak, streak_since)
        return Course(self.condition, self.since, streak, streak_since)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a region is: whether the service is available there, and whether it is well (`DOWN`: it is not)."""

    available: Course = Course()
    well: Course = Course()

    def after(self, seen: Observation, thresholds: Thresholds) -> "Standing":
        """Return the standing after one more outcome, of a later slot and after no gap: see `follow`."""
        return Standing(
            self.available.after(seen.slot, good=seen.healthy, thresholds=thresholds),
            self.well.after(seen.slot, good=seen.well, thresholds=thresholds),
        )

    @property
    def is_calm(self) -> bool:
        """Whether it is up and well, and nothing speaks against that."""
        courses = (self.available, self.well)
        return all(one.condition is Condition.UP and one.streak > 0 for one in courses)

    def calmer(self, times: int) -> "Standing":
        """Return the standing of a calm region after so many more outcomes that are well."""
        return Standing(replace(self.available, streak=self.available.streak + times), replace(self.well, streak=self.well.streak + times))

    def follow(self, last: int, seen: Observation, thresholds: Thresholds) -> "Standing":
        """Return the standing after one more outcome, of a later slot; `last` is the slot of the one before it, -1 if there is none."""
        known = Standing() if last >= 0 and thresholds.forgotten(last, seen.slot) else self
        return known.calmer(1) if known.is_calm and seen.well else known.after(seen, thresholds)

    @property
    def is_up(self) -> bool:
        """Whether it is available, be it degraded."""
        return self.available.condition is Condition.UP

    @property
    def is_down(self) -> bool:
        """Whether it is not available."""
        return self.available.condition is Condition.DOWN

    @property
    def degraded_since(self) -> int | None:
        """Since which slot it is up and not well; None if it is not so."""
        degraded = self.is_up and self.well.condition is Condition.DOWN
        return max(self.available.since, self.well.since) if degraded else None

    @property
    def fine_since(self) -> int:
        """Since which slot it is up, and well as far as that is known. Of a region that is both."""
        return max(self.available.since, self.well.since if self.well.condition is Condition.UP else 0)


@dataclass(frozen=True, slots=True)
class Region:
    """What is remembered of one service from one region. `window` ascends by slot; `base` is the standing before it.

    `silent_slot`: the newest slot when silence was last declared, -1 if it never was.
    """

    name: str
    base: Standing = Standing()
    base_slot: int = -1
    window: tuple[Observation, ...] = ()
    silent_slot: int = -1

    @property
    def newest_slot(self) -> int:
        """The newest slot with a known outcome; -1 if there never was one."""
        return self.window[-1].slot if self.window else self.base_slot

    @property
    def is_silent(self) -> bool:
        """Whether nothing newer came since silence was declared, or since what was known was forgotten."""
        return not self.window or self.silent_slot >= self.newest_slot


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status, since which slot (None: since it was asked first), and what it rests on, as (region, slot). The degraded are among `up`.

    `unsure`: from there too little was heard to say anything: some failures after nothing was known.
    `first_failed`: the first failure of the oldest run among the regions down, or the first outcome that was not well where all are up.
    `confirmed`: the outcome that completed the youngest such run; None where that is longer ago than what is remembered.
    """

    status: Status
    since: int | None = None
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    proof: tuple[tuple[str, int], ...] = ()
    first_failed: int | None = None
    confirmed: int | None = None


def silent_after_ms(*, check_interval: int, timeout: int) -> int:
    """Return after how long without an outcome nothing is known any more: 2.5 intervals and a timeout, at least 3 s. All in ms."""
    return max(SILENT_AT_LEAST_MS, int(SILENT_INTERVALS * check_interval) + timeout)


def observe(region: Region, seen: Iterable[Observation], thresholds: Thresholds) -> Region:
    """Return the region with more outcomes, in whatever order they come. A slot that is known, or older than the base, changes nothing."""
    known = {one.slot: one for one in region.window}
    for one in seen:
        if one.slot > region.base_slot:
            known.setdefault(one.slot, one)
    ordered = [known[slot] for slot in sorted(known)]
    base, base_slot = region.base, region.base_slot
    if len(ordered) > WINDOW:
        for one in ordered[:-WINDOW]:
            base, base_slot = base.follow(base_slot, one, thresholds), one.slot
    return replace(region, base=base, base_slot=base_slot, window=tuple(ordered[-WINDOW:]))


def unmoved(before: Region, seen: Iterable[Observation], thresholds: Thresholds) -> bool:
    """Say whether the verdict surely stays: all that is new is later and well, in a region that was up and well already.

    Most outcomes are such, and need no judgement. A gap before one of them changes nothing: from unknown, one success makes a region well.
    """
    enough = max(thresholds.failure, thresholds.recovery)
    tail = before.window[-enough:]
    if before.is_silent or len(tail) < enough or not all(one.well for one in tail):
        return False
    newest = before.newest_slot
    return all(one.well and one.slot > newest for one in seen)


def silenced(region: Region) -> Region:
    """Return the region after it fell silent: nothing is known until a newer outcome comes. What that finds, the gap decides."""
    return replace(region, silent_slot=region.newest_slot)


def forgotten(region: Region) -> Region:
    """Return the region after a pause: what was known is past, and the next outcome begins from unknown."""
    return replace(region, base=Standing(), base_slot=region.newest_slot, window=())


def standing(region: Region, thresholds: Thresholds) -> Standing:
    """Return how a region is, all its outcomes considered; unknown while it is silent."""
    if region.is_silent:
        return Standing()
    present, last = region.base, region.base_slot
    for one in region.window:
        present, last = present.follow(last, one, thresholds), one.slot
    return present


def is_failing(region: Region, thresholds: Thresholds) -> bool:
    """Say whether the newest outcomes of a region failed, too few of them yet to make it down."""
    present = standing(region, thresholds)
    return not present.is_down and present.available.streak < 0


def _lost(region: Region, thresholds: Thresholds) -> int | None:
    """Return the slot of the last outcome before the newest gap or pause of a region; None if there was none that is remembered."""
    slots = [region.base_slot, *(one.slot for one in region.window)]
    gaps = [last for last, slot in pairwise(slots) if last >= 0 and thresholds.forgotten(last, slot)]
    paused = region.base_slot >= 0 and region.base == Standing()
    return gaps[-1] if gaps else region.base_slot if paused else None


def reached(quorum: str, *, down: int, known: int) -> bool:
    """Say whether so many regions down, of those with data, make the service down. `quorum`: any, majority, all, or a number.

    A number that there are not so many regions with data for is met when all of them are down.
    """
    if down == 0:
        return False
    needed = {"any": 1, "majority": known // 2 + 1, "all": known}.get(quorum)
    return down >= (min(int(quorum), known) if needed is None else needed)


def judge(regions: Sequence[Region], thresholds: Thresholds, *, check_interval: int, quorum: str = "majority") -> Verdict:
    """Return the status over all regions: `mo` where the quorum is down, `po` where fewer are or some are degraded, else `o`; or `nd`."""
    found = {region.name: standing(region, thresholds) for region in regions}
    ups = {name: one.fine_since for name, one in found.items() if one.is_up}
    downs = {name: one.available.since for name, one in found.items() if one.is_down}
    degraded = {name: since for name, one in found.items() if (since := one.degraded_since) is not None}
    silent = {region.name: region.newest_slot + check_interval for region in regions if region.is_silent}
    open_to_doubt = (one for one in regions if not one.is_silent and one.name not in ups and one.name not in downs)
    unsure = {one.name: _lost(one, thresholds) for one in open_to_doubt}
    missed = [last + check_interval for last in unsure.values() if last is not None]
    status = _status(quorum, ups=len(ups), downs=len(downs), degraded=len(degraded))
    telling = downs or degraded or ups or silent
    # Every region, also one that came back or fell silent, may have been what made it another verdict before it became as it is.
    since = max([*ups.values(), *downs.values(), *degraded.values(), *silent.values(), *missed], default=None)
    proof = [(region.name, slot) for region in regions if region.name in telling for slot in _proof(region, found[region.name])]
    failing = [region for region in regions if region.name in (downs or degraded)]
    turned = [slot for region in failing if (slot := _turned(region, thresholds)) is not None]
    up, down, quiet, poor, open_ = (tuple(sorted(one)) for one in (ups, downs, silent, degraded, unsure))
    first_failed = min((downs or degraded).values(), default=None)
    return Verdict(status, since, up, down, quiet, poor, open_, tuple(proof[:PROOF_IN_ALL]), first_failed, max(turned, default=None))


def _status(quorum: str, *, ups: int, downs: int, degraded: int) -> Status:
    if reached(quorum, down=downs, known=ups + downs):
        return Status.MAJOR_OUTAGE
    if downs or degraded:
        return Status.PARTIAL_OUTAGE
    return Status.OPERATIONAL if ups else Status.NO_DATA


def _turned(region: Region, thresholds: Thresholds) -> int | None:
    """Return the slot of the outcome by which a region became what it is; None if that is not remembered."""
    present, last, turned = region.base, region.base_slot, None
    for one in region.window:
        before = Standing() if last >= 0 and thresholds.forgotten(last, one.slot) else present
        present, last = present.follow(last, one, thresholds), one.slot
        if (present.available.condition, present.degraded_since is None) != (before.available.condition, before.degraded_since is None):
            turned = one.slot
    return turned


def _proof(region: Region, present: Standing) -> list[int]:
    """Return the slots of the first outcomes that made a region what it is, or the last one heard of a silent region."""
    if region.is_silent:
        return [region.newest_slot]
    degraded_since = present.degraded_since
    if degraded_since is not None:
        told = [one.slot for one in region.window if one.slot >= degraded_since and not one.well]
    else:
        told = [one.slot for one in region.window if one.slot >= present.available.since and one.healthy == present.is_up]
    return told[:PROOF_PER_REGION]
