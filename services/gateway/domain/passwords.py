"""Which passwords and user names are taken. Length counts, not the mixture of characters (NIST SP 800-63B, 3.1.1)."""

import re
import unicodedata

SHORTEST = 12
LONGEST_BYTES = 72
"""bcrypt looks at the first 72 bytes only: anything longer is refused rather than silently cut."""

_USERNAME = re.compile(r"^[a-z0-9][a-z0-9._-]{1,62}$")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")


def normal_username(text: str) -> str:
    """Return a user name as it is stored and compared: without surrounding spaces, in one form, in lower case."""
    return unicodedata.normalize("NFKC", text).strip().lower()


def normal_password(text: str) -> str:
    """Return a password in one form, so that the same keys give the same bytes on every system."""
    return unicodedata.normalize("NFKC", text)


def fits(password: str) -> bool:
    """Say whether bcrypt would look at the whole of it."""
    return len(normal_password(password).encode()) <= LONGEST_BYTES and "\0" not in password


def password_fault(password: str, *, username: str) -> str | None:
    """Return what is wrong with a new password, in one sentence, or None."""
    if len(password) < SHORTEST:
        return f"needs at least {SHORTEST} characters"
    if not fits(password):
        return f"takes at most {LONGEST_BYTES} bytes and no zero byte"
    if normal_username(username) in password.lower():
        return "must not contain the user name"
    if len(set(password)) < SHORTEST // 3:
        return "repeats too few different characters"
    return None


def username_fault(username: str) -> str | None:
    """Return what is wrong with a user name in its normal form, or None."""
    return None if _USERNAME.match(username) else "takes 2 to 63 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit"


def email_fault(email: str) -> str | None:
    """Return what is wrong with an address, or None. Whether it exists only a message to it can tell."""
    return None if _EMAIL.match(email) and len(email) <= 254 else "is no e-mail address"  # noqa: PLR2004  # RFC 5321, 4.5.3.1.3
