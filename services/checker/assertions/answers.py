"""What an answer holds, as assertions look at it: each part is made out once, and only if somebody asks.

Nothing here raises for what a service answers: what cannot be made out is `Found.trouble`, in words that stay the same.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from services.checker.domain.target import Measurement, Times

# fmt: off
ENCODINGS = frozenset({
    "ascii", "us-ascii", "utf-8", "utf8", "utf-16", "utf-16le", "utf-16be", "iso-8859-1", "latin-1",
    "latin1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "koi8-r", "euc-kr",
    "cp949", "ks_c_5601-1987", "shift_jis", "shift-jis", "euc-jp", "iso-2022-jp", "gb2312", "gbk", "gb18030", "big5",
})
# fmt: on
"""The encodings that an answer may name for its text; Python knows others that are no encodings of text, and slow ones."""

MAX_DOCUMENT = 2 * 1024 * 1024
"""So many bytes of an answer are read as JSON or as a page: while Python makes a document out, every other check waits for its turn."""

NOT_JSON = "the answer is not JSON"
PAGE_TOO_DEEP = "the page is nested too deeply"
TOO_DEEP = "the answer's JSON is nested too deeply"
CUT = "the answer was cut before it could be told"

_CHARSET = re.compile(r"charset\s{0,5}=\s{0,5}[\"']?([\w.:-]{1,40})", re.IGNORECASE)
MAX_PAGE_DEPTH = 1_000
"""So many elements may be open at once: the time of an HTML parser grows with the square of it, and nothing can stop one."""
_TAG = re.compile(r"<(/?)([a-z][a-z0-9-]*)([^<>]*)", re.IGNORECASE)
_NEVER_OPEN = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "source",
        "track",
        "wbr",
        "p",
        "li",
        "dt",
        "dd",
        "td",
        "th",
        "tr",
        "tbody",
        "thead",
        "tfoot",
        "option",
        "optgroup",
        "colgroup",
    ]
)
"""Elements that are empty, or that the next one of their kind ends."""
_DRAWN = frozenset(["path", "circle", "rect", "line", "polygon", "polyline", "ellipse", "use", "stop", "image", "animate"])
"""Elements of SVG that are often written as `<path/>`; in HTML the stroke means nothing."""
UNSEEN = ("script", "style", "noscript", "template")
"""Elements whose text nobody sees on a page."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found where an assertion looks: any number of values.

    `many`: there may be several, and their length is how many there are. `cut`: more may follow, because the answer was read up to a
    limit. `trouble`: why it could not be made out.
    """

    values: tuple[Any, ...] = ()
    many: bool = False
    cut: bool = False
    trouble: str | None = None


NOTHING = Found()
Look = Callable[["Answer"], Found]


class Answer:
    """A measurement, to be looked at by several assertions."""

    def __init__(self, measurement: Measurement) -> None:
        """Make nothing out yet."""
        self.measurement = measurement
        self.facts = measurement.facts

    @cached_property
    def headers(self) -> dict[str, tuple[str, ...]]:
        """The headers by their names in small letters, each with all of its values."""
        found: dict[str, tuple[str, ...]] = {}
        for name, value in self.facts.headers:
            found[name.lower()] = (*found.get(name.lower(), ()), value)
        return found

    @cached_property
    def text(self) -> str:
        """The body as text: in the encoding that the answer names, or else UTF-8; what is none is replaced."""
        return self.facts.body.decode(self.encoding, errors="replace")

    @cached_property
    def encoding(self) -> str:
        """What the answer names as its encoding, if that is one of text, or else UTF-8."""
        named = _CHARSET.search(" ".join(self.headers.get("content-type", ())))
        return named[1].lower() if named and named[1].lower() in ENCODINGS else "utf-8"

    @property
    def too_long(self) -> bool:
        """Whether the body is not all there, or more than is read as a document."""
        return self.facts.truncated or len(self.facts.body) > MAX_DOCUMENT

    @cached_property
    def markup(self) -> str:
        """The text of so much of the body as is read as a page."""
        return self.facts.body[:MAX_DOCUMENT].decode(self.encoding, errors="replace")

    @cached_property
    def json(self) -> Found:
        """The body as JSON (RFC 8259): one value, or the trouble with it."""
        if self.too_long:
            return Found(cut=True, trouble=CUT)
        try:
            return Found((json.loads(self.facts.body, parse_constant=_refuse),))
        except RecursionError:
            return Found(trouble=TOO_DEEP)
        except ValueError:
            return Found(trouble=NOT_JSON)

    @cached_property
    def too_deep(self) -> bool:
        """Whether the body is no page that can be read in reasonable time."""
        opened: dict[str, int] = {}
        depth = 0
        for closing, name, rest in _TAG.findall(self.markup):
            small = name.lower()
            if closing:
                if opened.get(small):
                    opened[small] -= 1
                    depth -= 1
            elif small not in _NEVER_OPEN and not (small in _DRAWN and rest.endswith("/")):
                opened[small] = opened.get(small, 0) + 1
                depth += 1
                if depth > MAX_PAGE_DEPTH:
                    return True
        return False

    @cached_property
    def page(self) -> LexborHTMLParser:
        """The body as HTML, which anything is."""
        return LexborHTMLParser(self.markup)

    @cached_property
    def seen(self) -> str:
        """The text of the whole page, as far as anybody sees it, with single spaces."""
        page = LexborHTMLParser(self.markup)
        page.strip_tags(list(UNSEEN))
        return one_line(page.body.text(separator=" ")) if page.body else ""


def one_line(text: str) -> str:
    """Return a text with single spaces, as a browser shows it."""
    return " ".join(text.split())


def _refuse(constant: str) -> None:
    msg = f"{constant} is not JSON"
    raise ValueError(msg)


# --- where to look: one function per source that is no plain value of the kind


def code(answer: Answer) -> Found:
    """Return the status code."""
    number = answer.measurement.status_code
    return NOTHING if number is None else Found((number,))


def response_time(answer: Answer) -> Found:
    """Return how long the answer took, in milliseconds."""
    took = answer.measurement.response_time_ms
    return NOTHING if took is None else Found((took,))


PHASES = {one.name.removesuffix("_ms"): one.name for one in fields(Times)}
"""The phases by the names that assertions call them."""


def phase(name: str) -> Look:
    """Return how to look at one phase, in milliseconds."""
    field = PHASES[name]

    def look(answer: Answer) -> Found:
        took = getattr(answer.measurement.times, field)
        return NOTHING if took is None else Found((took,))

    return look


def header(name: str) -> Look:
    """Return how to look at a header: all of its values, if it came more than once."""
    small = name.lower()
    return lambda answer: Found(answer.headers.get(small, ()))


def body(answer: Answer) -> Found:
    """Return the body's text; an empty body is none."""
    return Found((answer.text,) if answer.text else (), cut=answer.facts.truncated)


def html(selector: str) -> Look:
    """Return how to look at a page: the text of every element that a CSS selector names, or of the whole page without one."""

    def look(answer: Answer) -> Found:
        if answer.too_deep:
            return Found(trouble=PAGE_TOO_DEEP)
        if not selector:
            return Found((answer.seen,) if answer.seen else (), cut=answer.too_long)
        texts = tuple(one_line(element.text()) for element in answer.page.css(selector))
        return Found(texts, many=True, cut=answer.too_long)

    return look


def value(source: str, name: str) -> Look:
    """Return how to look at what else the kind measured."""

    def look(answer: Answer) -> Found:
        held = answer.facts.values.get(source)
        if name:
            held = held.get(name) if isinstance(held, Mapping) else None
        if held is None:
            return NOTHING
        return Found(tuple(held), many=True) if isinstance(held, tuple | list | frozenset | set) else Found((held,))

    return look
