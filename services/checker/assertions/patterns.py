"""What people write to find something: regular expressions, JSONPaths, CSS selectors. Compiled once, and refused if they could be costly.

Everything here takes time in proportion to the answer, whatever the answer is: it comes from elsewhere.
"""

from itertools import islice
from typing import Any

import re2  # type: ignore[import-untyped]  # google-re2 has no type information
from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError, JSONPathMatch
from jsonpath.exceptions import JSONPathRecursionError
from jsonpath.filter import BaseExpression, FilterQuery, RootFilterQuery
from jsonpath.function_extensions import ExpressionType, FilterFunction
from jsonpath.segments import JSONPathRecursiveDescentSegment
from jsonpath.selectors import Filter, IndexSelector, NameSelector
from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from services.checker.assertions.answers import TOO_DEEP, Answer, Found, Look

MAX_PATTERN = 1_000
MAX_PROPERTY = 300
PATTERN_MEMORY = 1 << 20
MAX_WIDE = 3
MAX_BRANCHES = 20
MAX_NODES = 10_000
TOO_MANY = "the JSONPath finds more than 10,000 nodes"


class NotUsable(ValueError):  # noqa: N818  # names the fact
    """What was written cannot be used, and why, as the rest of a sentence that names the field."""


class Pattern:
    """A regular expression of RE2: linear in the text, so nobody can stop a checker with one."""

    __slots__ = ("_found", "_whole")

    def __init__(self, written: str) -> None:
        """Compile. Raises `NotUsable`."""
        options = re2.Options()
        options.log_errors = False
        options.max_mem = PATTERN_MEMORY
        try:
            compiled = re2.compile(written.encode(), options)
        except re2.error as error:
            reason = error.args[0]
            reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            msg = f"must be a regular expression of RE2 (github.com/google/re2/wiki/Syntax): {reason}"
            raise NotUsable(msg) from None
        self._found, self._whole = compiled.search, compiled.fullmatch

    def within(self, text: str) -> bool:
        """Say whether the pattern is found anywhere in a text."""
        return self._found(text.encode(errors="replace")) is not None

    def whole(self, text: str) -> bool:
        """Say whether the pattern is the whole of a text."""
        return self._whole(text.encode(errors="replace")) is not None


class _Regex(FilterFunction):
    """The functions `match` and `search` of RFC 9535 (2.4.6, 2.4.7), by RE2; what is no pattern matches nothing."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012  # as the base class has it
    return_type = ExpressionType.LOGICAL

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._last: tuple[str, Pattern | None] = ("", None)

    def __call__(self, value: object, pattern: object) -> bool:
        if not isinstance(value, str) or not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
            return False
        written, compiled = self._last
        if compiled is None or written != pattern:
            try:
                compiled = Pattern(pattern)
            except NotUsable:
                return False
            self._last = pattern, compiled
        return compiled.whole(value) if self._whole else compiled.within(value)


class _Paths(JSONPathEnvironment):
    """JSONPath as RFC 9535 has it, and nothing more."""

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Regex(whole=True)
        self.function_extensions["search"] = _Regex(whole=False)


_PATHS = _Paths(strict=True)


def json_path(written: str) -> Look:
    """Return how to look at JSON. A path that names one place gives its value; any other all that it finds. Raises `NotUsable`."""
    try:
        path = _PATHS.compile(written)
    except JSONPathError as error:
        reason = error.message if written.startswith("$") else "it begins with $"
        msg = f"must be a JSONPath (RFC 9535), as in $.items[0].name: {reason}"
        raise NotUsable(msg) from None
    if not isinstance(path, JSONPath):
        msg = "must be one JSONPath (RFC 9535), as in $.items[0].name"
        raise NotUsable(msg)
    _refuse_costly(path)
    many = not path.singular_query()

    def look(answer: Answer) -> Found:
        document = answer.json
        if document.trouble is not None:
            return document
        try:
            values = tuple(islice(_find(path, document.values[0]), MAX_NODES + 1))
        except (JSONPathRecursionError, RecursionError):
            return Found(trouble=TOO_DEEP)
        return Found(trouble=TOO_MANY) if len(values) > MAX_NODES else Found(values, many=many)

    return look


class _Node(JSONPathMatch):
    """A place of the answer, which knows neither its path nor its children: half a million of those would not fit into memory."""

    __slots__ = ()

    def add_child(self, *children: JSONPathMatch) -> None:
        """Keep nothing."""

    def new_child(self, obj: object, _key: int | str) -> JSONPathMatch:
        """Return a place below this one."""
        return _Node(filter_context={}, obj=obj, parent=None, path="", parts=(), root=self.root)


def _find(path: JSONPath, document: Any) -> Any:  # noqa: ANN401  # JSON
    # Not path.finditer(), which would take a document that is one text for JSON that is yet to be read.
    nodes: Any = [_Node(filter_context={}, obj=document, parent=None, path="", parts=(), root=document)]
    for segment in path.segments:
        nodes = segment.resolve(nodes)
    return (node.obj for node in nodes)


def _refuse_costly(path: JSONPath) -> None:
    """Refuse what visits a place of the answer again and again. Raises `NotUsable`."""
    descents, wide = _cost(path, within_filter=False)
    if descents > 1 or (descents and wide > MAX_WIDE):
        msg = f"must have '..' once at most, and with it at most {MAX_WIDE} of *, slices and filters: more takes too long on a large answer"
        raise NotUsable(msg)


def _cost(path: JSONPath, *, within_filter: bool) -> tuple[int, int]:
    """Return how many segments of a path, and of those in its filters, descend, and how many lead to several places."""
    descents, wide, branches = 0, 0, 1
    for segment in path.segments:
        descents += isinstance(segment, JSONPathRecursiveDescentSegment)
        wide += any(not isinstance(one, NameSelector | IndexSelector) for one in segment.selectors)
        branches *= len(segment.selectors)
        for selector in segment.selectors:
            if isinstance(selector, Filter):
                if within_filter:
                    msg = "must have no filter within a filter: that takes too long on a large answer"
                    raise NotUsable(msg)
                more = _cost_of_filter(selector.expression)
                descents, wide = descents + more[0], wide + more[1]
    if branches > MAX_BRANCHES:
        msg = f"must have few alternatives ([a, b]), {MAX_BRANCHES} in all: more takes too long on a large answer"
        raise NotUsable(msg)
    return descents, wide


def _cost_of_filter(expression: BaseExpression) -> tuple[int, int]:
    if isinstance(expression, RootFilterQuery) and not expression.path.singular_query():
        msg = "must, where a filter begins at $, name one place only: more takes too long on a large answer"
        raise NotUsable(msg)
    costs = [_cost_of_filter(part) for part in expression.children()]
    if isinstance(expression, FilterQuery):
        costs.append(_cost(expression.path, within_filter=True))
    return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)


def css_selector(written: str) -> None:
    """Make sure that a CSS selector can be used. Raises `NotUsable`."""
    small = written.lower().replace("~=", "")
    if small.count(":has(") > 1 or ":nth-" in small or ("~" in small and "(" in small):
        msg = "must have no :nth-…(), :has() once at most, and ~ only without parentheses: else it takes too long on a large page"
        raise NotUsable(msg)
    try:
        LexborHTMLParser("<p>").css(written)
    except SelectolaxError:
        msg = "must be a CSS selector, as in main h1.title"
        raise NotUsable(msg) from None
