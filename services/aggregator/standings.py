"""How services stand under an SLA contract: budget, burn rates, and the same in the words of the contracts. Formulas: docs/sla.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.aggregator.domain.accounting import (
    BURN_RULES,
    LEAST_SAMPLES,
    Account,
    BurnRule,
    Judgement,
    account,
    burn_rate,
    burning,
    cut_percentage,
    judge,
    threshold,
)
from services.aggregator.domain.calendar import Period, Window
from services.aggregator.domain.contracts import present
from services.aggregator.domain.timeline import Piece
from services.aggregator.facts import Checks, Facts, within
from services.aggregator.promises import Promise
from services.aggregator.store import moment
from shared.contracts.sla import BurnRate, SlaStanding, SlaWindow
from shared.database import Connection

LONGEST_RULE = max(rule.long for rule in BURN_RULES)
MINUTE_MS = 60_000

# Each count ends at the first few: the index of a service's checks is read no further.
SQL_SAMPLES = """
select asked.service_id, asked.since, (
    select count(*) from (
        select from api_response_times c
         where c.service_id = asked.service_id and c.scheduled_at >= asked.since and c.scheduled_at < $3
           and c.source = 'check' and c.attempt = 0 and c.is_success is not null
         limit $4) few) as number
  from unnest($1::text[], $2::timestamptz[]) as asked (service_id, since)"""

Sample = tuple[str, int]
"""A service, and since when its checks with a known outcome are counted."""


@dataclass(frozen=True, slots=True)
class View:
    """One service as one contract sees it."""

    promise: Promise
    service_id: str
    pieces: Sequence[Piece]
    maintenance: frozenset[str]

    def account(self, window: Window) -> Account:
        """Return what a window amounts to by the contract's accounting."""
        chosen = self.promise.terms.accounting
        return account(within(self.pieces, window), chosen, maintenance=self.maintenance, exclusions=self.promise.exclusion_ids)


def view(promise: Promise, service_id: str, facts: Facts) -> View:
    """Return a service as a contract sees it, over the time of the facts."""
    return View(promise, service_id, facts.pieces(promise.exclusions), facts.maintenance_ids)


def begins(promise: Promise, now: int) -> int:
    """Return since when facts are needed to say how a contract stands now."""
    return min(present(promise.terms, now).start, now - LONGEST_RULE)


def judged(one: View, window: Window, *, now: int) -> Judgement:
    """Return how a window stands, as far as it has come."""
    until = min(window.end, now)
    counted = one.account(Window(window.start, until))
    return judge(one.promise.terms.target, counted, still_to_come=window.end - until)


@dataclass(frozen=True, slots=True)
class Burn:
    """One burn rule on one service: the accounts of both its windows that end now, for an SLA window of a length."""

    rule: BurnRule
    long: Account
    short: Account
    target: Fraction
    window: int

    def alerts(self, samples: int) -> bool:
        """Say whether the rule alerts, with so many known outcomes in its long window."""
        return burning(self.rule, target=self.target, window=self.window, long=self.long, short=self.short, samples=samples)

    def told(self, *, alerting: bool) -> BurnRate:
        """Return the same in the words of the contracts."""
        return BurnRate(
            rule=self.rule.name,
            threshold=float(threshold(self.rule, window=self.window)),
            long=_float(burn_rate(self.long, self.target)),
            short=_float(burn_rate(self.short, self.target)),
            alerting=alerting,
        )


def burns(one: View, *, now: int) -> list[Burn]:
    """Return every burn rule as it is now."""
    terms, length = one.promise.terms, present(one.promise.terms, now).length
    return [
        Burn(rule, one.account(Window(now - rule.long, now)), one.account(Window(now - rule.short, now)), terms.target, length)
        for rule in BURN_RULES
    ]


def suspects(service_id: str, found: Iterable[Burn], *, now: int) -> list[Sample]:
    """Return what is to be counted: checks are looked at only where the rates alone would alert."""
    return [(service_id, now - one.rule.long) for one in found if one.alerts(LEAST_SAMPLES)]


async def samples(conn: Connection, wanted: Iterable[Sample], *, now: int) -> dict[Sample, int]:
    """Return how many checks with a known outcome there were since then, counted up to `LEAST_SAMPLES`."""
    asked = sorted(set(wanted))
    if not asked:
        return {}
    services, starts = [service_id for service_id, _ in asked], [moment(since) for _, since in asked]
    rows = await conn.fetch(SQL_SAMPLES, services, starts, moment(now), LEAST_SAMPLES)
    by_start = {(row["service_id"], row["since"]): row["number"] for row in rows}
    return {one: by_start[one[0], moment(one[1])] for one in asked}


def rates(service_id: str, found: Iterable[Burn], counted: Mapping[Sample, int], *, now: int) -> tuple[BurnRate, ...]:
    """Return burn rules as told; what was not counted does not alert."""
    return tuple(one.told(alerting=one.alerts(counted.get((service_id, now - one.rule.long), 0))) for one in found)


def no_rates(promise: Promise, *, now: int) -> tuple[BurnRate, ...]:
    """Return the burn rules of a service that the contract no longer speaks of: nothing counts, and nothing alerts."""
    length = present(promise.terms, now).length
    return tuple(Burn(rule, Account(), Account(), promise.terms.target, length).told(alerting=False) for rule in BURN_RULES)


def standing(service_id: str, found: Judgement, checks: Checks, burn_rates: tuple[BurnRate, ...] = ()) -> SlaStanding:
    """Return a judgement in the words of the contracts."""
    counted, budget, used = found.account, found.budget, found.budget.used_share
    return SlaStanding(
        service_id=service_id,
        uptime_percentage=_float(counted.percentage),
        checks_percentage=_float(checks.percentage),
        counted_minutes=_minutes(counted.counted),
        downtime_minutes=_minutes(counted.downtime),
        maintenance_minutes=_minutes(counted.maintenance),
        excluded_minutes=_minutes(counted.excluded),
        unknown_minutes=_minutes(counted.unknown),
        inactive_minutes=_minutes(counted.inactive),
        budget_minutes=_minutes(budget.allowed),
        budget_left_minutes=_minutes(budget.left),
        budget_used_percentage=None if used is None else float(cut_percentage(used)),
        met=found.met,
        burn_rates=burn_rates,
    )


def window_told(window: Window) -> SlaWindow:
    """Return a window in the words of the contracts."""
    return SlaWindow(starts_at=moment(window.start), ends_at=moment(window.end))


def is_rolling(promise: Promise) -> bool:
    """Say whether a contract's window moves with the clock."""
    return promise.terms.period is Period.ROLLING


def _minutes(ms: Fraction | int) -> float:
    return float(Fraction(ms) / MINUTE_MS)


def _float(value: Decimal | Fraction | None) -> float | None:
    return None if value is None else float(value)
