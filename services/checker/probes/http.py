"""HTTP checks: ask, compare the status code, and say in stable words what went wrong and in which phase."""

import re
from functools import cached_property
from typing import Annotated, Literal

import pycurl
from pydantic import Field

from services.checker.domain.kinds import Kind, Source
from services.checker.domain.target import Measurement, Target, Times, failed, not_looked
from services.checker.probes.exchange import MAX_REDIRECTS, Exchange, Request
from services.checker.probes.options import Options, reader
from services.checker.probes.tools import Tools
from services.checker.probes.trouble import OS_WORDS, OWN_TROUBLE
from shared.contracts.codes import ErrorType, Outcome

MAX_BODY_BYTES = 10 * 1024 * 1024


class HttpOptions(Options):
    """How an HTTP check asks and what it takes for an answer."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    expected_codes: tuple[Annotated[int, Field(ge=100, le=599)] | Annotated[str, Field(pattern="^[1-5]xx$")], ...] = Field(
        default=("2xx",), min_length=1, max_length=50
    )
    follow_redirects: bool = True
    max_body_bytes: int = Field(default=1024 * 1024, ge=0, le=MAX_BODY_BYTES)
    verify_tls: bool = True

    @cached_property
    def codes(self) -> frozenset[int]:
        """Every code that counts as healthy."""
        return frozenset(
            number
            for code in self.expected_codes
            for number in (range(int(code[0]) * 100, int(code[0]) * 100 + 100) if isinstance(code, str) else (code,))
        )

    @cached_property
    def expected_words(self) -> str:
        """The codes in words."""
        return ", ".join(str(code) for code in self.expected_codes)

    def accepts(self, code: int) -> bool:
        """Say whether a status code counts as healthy."""
        return code in self.codes


KIND = Kind(
    "http",
    "HTTP and HTTPS",
    ("http", "https"),
    "http:// or https:// with a host",
    reader(HttpOptions),
    HttpOptions.model_json_schema(),
    sources={"code": Source("number")},
)

HTTP2_STREAM_ERROR = 92
"""CURLE_HTTP2_STREAM, which pycurl has no name for."""

# Every code of curl that speaks of the service, other than those that need a closer look. Any other is trouble of this checker's own.
_CODES: dict[int, tuple[ErrorType, str]] = {
    pycurl.E_COULDNT_RESOLVE_HOST: (ErrorType.DNS_ERROR, "name not found"),
    pycurl.E_URL_MALFORMAT: (ErrorType.UNKNOWN, "address not understood"),
    pycurl.E_COULDNT_CONNECT: (ErrorType.CONNECTION_ERROR, "connection failed"),
    pycurl.E_GOT_NOTHING: (ErrorType.CONNECTION_ERROR, "connection closed without an answer"),
    pycurl.E_SEND_ERROR: (ErrorType.CONNECTION_ERROR, "connection lost"),
    pycurl.E_RECV_ERROR: (ErrorType.CONNECTION_ERROR, "connection lost"),
    pycurl.E_PARTIAL_FILE: (ErrorType.CONNECTION_ERROR, "answer cut short"),
    pycurl.E_TOO_MANY_REDIRECTS: (ErrorType.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects"),
    pycurl.E_UNSUPPORTED_PROTOCOL: (ErrorType.HTTP_ERROR, "the answer is not HTTP"),
    pycurl.E_FTP_WEIRD_SERVER_REPLY: (ErrorType.HTTP_ERROR, "the answer is not HTTP"),
    pycurl.E_HTTP2: (ErrorType.HTTP_ERROR, "the answer breaks HTTP/2"),
    HTTP2_STREAM_ERROR: (ErrorType.HTTP_ERROR, "the answer breaks HTTP/2"),
    pycurl.E_BAD_CONTENT_ENCODING: (ErrorType.HTTP_ERROR, "the answer's encoding is broken"),
}
_CURLS_FRAME = re.compile(r"^SSL certificate (problem|OpenSSL verify result): | \(\d+\)$")
_TLS_CODES = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_SSL_INVALIDCERTSTATUS,
        pycurl.E_SSL_CACERT_BADFILE,
    }
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Ask a target once, over a new connection. Raises `EngineStopped` when the process is stopping."""
    options = target.options
    if not isinstance(options, HttpOptions):
        msg = f"{target.id} has no HTTP options"
        raise TypeError(msg)
    request = Request(
        target.endpoint_url, options.method, target.timeout_ms, options.follow_redirects, options.max_body_bytes, options.verify_tls
    )
    return judge(await tools.engine.fetch(request), options, timeout_ms=target.timeout_ms)


