"""What a report says, in words and in order; how it is drawn is not known here. Formulas: docs/sla.md.

Moments are shown in the contract's zone with their offset, to the second; the facts behind them are whole milliseconds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from services.gateway.web.reports.outages import Outage, outages
from shared.contracts.codes import SlaPeriod
from shared.contracts.history import SlaReport
from shared.contracts.sla import SlaExclusion, SlaStanding

TEXTS = Path(__file__).parents[1] / "texts"
NONE = DASH = "\u2013"
TIED = "\u00a0"
"""A space at which no line ends."""
SHARES = {"0": "0", "0.3": "30", "0.5": "50", "1": "100"}
"""How much of a partial outage is downtime, in percent."""

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows of plain text. `widths` are parts of the whole; `omitted` rows are in the CSV only."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    numbers: bool = False
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what is said under it, and a table."""

    heading: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A report, ready to be drawn. `kind` is good, bad or unknown."""

    language: str
    title: str
    name: str
    period: str
    verdict: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: str
    about: datetime


@cache
def texts(language: str) -> Texts:
    """Return the words of a language."""
    words: Texts = json.loads((TEXTS / f"report-{language}.json").read_text(encoding="utf-8"))
    return words


@dataclass(frozen=True, slots=True)
class _Speaker:
    """Says values in a language and a zone."""

    t: Texts
    zone: ZoneInfo
    names: Mapping[str, str]

    def service(self, service_id: str) -> str:
        return self.names.get(service_id, service_id)

    def moment(self, value: datetime) -> str:
        local = value.astimezone(self.zone)
        offset = local.strftime("%z")
        return f"{local:%Y-%m-%d %H:%M:%S}{TIED}{offset[:3]}:{offset[3:5]}"

    def minutes(self, value: float) -> str:
        shown = f"{value:,.3f}".rstrip("0").rstrip(".")
        return self.unit("0" if shown == "-0" else shown, "min")

    def percent(self, value: float | None) -> str:
        return NONE if value is None else f"{value:.4f} %"

    def length(self, value: timedelta) -> str:
        if value < timedelta(seconds=1):
            return self.unit(f"{value.total_seconds():.3f}", "s")
        seconds = int(value.total_seconds())
        parts = ((seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
        return " ".join(self.unit(str(number), unit) for number, unit in parts if number)

    def unit(self, number: str, unit: str) -> str:
        return self.t[unit].replace("{n}", number)

    def yes_no(self, value: bool | None) -> str:  # noqa: FBT001  # what is to be said
        return NONE if value is None else self.t["met" if value else "missed"]


def content(report: SlaReport, *, language: str, names: Mapping[str, str], most_rows: int) -> Content:
    """Return what a report says in a language. `names` are what services are called; no list has more than so many rows."""
    t = texts(language)
    say = _Speaker(t, ZoneInfo(report.contract.time_zone), names)
    kind, verdict = _verdict(report, t)
    window = f"{say.moment(report.window.starts_at)} {DASH} {say.moment(report.window.ends_at)}"
    return Content(
        language=language,
        title=t["title"],
        name=report.contract.name,
        period=window,
        verdict=verdict,
        kind=kind,
        facts=_facts(report, say),
        sections=(
            Section(t["services"], (t["services.say"],), _services(report, say)),
            Section(t["time"], (t["time.say"],), _time(report, say)),
            _outages(report, say, most_rows),
            _left_out(report, say, most_rows),
            _corrections(report, say, most_rows),
            Section(t["accounting"], _accounting(report, t)),
            Section(t["digests"], (t["digests.say"],), _digests(report, say)),
        ),
        footer=f"{report.contract.name} · {report.contract.id} · {t['digest']} {report.digest[:16]}",
        about=_about(report),
    )


def _about(report: SlaReport) -> datetime:
    """Return the moment that a report is about: the same facts give the same file."""
    return report.window.ends_at if report.is_final else max((one.ends_at for one in report.audits), default=report.window.ends_at)


def _verdict(report: SlaReport, t: Texts) -> tuple[str, str]:
    found = {one.met for one in report.standings}
    if False in found:
        kind, key = "bad", "verdict.missed"
    elif True in found:
        kind, key = "good", "verdict.met"
    else:
        kind, key = "unknown", "verdict.nothing"
    return kind, t[key] if report.is_final else f"{t[key]} {t['verdict.preliminary']}"


def _facts(report: SlaReport, say: _Speaker) -> tuple[tuple[str, str], ...]:
    t, contract = say.t, report.contract
    period = t[f"period.{contract.period}"]
    if contract.period is SlaPeriod.ROLLING:
        period = f"{period} ({say.unit(str(contract.rolling_days), 'd')})"
    return (
        (t["contract"], f"{contract.name} ({contract.id}, {t['version']} {contract.version})"),
        (t["target"], f"{contract.target} %"),
        (t["period"], period),
        (t["zone"], contract.time_zone),
        (t["state"], t["state.final" if report.is_final else "state.preliminary"]),
        (t["digest"], report.digest),
    )


def _services(report: SlaReport, say: _Speaker) -> Table:
    t = say.t
    columns = (t["service"], t["by_time"], t["by_checks"], t["downtime"], t["budget"], t["budget_left"], t["target"])
    rows = tuple(
        (
            say.service(one.service_id),
            say.percent(one.uptime_percentage),
            say.percent(one.checks_percentage),
            say.minutes(one.downtime_minutes),
            say.minutes(one.budget_minutes),
            _left(one, say),
            say.yes_no(one.met),
        )
        for one in report.standings
    )
    return Table(columns, rows, (26, 13, 13, 14, 13, 21, 11), numbers=True)


def _left(one: SlaStanding, say: _Speaker) -> str:
    left = say.minutes(one.budget_left_minutes)
    used = one.budget_used_percentage
    return left if used is None else f"{left} ({say.t['used']} {used:g} %)"


def _time(report: SlaReport, say: _Speaker) -> Table:
    t = say.t
    columns = (t["service"], t["counted"], t["maintenance"], t["excluded"], t["unknown"], t["inactive"], t["checks"])
    checks = {one.service_id: one for one in report.audits}

    def row(one: SlaStanding) -> tuple[str, ...]:
        audit = checks.get(one.service_id)
        figures = (one.counted_minutes, one.maintenance_minutes, one.excluded_minutes, one.unknown_minutes, one.inactive_minutes)
        told = (
            NONE if audit is None or audit.total_checks is None else f"{audit.total_checks:,} ({t['failed']} {audit.failed_checks or 0:,})"
        )
        return (say.service(one.service_id), *(say.minutes(figure) for figure in figures), told)

    return Table(columns, tuple(row(one) for one in report.standings), (26, 14, 14, 14, 12, 12, 20), numbers=True)


def _outages(report: SlaReport, say: _Speaker, most: int) -> Section:
    t = say.t
    found = [one for audit in report.audits for one in outages(audit)]
    if not found:
        return Section(t["outages"], (t["outages.none"],))
    columns = (t["service"], t["state"], t["from"], t["to"], t["length"], t["regions"], t["note"])
    rows = [_outage(one, say) for one in found]
    return Section(t["outages"], (t["outages.say"],), _at_most(most, columns, rows, (20, 13, 19, 19, 15, 15, 20)))


def _at_most(most: int, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> Table:
    return Table(columns, tuple(rows[:most]), widths, omitted=max(0, len(rows) - most))


def _outage(one: Outage, say: _Speaker) -> tuple[str, ...]:
    notes = [say.t[f"note.{note}"] for note in one.notes]
    return (
        say.service(one.service_id),
        say.t[f"state.{one.state}"],
        say.moment(one.starts_at),
        say.moment(one.ends_at),
        say.length(one.ends_at - one.starts_at),
        ", ".join(one.regions) or NONE,
        ", ".join(notes) or NONE,
    )


def _left_out(report: SlaReport, say: _Speaker, most: int) -> Section:
    t = say.t
    works = {one.id: one for audit in report.audits for one in audit.maintenances}
    rows = [
        (
            one.starts_at,
            (t["maintenance"], say.moment(one.starts_at), say.moment(one.ends_at), one.title, _by(one.created_by, one.created_at, say)),
        )
        for one in works.values()
    ]
    rows += [
        (
            one.starts_at,
            (t["exclusion"], say.moment(one.starts_at), say.moment(one.ends_at), one.reason, _by(one.made_by, one.made_at, say)),
        )
        for one in exclusions(report)
    ]
    if not rows:
        return Section(t["left_out"], (t["left_out.none"],))
    columns = (t["what"], t["from"], t["to"], t["why"], t["who"])
    return Section(t["left_out"], (t["left_out.say"],), _at_most(most, columns, [row for _, row in sorted(rows)], (14, 19, 19, 30, 24)))


def exclusions(report: SlaReport) -> list[SlaExclusion]:
    """Return the contract's exclusions that touch the window, the one that begins first first."""
    found = {one.id: one for audit in report.audits for one in audit.exclusions} | {one.id: one for one in report.contract.exclusions}
    inside = [one for one in found.values() if one.starts_at < report.window.ends_at and one.ends_at > report.window.starts_at]
    return sorted(inside, key=lambda one: (one.starts_at, str(one.id)))


