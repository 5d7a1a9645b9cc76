"""How time becomes a number: uptime under a chosen accounting, error budget, burn rate. docs/sla.md has the formulas and worked examples.

Every figure is exact (whole milliseconds and fractions) until it is shown; shown percentages are cut, never rounded: nothing reads
100 that was not. Moments in milliseconds since 1970, UTC.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import Enum, auto
from fractions import Fraction

from services.aggregator.domain.timeline import Piece, State

FORMULA_VERSION = 1
"""Goes up when any number computed from the same facts would come out differently."""
PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Accounting:
    """What counts, and for how much. Chosen per SLA contract; all are computed side by side on the same facts.

    `partial_share`: how much of a partial outage is downtime: 0, 0.3, 0.5 or 1. `count_maintenance`: time in maintenance windows counts
    as it was; otherwise it is left out. `count_unknown`: unknown time counts, and as downtime; otherwise it is left out. Degraded is up.
    """

    partial_share: Fraction = Fraction(3, 10)
    count_maintenance: bool = False
    count_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """The time of a window, in milliseconds. `downtime` is weighted, so a fraction; the others add up to the window."""

    counted: int = 0
    downtime: Fraction = Fraction(0)
    maintenance: int = 0
    excluded: int = 0
    unknown: int = 0
    inactive: int = 0

    @property
    def uptime(self) -> Fraction | None:
        """The share of the counted time that was up; None where nothing counts."""
        return 1 - self.downtime / self.counted if self.counted else None

    @property
    def percentage(self) -> Decimal | None:
        """The uptime in percent, cut to four decimals; None where nothing counts."""
        return None if self.uptime is None else cut_percentage(self.uptime)

    def plus(self, other: "Account") -> "Account":
        """Return both together, as for a group of services."""
        return Account(
            self.counted + other.counted,
            self.downtime + other.downtime,
            self.maintenance + other.maintenance,
            self.excluded + other.excluded,
            self.unknown + other.unknown,
            self.inactive + other.inactive,
        )


def cut_percentage(share: Fraction) -> Decimal:
    """Return a share in percent, cut (not rounded) to four decimals."""
    hundredfold = share * 100
    return (Decimal(hundredfold.numerator) / Decimal(hundredfold.denominator)).quantize(PLACES, rounding=ROUND_DOWN)


def downtime_share(state: State, accounting: Accounting) -> Fraction:
    """Return how much of a state's time is downtime."""
    if state in {State.DOWN, State.UNKNOWN}:
        return Fraction(1)
    return accounting.partial_share if state is State.PARTIAL else Fraction(0)


def account(
    pieces: Iterable[Piece], accounting: Accounting, *, maintenance: frozenset[str] = frozenset(), exclusions: frozenset[str] = frozenset()
) -> Account:
    """Return what some pieces of a timeline amount to. `maintenance` and `exclusions` are the ids of spans of either sort.

    A piece is left out for one reason only, in this order: inactive, excluded by the contract, maintenance, unknown.
    """
    lengths: Counter[State | _Left] = Counter()
    for piece in pieces:
        lengths[_place(piece, accounting, maintenance, exclusions)] += piece.length
    counted = {state: lengths[state] for state in State if state in lengths}
    return Account(
        counted=sum(counted.values()),
        downtime=sum((length * downtime_share(state, accounting) for state, length in counted.items()), Fraction(0)),
        maintenance=lengths[_Left.MAINTENANCE],
        excluded=lengths[_Left.EXCLUDED],
        unknown=lengths[_Left.UNKNOWN],
        inactive=lengths[_Left.INACTIVE],
    )


class _Left(Enum):
    """Why a piece is left out."""

    INACTIVE = auto()
    EXCLUDED = auto()
    MAINTENANCE = auto()
    UNKNOWN = auto()


def _place(piece: Piece, accounting: Accounting, maintenance: frozenset[str], exclusions: frozenset[str]) -> State | _Left:
    """Return the state that a piece counts as, or why it is left out."""
    if piece.state is State.INACTIVE:
        return _Left.INACTIVE
    if not exclusions.isdisjoint(piece.spans):
        return _Left.EXCLUDED
    if not accounting.count_maintenance and not maintenance.isdisjoint(piece.spans):
        return _Left.MAINTENANCE
    if piece.state is State.UNKNOWN and not accounting.count_unknown:
        return _Left.UNKNOWN
    return piece.state