def judge(exchange: Exchange, options: HttpOptions, *, timeout_ms: int) -> Measurement:
    """Return what an exchange means."""
    if exchange.code:
        return _failure(exchange, options.method, timeout_ms)
    good = options.accepts(exchange.status)
    return Measurement(
        outcome=Outcome.HEALTHY if good else Outcome.FAILED,
        response_time_ms=_ms(exchange.total),
        status_code=exchange.status,
        error_type=None if good else ErrorType.HTTP_ERROR,
        error_message=None if good else f"answered {exchange.status}, expected {options.expected_words}",
        times=_times(exchange),
        method=options.method,
    )


def _failure(exchange: Exchange, method: str, timeout_ms: int) -> Measurement:
    why_not = _why_not_looked(exchange)
    if why_not:
        return not_looked(why_not, method=method)
    times = _times(exchange)
    if exchange.code == pycurl.E_OPERATION_TIMEDOUT:
        return failed(ErrorType.TIMEOUT, f"not done within {timeout_ms} ms, while {_phase(exchange)}", times=times, method=method)
    if exchange.code in _TLS_CODES:
        return failed(ErrorType.TLS_ERROR, _tls_words(exchange), times=times, method=method)
    if exchange.code == pycurl.E_UNSUPPORTED_PROTOCOL and exchange.redirects:
        return failed(ErrorType.HTTP_ERROR, "redirected to something that is not HTTP", times=times, method=method)
    error_type, words = _CODES[exchange.code]
    if error_type is ErrorType.CONNECTION_ERROR:
        words = f"{OS_WORDS.get(exchange.os_errno, words)}, while {_phase(exchange)}"
    return failed(error_type, words, times=times, method=method)


def _why_not_looked(exchange: Exchange) -> str | None:
    if exchange.refused or exchange.os_errno in OWN_TROUBLE:
        return exchange.refused or OWN_TROUBLE[exchange.os_errno]
    if exchange.code in _CODES or exchange.code in _TLS_CODES or exchange.code == pycurl.E_OPERATION_TIMEDOUT:
        return None
    return f"this checker's HTTP client failed (curl error {exchange.code})"


def _tls_words(exchange: Exchange) -> str:
    if OS_WORDS.get(exchange.os_errno) == "connection reset":
        return "connection reset, while securing the connection"
    # curl names the certificate's fault, without anything that changes from check to check.
    return _CURLS_FRAME.sub("", exchange.message)[:200] or "TLS failed"


def _phase(exchange: Exchange) -> str:
    if exchange.status:
        return "reading the answer"
    if exchange.app_connect or (exchange.connect and not exchange.secure):
        return "waiting for the answer"
    if exchange.connect:
        return "securing the connection"
    return "connecting" if exchange.name_lookup else "looking up the name"


def _times(exchange: Exchange) -> Times:
    """Return the durations of the phases; curl counts each from the start, over all redirects."""
    secured = max(exchange.app_connect, exchange.connect)
    return Times(
        name_lookup_ms=_ms(exchange.name_lookup) if exchange.name_lookup else None,
        connect_ms=_ms(exchange.connect - exchange.name_lookup) if exchange.connect else None,
        tls_ms=_ms(exchange.app_connect - exchange.connect) if exchange.app_connect else None,
        first_byte_ms=_ms(exchange.first_byte - secured) if exchange.status else None,  # curl gives the time of giving up there
        total_ms=_ms(exchange.total),
    )


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
