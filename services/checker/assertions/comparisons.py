"""What an assertion can say of what was found.

Where several values were found, one of them is enough for what is said in the affirmative (equals, contains, matches), none may be for
its contrary, and numbers must all fit. Each contrary holds exactly where its affirmative does not. Nothing found: only `not_…` holds.
"""

import json
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.checker.assertions.answers import TOO_DEEP, Found
from services.checker.assertions.patterns import MAX_PATTERN, NotUsable, Pattern

MAX_TEXT = 1_000
MAX_LENGTH = 1_000_000_000
Holds = Callable[[Found], bool | None]
"""None: it cannot be told, because the answer was cut."""

_NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
_MORE = ("a", " ", "\n", "0")
"""What may follow where an answer was cut: what matches before each of them does not hang on the end."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: its words in a sentence ("expected … to equal …"), the types of sources that it fits, and how it is made."""

    words: str
    types: frozenset[str]
    compile: Callable[[Any, str], Holds]


def _affirmed(reader: Callable[[Any, str], Callable[[Any], bool]]) -> Callable[[Any, str], Holds]:
    def compile_(target: Any, type_: str) -> Holds:  # noqa: ANN401  # JSON
        test = reader(target, type_)

        def holds(found: Found) -> bool | None:
            true = any(map(test, found.values))
            if not found.cut:
                return true
            return True if true and all(_at_any_end(test, found.values, more) for more in _MORE) else None

        return holds

    return compile_


def _at_any_end(test: Callable[[Any], bool], values: tuple[Any, ...], more: str) -> bool:
    return any(test(f"{value}{more}") for value in values)


def _denied(affirmed: Callable[[Any, str], Holds]) -> Callable[[Any, str], Holds]:
    def compile_(target: Any, type_: str) -> Holds:  # noqa: ANN401  # JSON
        contrary = affirmed(target, type_)

        def holds(found: Found) -> bool | None:
            true = contrary(found)
            return None if true is None else not true

        return holds

    return compile_


def _equal(target: Any, type_: str) -> Callable[[Any], bool]:  # noqa: ANN401  # JSON
    if type_ == "number":
        _number_target(target)
    elif type_ != "json" or isinstance(target, str):
        _text_target(target)
    elif target is not None and not isinstance(target, bool):
        _number_target(target)
    return lambda value: same(value, target)


def same(value: Any, target: Any) -> bool:  # noqa: ANN401  # JSON
    """Say whether two JSON values are the same: 1 is 1.0, but true is not 1 and "1" is neither."""
    if isinstance(value, bool) or isinstance(target, bool):
        return value is target
    if isinstance(target, int | float):
        return isinstance(value, int | float) and value == target
    return type(value) is type(target) and bool(value == target)


def _containing(target: Any, type_: str) -> Callable[[Any], bool]:  # noqa: ANN401  # JSON
    if type_ != "json" or isinstance(target, str):
        _text_target(target)
    elif target is not None and not isinstance(target, bool):
        _number_target(target)

    def test(value: Any) -> bool:  # noqa: ANN401  # JSON
        if isinstance(value, str):
            return isinstance(target, str) and target in value
        if isinstance(value, list):
            return any(same(one, target) for one in value)
        return isinstance(value, dict) and isinstance(target, str) and target in value

    return test


def _matching(target: Any, _type: str) -> Callable[[Any], bool]:  # noqa: ANN401  # JSON
    if not isinstance(target, str) or not 0 < len(target) <= MAX_PATTERN:
        msg = f"must be a regular expression of 1 to {MAX_PATTERN} characters"
        raise NotUsable(msg)
    pattern = Pattern(target)
    return lambda value: pattern.within(as_text(value))


def _ordered(compare: Callable[[float, float], bool]) -> Callable[[Any, str], Holds]:
    def compile_(target: Any, type_: str) -> Holds:  # noqa: ANN401  # JSON
        limit = _number_target(target)
        read = as_number if type_ in {"text", "texts"} else a_number

        def holds(found: Found) -> bool | None:
            if found.cut:
                return None
            numbers = [read(value) for value in found.values]
            return bool(numbers) and all(number is not None and compare(number, limit) for number in numbers)

        return holds

    return compile_


