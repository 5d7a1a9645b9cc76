"""The kinds of check: which addresses each takes, and its options. A new kind is one entry here and one module in probes/."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
MAX_BODY_BYTES = 10 * 1024 * 1024
_LOWEST_CODE, _HIGHEST_CODE = 100, 599


@dataclass(frozen=True, slots=True)
class Flaw:
    """One field that cannot be accepted, and why."""

    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How an HTTP check asks and what it takes for an answer. `expected` are inclusive ranges of status codes."""

    method: str = "GET"
    expected: tuple[tuple[int, int], ...] = ((200, 299),)
    expected_words: str = "2xx"
    follow_redirects: bool = True
    max_body_bytes: int = 1024 * 1024
    verify_tls: bool = True

    def accepts(self, code: int) -> bool:
        """Say whether a status code counts as healthy."""
        return any(low <= code <= high for low, high in self.expected)


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """A TCP check has nothing to choose yet: it connects."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: the URL schemes that it takes, whether a port must be named, and the reader of its options."""

    schemes: tuple[str, ...]
    needs_port: bool
    options: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], tuple[HttpOptions | TcpOptions, list[Flaw]]] = field(repr=False)


def read_http(options: Mapping[str, Any]) -> tuple[HttpOptions, list[Flaw]]:
    """Return the options with defaults for what is missing or wrong, and what is wrong."""
    plain = HttpOptions()
    flaws: list[Flaw] = []

    def take(name: str, *, default: Any, accept: Callable[[Any], bool], reason: str) -> Any:  # noqa: ANN401  # JSON
        value = options.get(name, default)
        if accept(value):
            return value
        flaws.append(Flaw(f"options.{name}", reason))
        return default

    method = take("method", default=plain.method, accept=lambda v: v in METHODS, reason=f"must be one of {', '.join(METHODS)}")
    codes = take("expected_codes", default=[plain.expected_words], accept=_are_codes, reason='must be a list such as [200, "2xx"]')
    redirects = take("follow_redirects", default=plain.follow_redirects, accept=_is_bool, reason="must be true or false")
    body = take("max_body_bytes", default=plain.max_body_bytes, accept=_is_body_size, reason=f"must be between 0 and {MAX_BODY_BYTES}")
    verify = take("verify_tls", default=plain.verify_tls, accept=_is_bool, reason="must be true or false")
    return HttpOptions(
        method, tuple(_range(code) for code in codes), ", ".join(str(code) for code in codes), redirects, body, verify
    ), flaws


def read_tcp(_options: Mapping[str, Any]) -> tuple[TcpOptions, list[Flaw]]:
    """Return the options of a TCP check: none."""
    return TcpOptions(), []


KINDS: dict[str, Kind] = {
    "http": Kind(("http", "https"), False, ("method", "expected_codes", "follow_redirects", "max_body_bytes", "verify_tls"), read_http),
    "tcp": Kind(("tcp",), True, (), read_tcp),
}


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_body_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BODY_BYTES


def _are_codes(value: object) -> bool:
    return isinstance(value, list | tuple) and 0 < len(value) <= 50 and all(_is_code(code) for code in value)  # noqa: PLR2004  # a sane bound


def _is_code(value: object) -> bool:
    if isinstance(value, str):
        return len(value) == len("2xx") and value[0] in "12345" and value[1:] == "xx"
    return isinstance(value, int) and not isinstance(value, bool) and _LOWEST_CODE <= value <= _HIGHEST_CODE


def _range(code: int | str) -> tuple[int, int]:
    if isinstance(code, str):
        first = int(code[0]) * 100
        return first, first + 99
    return code, code
