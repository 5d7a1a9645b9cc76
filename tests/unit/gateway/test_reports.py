"""What reports say and how they are drawn, from one content in both languages."""

import csv
import io
import json
import re
from contextlib import closing
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fpdf import FPDF
from fpdf.fonts import TTFFont
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from services.gateway.domain.language import LANGUAGES
from services.gateway.web.reports import content as words
from services.gateway.web.reports.content import TEXTS, Content, content, texts
from services.gateway.web.reports.drawing import ABSENT, FONT, FONT_FILE, legible, pdf
from services.gateway.web.reports.making import MOST_ON_PAPER, Reports
from services.gateway.web.reports.outages import outages
from services.gateway.web.reports.rows import MARK, outage_rows, service_rows
from shared.contracts.codes import MaintenanceStatus, SlaPeriod, TimelineState
from shared.contracts.history import SlaReport
from shared.contracts.sla import StateInterval
from tests.integration.gateway import past

NAMES = {"face-compare": "얼굴 비교", "id-liveness": "ID Liveness"}


def told(report: SlaReport | None = None, language: str = "en", *, most: int = 1_000) -> Content:
    """Return what a report says."""
    return content(report or past.report(), language=language, names=NAMES, most_rows=most)


def drawn(form: str, language: str = "en", report: SlaReport | None = None, rows: Any = "services") -> bytes:  # noqa: ANN401  # the literal
    """Return a report as a file."""
    if form == "pdf":
        return pdf(told(report, language))
    # the press is for PDF alone
    return Reports(None).write(report or past.report(), form=form, language=language, rows=rows, names=NAMES).body  # type: ignore[arg-type]


def on_paper(body: bytes) -> str:
    """Return the text of a PDF, blanks and line ends made alike."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(io.BytesIO(body)).pages).split())


def read_rows(body: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV, as a program reads them."""
    return list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")))


def test_both_languages_have_every_key_with_the_same_places_and_none_is_unused() -> None:
    """Seen red with `note.ongoing` taken out of ko, with `{share}` misspelt, and with a key that nobody says."""
    english, korean = texts("en"), texts("ko")
    assert english.keys() == korean.keys()
    for key, text in english.items():
        assert text.strip()
        assert korean[key].strip()
        assert re.findall(r"\{\w+\}", text) == re.findall(r"\{\w+\}", korean[key]), key
    source = "".join((TEXTS.parent / "reports" / name).read_text(encoding="utf-8") for name in ("content.py", "drawing.py", "making.py"))
    made = {f"state.{one}" for one in TimelineState} | {f"period.{one}" for one in SlaPeriod}
    made |= {f"note.{one}" for one in ("corrected", "excluded", "maintenance", "ongoing")}
    said = set(re.findall(r"[\"']([a-z_]+(?:\.[a-z_]+)*)[\"']", source)) | made
    assert set(english) <= said
    assert made <= set(english)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("final", [True, False])
def test_every_word_that_any_report_needs_is_there(language: str, *, final: bool) -> None:
    for period in SlaPeriod:
        for counts in (True, False):
            promised = past.contract(period=period, count_unknown=counts, count_maintenance=counts)
            assert told(past.report(final=final, under=promised), language).sections
    nothing = past.report(outages=0).model_copy(update={"standings": (), "audits": (), "contract": past.contract(exclusions=())})
    empty = told(nothing, language)
    assert empty.verdict == texts(language)["verdict.nothing"]
    assert texts(language)["outages.none"] in {one for section in empty.sections for one in section.sentences}


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_and_pdf_say_the_same_and_all_of_it(language: str) -> None:
    """Seen red with corrections left out of the PDF, and with a digest of the report that is not the audit's."""
    page = drawn("html", language).decode()
    paper = on_paper(drawn("pdf", language))
    one = told(language=language)
    for said in (
        "99.95 %",
        "99.9621 %",
        "99.9012 %",
        "197.61 %",
        "44,640",
        "ef" * 32,
        "ab" * 32,
        "cd" * 32,
        one.verdict,
        "4711",
        "Asia/Seoul",
    ):
        assert said in page.replace("\u00a0", " "), said
        assert said.replace(" ", "") in paper.replace(" ", ""), said
    for heading in (section.heading for section in one.sections):
        assert heading in page
        assert heading.replace(" ", "") in paper.replace(" ", "")
    assert "얼굴 비교" in page
    assert "얼굴비교" in paper.replace(" ", "")
    assert page.startswith("<!doctype html>")
    assert f'<html lang="{language}">' in page


