"""Canonical JSON (RFC 8785): the same value is always the same text, so that its digest can be compared by anybody.

Keys here are plain ASCII, whose order is the same by code points as by UTF-16 units.
"""

import json
from decimal import Decimal
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any

_PLAIN_FROM, _PLAIN_BELOW = 1e-6, 1e21
"""Between these, ECMAScript writes numbers without an exponent (ECMA-262, Number::toString; RFC 8785, section 3.2.2.3)."""


def canonical(value: Any) -> str:  # noqa: ANN401  # JSON
    """Return a JSON value in its canonical form. Raises `ValueError` for what JSON has no number for."""
    match value:
        case str():
            return encode_basestring(value)  # what json.dumps would, in a third of the time: most of an audit is text
        case dict():
            members = [f"{encode_basestring(str(key))}:{canonical(value[key])}" for key in sorted(value)]
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join([canonical(one) for one in value]) + "]"
        case None:
            return "null"
        case float():
            return _number(value)
        case _:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _number(value: float) -> str:
    """Return a float as ECMAScript writes it: Python's digits are the same shortest ones, its exponents are not."""
    text = json.dumps(value, allow_nan=False)
    if value == 0:
        return "0"
    if _PLAIN_FROM <= abs(value) < _PLAIN_BELOW:
        plain = format(Decimal(text), "f")
        return plain.removesuffix(".0")
    digits, exponent = text.split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"


def digest(value: Any) -> str:  # noqa: ANN401  # JSON
    """Return the SHA-256 of a JSON value's canonical form, in hexadecimal."""
    return sha256(canonical(value).encode()).hexdigest()
