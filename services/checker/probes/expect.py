"""What a check may say to a service and expect of its answer: for kinds that exchange text (tcp, websocket)."""

import re
from functools import cached_property
from typing import Any

import re2  # type: ignore[import-untyped]  # google-re2 has no type information
from pydantic import Field, SecretStr, field_validator

from services.checker.probes.options import Options

MAX_ANSWER_BYTES = 65_536
PATTERN_MEMORY = 1 << 20
"""Bytes that a compiled expression may take: what needs more is refused."""

NOT_AS_EXPECTED = "the answer is not what was expected"

_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


class Saying(Options):
    """What is said, and what is to be answered."""

    send: SecretStr | None = Field(default=None, max_length=4_000)
    r"""Text to send, with the escapes \r \n \t \0 \\ and \xNN for one byte. A secret: it may hold a password."""
    expect: str | None = Field(default=None, max_length=1_000)
    """Text that the answer must contain; empty text is satisfied with any answer; null: no answer is waited for."""
    expect_pattern: str | None = Field(default=None, max_length=1_000)
    """Regular expression (RE2) that must be found in the answer."""

    @field_validator("send")
    @classmethod
    def _readable(cls, send: SecretStr | None) -> SecretStr | None:
        if send is not None:
            unescape(send.get_secret_value())
        return send

    @field_validator("expect_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern)
        return pattern

    @property
    def said(self) -> bytes:
        """What is to be sent; empty for nothing."""
        return unescape(self.send.get_secret_value()) if self.send is not None else b""

    @property
    def listens(self) -> bool:
        """Say whether an answer is waited for."""
        return self.expect is not None or self.expect_pattern is not None

    @cached_property
    def _pattern(self) -> Any:  # noqa: ANN401  # google-re2 has no type information
        return _compiled(self.expect_pattern or "")

    def met_by(self, answer: bytes) -> bool:
        """Say whether an answer is what is expected."""
        if not answer or (self.expect is not None and self.expect.encode() not in answer):
            return False
        return self.expect_pattern is None or self._pattern.search(answer) is not None


def unescape(text: str) -> bytes:
    r"""Return the bytes that a text with the escapes \r \n \t \0 \\ \xNN stands for. Raises `ValueError` for any other."""

    def meant(found: "re.Match[bytes]") -> bytes:
        code = found[1]
        if len(code) == len("xNN"):
            return bytes.fromhex(code[1:].decode())
        if code not in _PLAIN:
            msg = r"must have no backslash but in \r \n \t \0 \\ and \xNN"
            raise ValueError(msg)
        return _PLAIN[code]

    return _ESCAPE.sub(meant, text.encode())


def _compiled(pattern: str) -> Any:  # noqa: ANN401  # google-re2 has no type information
    """Compile. Raises `ValueError`. Linear in the answer, whatever the expression and the answer are."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PATTERN_MEMORY
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error:
        msg = "must be a regular expression of RE2 (github.com/google/re2/wiki/Syntax)"
        raise ValueError(msg) from None
