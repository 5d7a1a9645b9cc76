"""A report as CSV (RFC 4180, UTF-8 with a byte order mark, so that spreadsheets read Korean): for programs, the same in every language.

Two tables, chosen by the asker: one row per service, or one row per outage. Each row says which contract, window and digest it belongs to.
"""

import csv
import io
from collections.abc import Mapping

from services.gateway.web.reports.outages import Outage, outages
from shared.contracts.base import rfc3339
from shared.contracts.history import SlaReport
from shared.contracts.sla import SlaStanding

MARK = "\ufeff"
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV Injection); such text gets an apostrophe before it."""
WHOSE = ("contract_id", "contract_version", "target_percentage", "window_from", "window_to", "final", "digest")
SERVICE = (
    "service_id",
    "service",
    "uptime_percentage",
    "checks_percentage",
    "total_checks",
    "failed_checks",
    "counted_minutes",
    "downtime_minutes",
    "maintenance_minutes",
    "excluded_minutes",
    "unknown_minutes",
    "inactive_minutes",
    "budget_minutes",
    "budget_left_minutes",
    "budget_used_percentage",
    "met",
    "formula_version",
    "audit_digest",
)
OUTAGE = ("service_id", "service", "state", "from", "to", "seconds", "regions", "notes", "audit_digest")

Cell = str | int | float | bool | None


def service_rows(report: SlaReport, names: Mapping[str, str]) -> bytes:
    """Return one row per service."""
    audits = {one.service_id: one for one in report.audits}

    def row(one: SlaStanding) -> list[Cell]:
        audit = audits.get(one.service_id)
        figures: dict[str, Cell] = one.model_dump(mode="json", exclude={"burn_rates"})
        figures |= {"service": names.get(one.service_id, one.service_id)}
        if audit is not None:
            figures |= {"total_checks": audit.total_checks, "failed_checks": audit.failed_checks}
            figures |= {"formula_version": audit.formula_version, "audit_digest": audit.digest}
        return [figures.get(name) for name in SERVICE]

    return _written(SERVICE, report, [row(one) for one in report.standings])


def outage_rows(report: SlaReport, names: Mapping[str, str]) -> bytes:
    """Return one row per outage, service by service, oldest first."""

    def row(one: Outage, digest: str) -> list[Cell]:
        seconds = (one.ends_at - one.starts_at).total_seconds()
        return [
            one.service_id,
            names.get(one.service_id, one.service_id),
            one.state.value,
            rfc3339(one.starts_at),
            rfc3339(one.ends_at),
            seconds,
            " ".join(one.regions),
            " ".join(one.notes),
            digest,
        ]

    return _written(OUTAGE, report, [row(one, audit.digest) for audit in report.audits for one in outages(audit)])


def _written(columns: tuple[str, ...], report: SlaReport, rows: list[list[Cell]]) -> bytes:
    contract, window = report.contract, report.window
    whose: list[Cell] = [
        contract.id,
        contract.version,
        contract.target,
        rfc3339(window.starts_at),
        rfc3339(window.ends_at),
        report.is_final,
        report.digest,
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*WHOSE, *columns])
    writer.writerows([_cell(value) for value in [*whose, *row]] for row in rows)
    return (MARK + text.getvalue()).encode()


def _cell(value: Cell) -> str:
    """Return a value as it is written. Only text can be risky: a number below zero stays one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.startswith(RISKY) else value
    return str(value)
