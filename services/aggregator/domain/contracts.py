"""What an SLA contract may say, and which windows follow from it. Moments in milliseconds since 1970, UTC."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from zoneinfo import ZoneInfo

from services.aggregator.domain.accounting import Accounting
from services.aggregator.domain.calendar import DAY_MS, Period, Window, day_of, day_start, window_at

MOST_SERVICES = 1000
MOST_LETTERS_OF_NAME, MOST_LETTERS_OF_REASON = 200, 2000
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ID_LETTERS = 63
_TARGET = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?")
_SHARES = ("0", "0.3", "0.5", "1")


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person wrote, unvalidated; the period is one of `Period` already."""

    id: str
    name: str
    target: str
    rolling_days: int
    time_zone: str
    services: tuple[str, ...]
    partial_share: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """A field that cannot be used, and why."""

    field: str
    reason: str


def flaws(draft: Draft, *, missing: Collection[str] = ()) -> list[Flaw]:
    """Return everything that is wrong with a draft. `missing`: those of its services that do not exist."""
    return [*_flaws_of_terms(draft), *_flaws_of_services(draft, missing)]


def _flaws_of_terms(draft: Draft) -> Iterator[Flaw]:
    if not _ID.fullmatch(draft.id) or len(draft.id) > _ID_LETTERS:
        yield Flaw("id", f"needs small letters, digits and single hyphens between them, at most {_ID_LETTERS}: eu-gold")
    if reason := flaw_of_text(draft.name, most=MOST_LETTERS_OF_NAME):
        yield Flaw("name", reason)
    if not _TARGET.fullmatch(draft.target) or not 0 < Fraction(draft.target) <= 100:  # noqa: PLR2004  # percent
        yield Flaw("target", "needs a percentage above 0 and up to 100 with at most 4 decimals: 99.95")
    if not 1 <= draft.rolling_days <= 366:  # noqa: PLR2004  # a year
        yield Flaw("rolling_days", "needs 1 to 366 days")
    if zone(draft.time_zone) is None:
        yield Flaw("time_zone", f"{draft.time_zone!r} is no time zone of the IANA database: Europe/Berlin")
    if draft.partial_share not in _SHARES:
        yield Flaw("partial_share", f"needs one of {', '.join(_SHARES)}")


def _flaws_of_services(draft: Draft, missing: Collection[str]) -> Iterator[Flaw]:
    if not 1 <= len(draft.services) <= MOST_SERVICES:
        yield Flaw("services", f"needs 1 to {MOST_SERVICES} services")
    seen: set[str] = set()
    for place, service_id in enumerate(draft.services):
        if service_id in seen:
            yield Flaw(f"services.{place}", f"{service_id!r} is named twice")
        elif service_id in missing:
            yield Flaw(f"services.{place}", f"there is no service {service_id!r}")
        seen.add(service_id)


def flaw_of_text(text: str, *, most: int) -> str | None:
    """Return what is wrong with a name or a reason that people are to read."""
    if not text.strip():
        return "must not be empty"
    if len(text) > most:
        return f"needs at most {most} characters"
    printable = "".join(text.split()).isprintable()  # lines and tabs are fine
    return None if printable else "contains characters that cannot be printed"


def zone(name: str) -> ZoneInfo | None:
    """Return a time zone by its name in the IANA database, None if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no path inside the database; a folder of it, or longer than a file's name
        return None


@dataclass(frozen=True, slots=True)
class Terms:
    """What numbers follow from. `target` is a share: 99.9 % is 999/1000."""

    target: Fraction
    period: Period
    rolling_days: int
    zone: ZoneInfo
    accounting: Accounting


def present(terms: Terms, now: int) -> Window:
    """Return the window that now is counted in; a rolling one ends now."""
    return window_at(terms.period, now, terms.zone, rolling_days=terms.rolling_days)


def ended(terms: Terms, *, after: int, until: int) -> list[Window]:
    """Return the months or quarters that ended after a moment and up to another, oldest first. A rolling window never ends."""
    found: list[Window] = []
    if terms.period is Period.ROLLING or until <= after:
        return found
    window = window_at(terms.period, after, terms.zone)
    while window.end <= until:
        if window.end > after:
            found.append(window)
        window = window_at(terms.period, window.end, terms.zone)
    return found


def last_ended(terms: Terms, now: int) -> Window:
    """Return the month or quarter before the present one; of a rolling promise the window up to the beginning of today."""
    if terms.period is Period.ROLLING:
        today = day_start(day_of(now, terms.zone), terms.zone)
        return Window(today - terms.rolling_days * DAY_MS, today)
    return window_at(terms.period, present(terms, now).start - 1, terms.zone)


def beginning(terms: Terms, first: date) -> Window | None:
    """Return the window that begins on a local day; None if none does: months and quarters begin on the first of theirs."""
    start = day_start(first, terms.zone)
    if terms.period is Period.ROLLING:
        return Window(start, start + terms.rolling_days * DAY_MS)
    window = window_at(terms.period, start, terms.zone)
    return window if day_of(window.start, terms.zone) == first else None
