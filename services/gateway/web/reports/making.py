"""A report as a file: written in a thread, PDF in a process of its own, few at a time, so that nobody else waits for it."""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.gateway.web.reports.content import content, texts
from services.gateway.web.reports.press import Press
from services.gateway.web.reports.rows import outage_rows, service_rows
from shared.contracts.history import SlaReport

AT_ONCE = 2
"""How many pages and tables are written at once; of PDF the press draws one."""
MOST_WAITING = 20
MOST_ON_PAPER = 1_000
MOST_ON_A_PAGE = 5_000
"""How many rows a list has in a PDF and on a page; the CSV has all outages."""

_TEMPLATES = Path(__file__).parents[1] / "templates"
STYLE = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CSP = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The page carries its style, so that it can be saved and sent; nothing else is loaded or run."""

Form = Literal["html", "pdf", "csv"]
Rows = Literal["services", "outages"]


class TooManyReports(Exception):  # noqa: N818  # names the fact
    """Too many reports wait to be drawn: this one was not."""


@dataclass(frozen=True, slots=True)
class Made:
    """A report as a file."""

    name: str
    media_type: str
    disposition: str
    body: bytes


class Reports:
    """Draws reports."""

    def __init__(self, press: Press) -> None:
        """Load the template. PDF is for the press."""
        self._press = press
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._template = environment.get_template("report.html")
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def make(self, report: SlaReport, *, form: str, language: str, rows: Rows, names: Mapping[str, str]) -> Made:
        """Return a report as html, pdf or csv. Raises `TooManyReports`."""
        if self._waiting >= MOST_WAITING:
            raise TooManyReports
        self._waiting += 1
        try:
            if form == "pdf":
                told = await asyncio.to_thread(content, report, language=language, names=names, most_rows=MOST_ON_PAPER)
                return Made(f"{_stem(report)}-{language}.pdf", "application/pdf", "inline", await self._press.pdf(told))
            async with self._at_once:
                return await asyncio.to_thread(self.write, report, form=form, language=language, rows=rows, names=names)
        finally:
            self._waiting -= 1

    def write(self, report: SlaReport, *, form: str, language: str, rows: Rows, names: Mapping[str, str]) -> Made:
        """Return a report as html or csv. Takes as long as it takes."""
        stem = _stem(report)
        if form == "csv":
            table = outage_rows if rows == "outages" else service_rows
            return Made(f"{stem}-{rows}.csv", "text/csv; charset=utf-8", "attachment", table(report, names))
        told = content(report, language=language, names=names, most_rows=MOST_ON_A_PAGE)
        body = self._template.render(one=told, style=STYLE, omitted=texts(language)["omitted"]).encode()
        return Made(f"{stem}-{language}.html", "text/html; charset=utf-8", "inline", body)


def _stem(report: SlaReport) -> str:
    """Return the name of the file without its end: of which contract, and from which day on in its zone."""
    return f"sla-{report.contract.id}-{report.window.starts_at.astimezone(ZoneInfo(report.contract.time_zone)).date().isoformat()}"