@dataclass(frozen=True, slots=True)
class Budget:
    """The error budget of a window, in milliseconds: what may be down, what was, and what is left (below zero when overspent)."""

    allowed: Fraction
    used: Fraction

    @property
    def left(self) -> Fraction:
        """What may still be down."""
        return self.allowed - self.used

    @property
    def used_share(self) -> Fraction | None:
        """The part of the budget that is used; None of a budget of nothing (a target of 100 %) that nothing was taken from."""
        if self.allowed:
            return self.used / self.allowed
        return Fraction(0) if not self.used else None

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left: of a budget of nothing, as soon as anything was down."""
        return self.used > 0 and self.left <= 0


def budget(target: Fraction, so_far: Account, *, still_to_come: int) -> Budget:
    """Return the budget of a window that is counted so far, with so many milliseconds still to come, taken to be counted in full.

    `target` is a share: 99.9 % is 999/1000.
    """
    return Budget((1 - target) * (so_far.counted + still_to_come), so_far.downtime)


@dataclass(frozen=True, slots=True)
class BurnRule:
    """When a budget burns too fast: over the long window, and still over the short one. Lengths in milliseconds."""

    name: str
    long: int
    short: int
    budget_share: Fraction


_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
BURN_RULES = (
    BurnRule("fast", _HOUR, 5 * _MINUTE, Fraction(2, 100)),
    BurnRule("medium", 6 * _HOUR, 30 * _MINUTE, Fraction(5, 100)),
    BurnRule("slow", 3 * _DAY, 6 * _HOUR, Fraction(10, 100)),
)
"""Google, The Site Reliability Workbook, chapter 5, table 5-8: 2 % of the budget in one hour, 5 % in six, 10 % in three days; each with a
short window of a twelfth, so that the alert ends soon after the trouble does."""
LEAST_SAMPLES = 10
"""With fewer known outcomes in the long window a single failure would look like a catastrophe (same chapter, low-traffic services)."""


def burn_rate(part: Account, target: Fraction) -> Fraction | None:
    """Return how many times faster than evenly the budget burnt in a part of time; None where nothing counts or there is no budget."""
    if not part.counted or target >= 1:
        return None
    return part.downtime / part.counted / (1 - target) if part.downtime else Fraction(0)


def threshold(rule: BurnRule, *, window: int) -> Fraction:
    """Return the burn rate from which a rule alerts, for an SLA window of that length: 14.4, 6 and 1 of thirty days.

    Never below 1, which uses the budget up exactly at the end of its window: slower is what the budget is there for. Without that bound a
    tenth of a week's budget in three days would alert, and February's.
    """
    return max(Fraction(1), rule.budget_share * window / rule.long)


def burning(rule: BurnRule, *, target: Fraction, window: int, long: Account, short: Account, samples: int) -> bool:
    """Say whether a rule alerts. `long` and `short` are the accounts of its two windows, `samples` the known outcomes in the long one."""
    rates = (burn_rate(part, target) for part in (short, long))
    least = threshold(rule, window=window)
    return samples >= LEAST_SAMPLES and all(rate is not None and rate >= least for rate in rates)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A window of a contract for one service: the account, the budget, and whether the target was met (None: nothing counts)."""

    account: Account
    budget: Budget
    met: bool | None


def judge(target: Fraction, counted: Account, *, still_to_come: int) -> Judgement:
    """Return how a window stands against its target."""
    met = None if counted.uptime is None else counted.uptime >= target
    return Judgement(counted, budget(target, counted, still_to_come=still_to_come), met)


def worst(judgements: Sequence[Judgement]) -> Judgement | None:
    """Return the judgement that a contract over several services is told by: that of the service with the least uptime."""
    known = [one for one in judgements if one.account.uptime is not None]
    return min(known, key=lambda one: one.account.uptime or Fraction(0), default=None)
