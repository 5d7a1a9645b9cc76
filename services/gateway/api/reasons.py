"""What is wrong with a field, in a sentence that says what to send instead: pydantic's kinds of errors in our words."""

from collections.abc import Mapping
from typing import Any

_MOMENT = "must be a moment with its time zone, as 2026-03-01T09:00:00Z is"
_DAY = "must be a day, as 2026-03-01 is"
_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_UUID = "must be a UUID, as 6f1c2f0e-5a53-4b3f-9d0e-2f6f4a7c1b11 is"

WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not known here: leave it out, or look at its spelling",
    "string_type": "must be text",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
    "too_short": "needs at least {min_length}, not {actual_length}",
    "too_long": "takes at most {max_length}, not {actual_length}",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "timezone_aware": _MOMENT,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "date_type": _DAY,
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_from_datetime_inexact": _DAY,
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "uuid_version": _UUID,
}

NO_ZERO = r"^[^\x00]*$"
SOME_NO_ZERO = r"^[^\x00]+$"
NOT_BLANK = r"\S"
QUORUM = r"^(any|majority|all|[1-9][0-9]?)$"
PERCENTAGE = r"^[0-9]{1,3}(\.[0-9]{1,4})?$"
MONTH = r"^2[0-9]{3}-(0[1-9]|1[0-2])$"
PATTERNS: Mapping[str, str] = {
    NO_ZERO: "must not hold a zero byte",
    SOME_NO_ZERO: "must be some text without a zero byte",
    NOT_BLANK: "must not be blank",
    QUORUM: "must be any, majority, all, or a number of regions up to 99",
    PERCENTAGE: "must be a percentage above 0 and up to 100 with at most 4 decimals, as 99.95 is",
    MONTH: "must be a month, as 2026-03 is",
}


def reason(error: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, from one of pydantic's errors."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
    if kind in WORDS:
        return WORDS[kind].format(**context)
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:]
