"""A report on paper: A4, one font that is embedded, the same bytes for the same content (docs/adr/0006)."""

import re
import unicodedata
from collections.abc import Container
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, TableCellFillMode, XPos, YPos
from fpdf.fonts import FontFace, TTFFont

from services.gateway.web.reports.content import Content, Section, Table, texts

FONT_FILE = Path(__file__).parents[1] / "fonts" / "report-sans.ttf"
FONT = "report"
MARGIN_MM = 14.0
INK, SOFT, LINE, HEAD = (28, 32, 36), (90, 97, 105), (213, 217, 222), (240, 242, 244)
COLOURS: Final = {"good": (11, 107, 58), "bad": (179, 16, 31), "unknown": (77, 86, 96)}
CELL_PT, LINE_MM = 7.5, 3.8
MOST_LINES = 40
WIDEST_MM = 2.7
"""The widest character of a cell: a row of cells of this many lines fits a page, as the library demands."""
ABSENT = "□"
_BLANKS = re.compile(r"[^\S\u00a0]+")


class _Paper(FPDF):
    """A4 with a line at the foot of each page."""

    def __init__(self, told: Content) -> None:
        super().__init__(format="A4")
        self._told = told
        self.set_margins(MARGIN_MM, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=18)
        self.set_lang(told.language)
        self.set_title(f"{told.title}: {told.name}")
        self.set_creator("SLA Monitor")
        self.set_producer("SLA Monitor")
        self.set_creation_date(told.about)
        self.add_font(FONT, fname=FONT_FILE)

    def footer(self) -> None:
        """Write whose report this is, and the page. Called by the library."""
        self.set_y(-12)
        self.set_font(FONT, size=7)
        self.set_text_color(*SOFT)
        self.cell(self.epw - 20, 5, self.legible(self._told.footer)[:140])
        self.cell(20, 5, f"{self.page_no()} / {{nb}}", align="R")

    def legible(self, text: str) -> str:
        """Return text in characters that the font has, on one line."""
        font = self.fonts[FONT]
        assert isinstance(font, TTFFont)  # noqa: S101  # it was added above
        return legible(text, font.cmap)


def legible(text: str, known: Container[int]) -> str:
    """Return text on one line, what is not to be seen left out, and what cannot be drawn as a box."""
    one_line = _BLANKS.sub(" ", unicodedata.normalize("NFC", text))
    shown = (one for one in one_line if not unicodedata.category(one).startswith("C"))
    return "".join(one if ord(one) in known else _similar(one, known) for one in shown)


def _similar(letter: str, known: Container[int]) -> str:
    """Return a letter without its marks, if the font has that, or the box."""
    base = unicodedata.normalize("NFKD", letter)[0]
    return base if ord(base) in known else ABSENT


def pdf(told: Content) -> bytes:
    """Return a report as PDF. Takes up to some seconds."""
    paper = _Paper(told)
    paper.add_page()
    _head(paper, told)
    for section in told.sections:
        _section(paper, section, told.language)
    return bytes(paper.output())


def _head(paper: _Paper, told: Content) -> None:
    paper.set_text_color(*SOFT)
    _line(paper, told.title, size=10)
    paper.set_text_color(*INK)
    _line(paper, told.name, size=18)
    paper.set_text_color(*SOFT)
    _line(paper, told.period, size=9)
    paper.ln(2)
    colour = COLOURS[told.kind]
    paper.set_text_color(*colour)
    paper.set_draw_color(*colour)
    paper.set_font(FONT, size=12)
    paper.multi_cell(0, 9, paper.legible(told.verdict), border=1, align="L", padding=(0, 3), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.ln(3)
    _table(paper, Table(("", ""), told.facts, (20, 80)), headed=False)


def _line(paper: _Paper, text: str, *, size: float) -> None:
    paper.set_font(FONT, size=size)
    paper.multi_cell(0, size * 0.5, paper.legible(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _section(paper: _Paper, section: Section, language: str) -> None:
    paper.ln(5)
    if paper.will_page_break(30):
        paper.add_page()
    paper.set_text_color(*INK)
    paper.start_section(paper.legible(section.heading))
    _line(paper, section.heading, size=12)
    paper.ln(1)
    paper.set_text_color(*SOFT)
    for sentence in section.sentences:
        _line(paper, sentence, size=8.5)
    if section.table is not None:
        paper.ln(1.5)
        _table(paper, section.table, headed=True)
        if section.table.omitted:
            paper.set_text_color(*SOFT)
            _line(paper, f"{texts(language)['omitted']}: {section.table.omitted:,}", size=8.5)


def _table(paper: _Paper, table: Table, *, headed: bool) -> None:
    paper.set_font(FONT, size=CELL_PT)
    paper.set_text_color(*INK)
    paper.set_draw_color(*LINE)
    whole = sum(table.widths)
    room = [int(MOST_LINES * paper.epw * width / whole / WIDEST_MM) for width in table.widths]
    rows = (table.columns, *table.rows) if headed else table.rows
    with paper.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        cell_fill_mode=TableCellFillMode.NONE,
        col_widths=table.widths,
        first_row_as_headings=headed,
        headings_style=FontFace(color=SOFT, fill_color=HEAD),
        line_height=LINE_MM,
        padding=(0.8, 1.2),
        text_align=("LEFT", *(["RIGHT" if table.numbers else "LEFT"] * (len(table.widths) - 1))),
        v_align="TOP",
    ) as drawn:
        for row in rows:
            drawn.row([_fitting(paper.legible(text), most) for text, most in zip(row, room, strict=True)])


def _fitting(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