def test_times_are_those_of_the_contract_s_zone_with_their_offset_also_when_the_clocks_change() -> None:
    """Seen red with times in UTC."""
    berlin = told(past.report(under=past.contract(time_zone="Europe/Berlin")))
    assert berlin.period == "2026-03-01 01:00:00\u00a0+01:00 \u2013 2026-04-01 02:00:00\u00a0+02:00"


def test_what_people_wrote_cannot_become_part_of_the_page() -> None:
    """Seen red with autoescape switched off."""
    page = drawn("html").decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://evil.example", "")


def test_no_cell_of_the_csv_is_a_formula_and_numbers_stay_numbers() -> None:
    """Seen red without the apostrophe, and with it before every text that begins with a dash, numbers too."""
    report = past.report()
    named = {"face-compare": "=1+1", "id-liveness": "+cmd"}
    services = read_rows(service_rows(report, named))
    assert [row["service"] for row in services] == ["'=1+1", "'+cmd"]
    assert [row["met"] for row in services] == ["true", "false"]
    assert float(services[1]["budget_left_minutes"]) == -21.7
    assert {row["digest"] for row in services} == {"ef" * 32}
    assert services[0]["audit_digest"] == "ab" * 32
    assert service_rows(report, named).decode().startswith(MARK)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_no_name_breaks_the_csv_or_begins_a_formula(name: str) -> None:
    rows = read_rows(service_rows(past.report(), {"face-compare": name, "id-liveness": name}))
    assert len(rows) == 2
    for row in rows:
        assert row["service"].removeprefix("'") == name or row["service"] == name
        assert not row["service"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_outages_are_cut_at_the_window_and_say_what_touched_them() -> None:
    """Seen red without the cut, and with exclusions of another day."""
    promised = past.contract()
    spans = (
        StateInterval(state=TimelineState.DOWN, started_at=past.START - timedelta(days=1), ended_at=past.at(1, 1), regions_down=("eu",)),
        StateInterval(state=TimelineState.UP, started_at=past.at(1, 1), ended_at=past.at(2, 2)),
        StateInterval(state=TimelineState.PARTIAL, started_at=past.at(2, 2), ended_at=past.at(2, 4)),
        StateInterval(state=TimelineState.UNKNOWN, started_at=past.at(5), ended_at=past.at(6)),
        StateInterval(state=TimelineState.DOWN, started_at=past.at(10, 1, 30), ended_at=past.at(10, 5), correction=past.IDS),
        StateInterval(state=TimelineState.DOWN, started_at=past.at(31, 23), ended_at=None),
    )
    found = outages(past.audit(under=promised, intervals=spans))
    assert [(one.starts_at, one.ends_at, one.notes) for one in found] == [
        (past.START, past.at(1, 1), ()),
        (past.at(2, 2), past.at(2, 4), ("maintenance",)),
        (past.at(10, 1, 30), past.at(10, 5), ("corrected", "excluded")),
        (past.at(31, 23), past.END, ("ongoing",)),
    ]
    counted = outages(past.audit(under=promised, intervals=spans, count_unknown=True))
    assert [one.state for one in counted].count(TimelineState.UNKNOWN) == 1
    rows = read_rows(outage_rows(past.report(), NAMES))
    assert [row["service_id"] for row in rows] == ["face-compare"] * 4 + ["id-liveness"]
    assert rows[0]["seconds"] == "245.0"
    assert rows[0]["regions"] == "eu-west ap-northeast"


def test_the_same_facts_make_the_same_file_and_a_long_list_is_cut_but_said() -> None:
    """Seen red with the PDF dated by the clock."""
    assert drawn("pdf") == drawn("pdf")
    assert drawn("html", "ko") == drawn("html", "ko")
    short = told(past.report(outages=7), most=5)
    table = next(one.table for one in short.sections if one.heading == "Outages")
    assert table is not None
    assert (len(table.rows), table.omitted) == (5, 3)
    assert "3" in on_paper(pdf(short)).partition("see the CSV)")[2][:4]
    assert len(read_rows(outage_rows(past.report(outages=MOST_ON_PAPER + 50), NAMES))) == MOST_ON_PAPER + 51


@pytest.mark.parametrize("text", ["가" * 5_000, "x" * 5_000, "a\n" * 2_000, "\U0001f600 漢字 \u202e \u0000 ﷽", "\u22121 ≤ 2 · ½"])
def test_whatever_people_write_can_be_drawn(text: str) -> None:
    """Seen red without the cut: the library refuses a row that is higher than a page."""
    report = past.report()
    audits = (past.audit(under=report.contract, corrections=(past.correction(reason=text),)), *report.audits[1:])
    assert pdf(told(report.model_copy(update={"audits": audits}))).startswith(b"%PDF-")


@given(st.text(max_size=100))
def test_on_paper_there_is_only_what_the_font_has(text: str) -> None:
    known = {ord(one) for one in "abc 가나다□\u2013"}
    assert {ord(one) for one in legible(text, known)} <= known


def test_the_font_has_every_word_of_both_languages_and_every_syllable() -> None:
    """Seen red with a font that had neither the minus sign of the formulas nor Ä."""
    everything = "".join(value for language in LANGUAGES for value in texts(language).values())
    everything += "".join(map(chr, range(0xAC00, 0xD7A4))) + "ÄÖÜäöüßéÅñç½·\u2212\u00d7÷≤≥\u2013€"
    paper = FPDF()
    paper.add_font(FONT, fname=FONT_FILE)
    font = paper.fonts[FONT]
    assert isinstance(font, TTFFont)
    with closing(font.ttfont):
        assert legible(everything, font.cmap) == " ".join(everything.split())
        assert legible("Łukasz Dvořák 漢", font.cmap) == f"{ABSENT}ukasz Dvorák {ABSENT}"


def test_lengths_and_minutes_are_read_as_people_say_them() -> None:
    say = words._Speaker(texts("ko"), ZoneInfo("UTC"), {})  # noqa: SLF001  # the words themselves
    assert say.length(timedelta(days=1, hours=2, seconds=5)) == "1일 2시간 5초"
    assert say.length(timedelta(milliseconds=40)) == "0.040초"
    assert say.minutes(44_460.0) == "44,460분"
    assert say.minutes(-0.0) == "0분"
    assert say.percent(99.99) == "99.9900 %"
    assert say.percent(None) == "\u2013"


def test_maintenance_and_corrections_say_who_and_why() -> None:
    report = past.report()
    revoked = past.correction(revoked_by="other-admin", revoked_at=past.MADE_AT)
    audits = (past.audit(under=report.contract, corrections=(revoked,)), *report.audits[1:])
    page = told(report.model_copy(update={"audits": audits}))
    listed = {section.heading: section.table for section in page.sections}
    corrections, left_out = listed["Corrections"], listed["Maintenance and exclusions"]
    assert corrections is not None
    assert left_out is not None
    assert "other-admin" in corrections.rows[0][-1]
    assert [row[0] for row in left_out.rows] == ["Maintenance", "Exclusion"]
    assert "admin" in left_out.rows[1][-1]
    assert past.maintenance(status=MaintenanceStatus.COMPLETED).title == left_out.rows[0][3]


def test_dictionaries_are_json_without_repeated_keys() -> None:
    for language in LANGUAGES:
        pairs: list[tuple[str, str]] = json.loads(
            (TEXTS / f"report-{language}.json").read_text(encoding="utf-8"), object_pairs_hook=lambda found: found
        )
        assert len(pairs) == len(dict(pairs))