def _existing(target: Any, _type: str) -> Holds:  # noqa: ANN401  # JSON
    if target is not None:
        msg = "must be left out: there is nothing to compare with"
        raise NotUsable(msg)
    return lambda found: True if found.values else None if found.cut else False


def _measured(compare: Callable[[int, int], bool], *, settled: bool | None) -> Callable[[Any, str], Holds]:
    """Compare lengths. `settled`: the verdict that more text cannot change, where there is one."""

    def compile_(target: Any, _type: str) -> Holds:  # noqa: ANN401  # JSON
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target <= MAX_LENGTH:
            msg = f"must be a whole number from 0 to {MAX_LENGTH}"
            raise NotUsable(msg)

        def holds(found: Found) -> bool | None:
            lengths = [len(found.values)] if found.many else [_length(value) for value in found.values]
            true = bool(lengths) and all(length is not None and compare(length, target) for length in lengths)
            return true if not found.cut or true is settled else None

        return holds

    return compile_


def _length(value: Any) -> int | None:  # noqa: ANN401  # JSON
    return len(value) if isinstance(value, str | list | dict) else None


def _number_target(target: Any) -> float:  # noqa: ANN401  # JSON
    number = a_number(target)
    if number is None:
        msg = "must be a number, without quotation marks"
        raise NotUsable(msg)
    return number


def _text_target(target: Any) -> str:  # noqa: ANN401  # JSON
    if not isinstance(target, str) or len(target) > MAX_TEXT:
        msg = f"must be text of at most {MAX_TEXT} characters"
        raise NotUsable(msg)
    return target


def a_number(value: Any) -> float | None:  # noqa: ANN401  # JSON
    """Return a value that is a number, or None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(_bounded(value)) else None


def _bounded(value: float) -> float:
    # A whole number may be too great for a float, and is finite all the same.
    return 0.0 if isinstance(value, int) else value


def as_number(value: Any) -> float | None:  # noqa: ANN401  # JSON
    """Return the number that a text is, or None."""
    if isinstance(value, str):
        written = value.strip()
        return a_number(float(written)) if _NUMBER.fullmatch(written) else None
    return a_number(value)


def as_text(value: Any) -> str:  # noqa: ANN401  # JSON
    """Return a value as text: texts as they are, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return TOO_DEEP


_ANY = frozenset({"number", "text", "texts", "json"})
_WORDS = frozenset({"text", "texts", "json"})

COMPARISONS = {
    "equals": Comparison("to equal", _ANY, _affirmed(_equal)),
    "not_equals": Comparison("not to equal", _ANY, _denied(_affirmed(_equal))),
    "contains": Comparison("to contain", _WORDS, _affirmed(_containing)),
    "not_contains": Comparison("not to contain", _WORDS, _denied(_affirmed(_containing))),
    "matches": Comparison("to match", _WORDS, _affirmed(_matching)),
    "not_matches": Comparison("not to match", _WORDS, _denied(_affirmed(_matching))),
    "less_than": Comparison("to be less than", _ANY, _ordered(operator.lt)),
    "at_most": Comparison("to be at most", _ANY, _ordered(operator.le)),
    "greater_than": Comparison("to be greater than", _ANY, _ordered(operator.gt)),
    "at_least": Comparison("to be at least", _ANY, _ordered(operator.ge)),
    "exists": Comparison("to exist", _ANY, _existing),
    "not_exists": Comparison("not to exist", _ANY, _denied(_existing)),
    "length_equals": Comparison("to have the length", _WORDS, _measured(operator.eq, settled=None)),
    "length_at_least": Comparison("to have at least the length", _WORDS, _measured(operator.ge, settled=True)),
    "length_at_most": Comparison("to have at most the length", _WORDS, _measured(operator.le, settled=False)),
}
