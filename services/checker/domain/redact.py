"""What must not be seen is made unrecognisable: known secrets, and what looks like one. For evidence, found values and messages.

Whatever is taken for a secret becomes `MASK`. Doing it again changes nothing. `storable` does the same for what no database takes.
"""

import re
from collections.abc import Iterable

MASK = "********"
_STAR = MASK[0]
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

# Each keeps the groups around what it hides. All are linear: no part of a pattern can be matched by two of its repetitions.
_KEY = (
    r"(?:pass(?:word|wd|phrase)?|pwd|token|secret|authori[sz]ation|api[_-]?key|private[_-]?key|credentials?|(?:set-)?cookie|session[_-]?id)"
)
_HIDDEN: tuple[re.Pattern[str], ...] = (
    # A block of a key or certificate; one that was cut goes to the end.
    re.compile(r"(?P<before>-----BEGIN [A-Z0-9 ]{1,60}-----)(?P<value>.*?)(?P<after>-----END|\Z)", re.DOTALL),
    # "password": "…", also with escaped quotes inside, also cut short; JSON within JSON; numbers as well.
    re.compile(rf"(?P<before>{_KEY}[\w-]{{0,40}}\"\s{{0,20}}:\s{{0,20}}\")(?P<value>(?:[^\"\\]|\\.)*)(?P<after>)", re.IGNORECASE),
    re.compile(rf"(?P<before>{_KEY}[\w-]{{0,40}}'\s{{0,20}}:\s{{0,20}}')(?P<value>(?:[^'\\]|\\.)*)(?P<after>)", re.IGNORECASE),
    re.compile(rf"(?P<before>{_KEY}[\w-]{{0,40}}\\\"\s{{0,20}}:\s{{0,20}}\\\")(?P<value>[^\"\\]*)(?P<after>)", re.IGNORECASE),
    re.compile(rf"(?P<before>{_KEY}[\w-]{{0,40}}\\?[\"']\s{{0,20}}:\s{{0,20}})(?P<value>[^\s\"',\]}}{{\[\\]+)(?P<after>)", re.IGNORECASE),
    # A header: all of its line.
    re.compile(
        r"(?P<before>\b(?:proxy-)?(?:authorization|cookie|set-cookie)\s{0,20}:[ \t]{0,20})(?P<value>[^\r\n]+)(?P<after>)", re.IGNORECASE
    ),
    # password=…, password: …
    re.compile(rf"(?P<before>{_KEY}[\w-]{{0,40}}\s{{0,20}}[=:]\s{{0,20}})(?P<value>[^\s&\"'<>,;{{}}\[\]]+)(?P<after>)", re.IGNORECASE),
    re.compile(r"(?P<before>\b(?:bearer|basic)\s{1,20})(?P<value>[\w~+/.=-]{8,})(?P<after>)", re.IGNORECASE),
    # A password within an address.
    re.compile(r"(?P<before>://[^\s/:@]{0,200}:)(?P<value>[^\s/@]{1,200})(?P<after>@)"),
    # A JSON Web Token (RFC 7519): two parts of base64url that begin with {", and a signature.
    re.compile(r"(?P<before>)(?P<value>\beyJ[\w-]{4,}(?:\.[\w-]+){0,4})(?P<after>)"),
    # 13 to 19 digits, as cards have them, in groups or not.
    re.compile(r"(?P<before>(?<![\d.-]))(?P<value>\d(?:[ -]?\d){12,18})(?P<after>(?![\d.]))"),
)
_SECRET_NAME = re.compile(_KEY, re.IGNORECASE)
_HINTS: tuple[tuple[str, ...], ...] = (
    ("-----begin ",),
    *[("pass", "pwd", "token", "secret", "authori", "api", "private", "credential", "cookie", "session")] * 6,
    ("bearer", "basic"),
    ("://",),
    ("eyj",),
    ("",),
)
"""For each pattern, one of these is in every text that it finds something in: to look for them costs a tenth of the pattern."""


def is_secret_name(name: str) -> bool:
    """Say whether what bears this name is to be hidden whatever it looks like: a header, a JSONPath that ends in a password."""
    return _SECRET_NAME.search(name) is not None


def storable(text: str) -> str:
    """Return a text as it can be encoded, stored and shown: a lone surrogate is no UTF-8, and PostgreSQL takes no NUL."""
    return _UNSTORABLE.sub("�", text)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without the given secrets and without what looks like one.

    A secret of asterisks only cannot be told from the mask, and is none.
    """
    known = sorted({one for one in secrets if one.strip(_STAR)}, key=len, reverse=True)
    while True:
        before = text
        for secret in known:
            text = text.replace(secret, MASK)
        small = text.lower()
        for pattern, hints in zip(_HIDDEN, _HINTS, strict=True):
            if any(hint in small for hint in hints):
                text = pattern.sub(_mask, text)
        # Ends: every round that changes anything leaves fewer characters that are no asterisks, or shortens or fills up a mask.
        if text == before:
            return text


def _mask(found: re.Match[str]) -> str:
    value = found["value"]
    return f"{found['before']}{value if not value.strip(_STAR) else MASK}{found['after']}"