def _by(who: str, when: datetime, say: _Speaker) -> str:
    return f"{who}, {say.moment(when)}"


def _corrections(report: SlaReport, say: _Speaker, most: int) -> Section:
    t = say.t
    found = sorted((one for audit in report.audits for one in audit.corrections), key=lambda one: (one.starts_at, str(one.id)))
    if not found:
        return Section(t["corrections"], (t["corrections.none"],))

    rows = []
    for one in found:
        by = _by(one.made_by, one.made_at, say)
        if one.revoked_at is not None:
            by = f"{by}; {t['revoked']} {_by(one.revoked_by or NONE, one.revoked_at, say)}"
        state = t[f"state.{one.state}"]
        rows.append((say.service(one.service_id), say.moment(one.starts_at), say.moment(one.ends_at), state, one.reason, by))
    columns = (t["service"], t["from"], t["to"], t["counts_as"], t["why"], t["who"])
    return Section(t["corrections"], (t["corrections.say"],), _at_most(most, columns, rows, (18, 19, 19, 13, 26, 24)))


def _accounting(report: SlaReport, t: Texts) -> tuple[str, ...]:
    contract = report.contract
    versions = sorted({audit.formula_version for audit in report.audits})
    return (
        t["accounting.formula"],
        t["accounting.down"],
        t["accounting.partial"].replace("{share}", SHARES.get(contract.partial_share, contract.partial_share)),
        t["accounting.maintenance.in" if contract.count_maintenance else "accounting.maintenance.out"],
        t["accounting.unknown.in" if contract.count_unknown else "accounting.unknown.out"],
        t["accounting.checks"],
        t["accounting.budget"],
        t["accounting.worst"],
        t["accounting.cut"],
        f"{t['accounting.version']}: {', '.join(str(one) for one in versions) or NONE}",
    )


def _digests(report: SlaReport, say: _Speaker) -> Table:
    listed = tuple((say.service(one.service_id), one.digest) for one in report.audits)
    return Table((say.t["service"], say.t["digest"]), ((say.t["all"], report.digest), *listed), (30, 70))
