"""The timeline of a service: which state it was in, from when to when. The truth that time-based uptime is computed from.

Intervals are half-open, ascending and never overlap; what lies in none of them is `inactive`: the service did not exist, or nobody
wanted it checked. Moments in milliseconds since 1970, UTC. What may lie on top of the facts (maintenance, exclusions, corrections) is
laid over them here, and the facts stay as they were.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from services.aggregator.domain.calendar import Window
from shared.contracts.codes import TimelineState

State = TimelineState


@dataclass(frozen=True, slots=True)
class Interval:
    """A state from `start` up to, and without, `end`. `correction` names the correction that says so, None for what was measured."""

    start: int
    end: int
    state: State
    correction: str | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch that changes how time is counted: a maintenance window, or an exclusion of a contract. `reason` is for people."""

    start: int
    end: int
    id: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """A reclassification of the past by a person. Of two that overlap the later `number` holds."""

    start: int
    end: int
    state: State
    id: str
    number: int


def clip(intervals: Iterable[Interval], window: Window) -> list[Interval]:
    """Return the intervals inside a window, cut at its edges."""
    return [
        one
        if window.start <= one.start and one.end <= window.end
        else replace(one, start=max(one.start, window.start), end=min(one.end, window.end))
        for one in intervals
        if one.start < window.end and one.end > window.start
    ]


def filled(intervals: Iterable[Interval], window: Window) -> list[Interval]:
    """Return the window without gaps: what no interval covers is inactive."""
    whole: list[Interval] = []
    at = window.start
    for one in clip(intervals, window):
        if one.start > at:
            whole.append(Interval(at, one.start, State.INACTIVE))
        whole.append(one)
        at = one.end
    if at < window.end:
        whole.append(Interval(at, window.end, State.INACTIVE))
    return merged(whole)


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the intervals with neighbours of the same state (and correction) joined, and empty ones left out."""
    joined: list[Interval] = []
    for one in intervals:
        if one.end <= one.start:
            continue
        last = joined[-1] if joined else None
        if last and last.end == one.start and (last.state, last.correction) == (one.state, one.correction):
            joined[-1] = replace(last, end=one.end)
        else:
            joined.append(one)
    return joined


def corrected(intervals: Sequence[Interval], corrections: Iterable[Correction], window: Window) -> list[Interval]:
    """Return the window with corrections laid over it. Time when the service was inactive can be corrected too."""
    facts = filled(intervals, window)
    for one in sorted(corrections, key=lambda correction: correction.number):
        start, end = max(one.start, window.start), min(one.end, window.end)
        if start >= end:
            continue
        before = [replace(fact, end=min(fact.end, start)) for fact in facts if fact.start < start]
        after = [replace(fact, start=max(fact.start, end)) for fact in facts if fact.end > end]
        facts = [*before, Interval(start, end, one.state, one.id), *after]
    return merged(facts)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch in which neither the state nor the spans over it change. `spans` are the ids of those, ascending."""

    start: int
    end: int
    state: State
    spans: tuple[str, ...]
    correction: str | None = None

    @property
    def length(self) -> int:
        """Its length in milliseconds."""
        return self.end - self.start


def pieces(intervals: Sequence[Interval], spans: Iterable[Span]) -> list[Piece]:
    """Return the intervals cut wherever a span begins or ends, each piece with the spans that cover it."""
    present = [span for span in spans if span.end > span.start]
    if not present:
        return [Piece(one.start, one.end, one.state, (), one.correction) for one in intervals]
    cuts = sorted({moment for span in present for moment in (span.start, span.end)})
    found: list[Piece] = []
    for one in intervals:
        inside = cuts[bisect_right(cuts, one.start) : bisect_right(cuts, one.end - 1)]
        edges = [one.start, *inside, one.end]
        for start, end in pairwise(edges):
            over = tuple(sorted(span.id for span in present if span.start < end and span.end > start))
            found.append(Piece(start, end, one.state, over, one.correction))
    return found
