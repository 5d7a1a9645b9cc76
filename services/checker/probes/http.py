"""HTTP checks: ask, compare the status code, and say in stable words what went wrong and in which phase."""

import re
import socket
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pycurl

from services.checker.domain.hosts import literal
from services.checker.domain.kinds import Flaw, Kind, Source
from services.checker.domain.target import NO_FACTS, Facts, Measurement, Target, Times, failed, not_looked
from services.checker.probes import certificate
from services.checker.probes.exchange import EVIDENCE_BYTES, Exchange, Shape
from services.checker.probes.http_options import HttpOptions
from services.checker.probes.journey import NOTHING_SPENT, Errand, Journey, Spent, travel
from services.checker.probes.options import reader
from services.checker.probes.talk import Ended
from services.checker.probes.tools import Tools
from services.checker.probes.trouble import OS_WORDS, OWN_TROUBLE
from shared.contracts.codes import ErrorType, Outcome

__all__ = ["KIND", "SOURCES", "HttpOptions", "probe"]

SOURCES = {
    "code": Source("number"),
    "header": Source("texts", None),
    "body": Source("text"),
    "json": Source("json", None),
    "html": Source("texts", None),
    "response_time": Source("number"),
    "phase": Source("number", ("name_lookup", "connect", "tls", "first_byte", "total")),
    "certificate": certificate.SOURCE,
}
_OF_BODY = frozenset({"body", "json", "html"})
_OF_HEADERS = frozenset({"header", "body", "html"})
"""The body's encoding is told in the headers."""
_OF_FACTS = _OF_BODY | _OF_HEADERS | {"certificate"}
_FAMILIES = {"any": 0, "4": int(socket.AF_INET), "6": int(socket.AF_INET6)}


def _flaws(url: str, options: HttpOptions) -> list[Flaw]:
    """Return what does not fit together."""
    flaws = []
    parts = urlsplit(url)
    if options.client_certificate is not None and parts.scheme != "https":
        flaws.append(Flaw("options.client_certificate", "needs an https:// address"))
    address = literal(parts.hostname or "")
    if address is not None and options.ip_version not in {"any", str(address.version)}:
        flaws.append(Flaw("options.ip_version", f"does not fit the address, which is IPv{address.version}"))
    return flaws


KIND = Kind(
    "http",
    "HTTP and HTTPS",
    ("http", "https"),
    "http:// or https:// with a host",
    reader(HttpOptions),
    HttpOptions.model_json_schema(),
    sources=SOURCES,
    flaws=_flaws,
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
    pycurl.E_UNSUPPORTED_PROTOCOL: (ErrorType.HTTP_ERROR, "the answer is not HTTP"),
    pycurl.E_FTP_WEIRD_SERVER_REPLY: (ErrorType.HTTP_ERROR, "the answer is not HTTP"),
    pycurl.E_HTTP2: (ErrorType.HTTP_ERROR, "the answer breaks HTTP/2"),
    HTTP2_STREAM_ERROR: (ErrorType.HTTP_ERROR, "the answer breaks HTTP/2"),
    pycurl.E_BAD_CONTENT_ENCODING: (ErrorType.HTTP_ERROR, "the answer's encoding is broken"),
}
_CURLS_FRAME = re.compile(r"^SSL certificate (problem|OpenSSL verify result): | \(\d+\)$")
_OPENSSLS_FRAME = re.compile(r"^.*error:[0-9A-F]{8}:[^:]*:[^:]*:(?P<reason>[a-z0-9 /_-]+)", re.IGNORECASE)
_WANTS_CERTIFICATE = "alert certificate required"
HTTP_ERRORS, SERVER_ERRORS = 400, 500
_TLS_CODES = frozenset(
    {
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CIPHER,
        pycurl.E_SSL_ISSUER_ERROR,
        pycurl.E_SSL_INVALIDCERTSTATUS,
    }
)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Ask a target once, over new connections. Raises `EngineStopped` when the process is stopping."""
    options = target.options
    if not isinstance(options, HttpOptions):
        msg = f"{target.id} has no HTTP options"
        raise TypeError(msg)
    looked_at = frozenset(one.source for one in target.assertions)
    errand = _errand(target, options, looked_at)
    try:
        journey = await travel(errand, tools)
    except Ended as ended:
        return replace(ended.measurement, method=options.method)
    found = judge(journey, options, timeout_ms=target.timeout_ms, keep=not _OF_FACTS.isdisjoint(looked_at))
    if journey.exchange.certificate and found.outcome is Outcome.HEALTHY:
        return _with_certificate(found, journey.exchange, tools)
    return found


def _errand(target: Target, options: HttpOptions, looked_at: frozenset[str]) -> Errand:
    return Errand(
        target,
        Shape(options.method, options.verify_tls, not _OF_HEADERS.isdisjoint(looked_at), "certificate" in looked_at),
        options.max_body_bytes,
        EVIDENCE_BYTES if _OF_BODY.isdisjoint(looked_at) else options.max_body_bytes,
        options.max_redirects if options.follow_redirects else None,
        None if options.plain else options.dress,
        options.body is not None,
        _FAMILIES[options.ip_version],
        options.proxy,
    )


def judge(journey: Journey, options: HttpOptions, *, timeout_ms: int, keep: bool = False) -> Measurement:
    """Return what an exchange means. `keep`: with what a good answer held; a bad one's is kept anyway, as evidence."""
    exchange = journey.exchange
    if exchange.code or journey.wrong:
        return _failure(journey, options, timeout_ms)
    good = options.accepts(exchange.status)
    words = None if good else f"answered {exchange.status}, expected {options.expected_words}"
    if options.http_version == "2" and exchange.http_version != pycurl.CURL_HTTP_VERSION_2_0:
        good, words = False, "the answer is not HTTP/2"
    return Measurement(
        outcome=Outcome.HEALTHY if good else Outcome.FAILED,
        response_time_ms=_ms(journey.spent.total + exchange.total),
        status_code=exchange.status,
        error_type=None if good else ErrorType.HTTP_ERROR,
        error_message=words,
        times=_times(exchange, journey.spent),
        method=options.method,
        facts=Facts(exchange.headers, exchange.body, exchange.truncated) if keep or not good else NO_FACTS,
    )


def _with_certificate(found: Measurement, exchange: Exchange, tools: Tools) -> Measurement:
    shown = certificate.from_pem(exchange.certificate)
    if shown is None:
        return found
    now = tools.clock()
    details: dict[str, Any] = {"certificate_days": shown.days_left(now)}
    return replace(found, facts=replace(found.facts, values={"certificate": shown.values(now)}), details=details)


def _failure(journey: Journey, options: HttpOptions, timeout_ms: int) -> Measurement:
    exchange, method = journey.exchange, options.method
    times = _times(exchange, journey.spent)
    if journey.wrong:
        return replace(failed(ErrorType.HTTP_ERROR, journey.wrong, times=times, method=method), status_code=exchange.status)
    why_not = _why_not_looked(exchange) or (_proxy_trouble(exchange) if options.proxy else None)
    if why_not:
        return not_looked(why_not, method=method)
    if exchange.code == pycurl.E_OPERATION_TIMEDOUT:
        return failed(ErrorType.TIMEOUT, f"not done within {timeout_ms} ms, while {_phase(exchange)}", times=times, method=method)
    if exchange.code in _TLS_CODES:
        return _tls_failure(exchange, times, method)
    error_type, words = _CODES[exchange.code]
    if exchange.tunnel >= HTTP_ERRORS:
        words = "the proxy could not connect"
    elif _WANTS_CERTIFICATE in exchange.message:
        return failed(ErrorType.TLS_ERROR, "the service wants a client certificate", times=times, method=method)
    if error_type is ErrorType.CONNECTION_ERROR:
        words = f"{OS_WORDS.get(exchange.os_errno, words)}, while {_phase(exchange)}"
    return failed(error_type, words, times=times, method=method)


def _why_not_looked(exchange: Exchange) -> str | None:
    if exchange.refused or exchange.os_errno in OWN_TROUBLE:
        return exchange.refused or OWN_TROUBLE[exchange.os_errno]
    if exchange.code in _CODES or exchange.code in _TLS_CODES or exchange.code == pycurl.E_OPERATION_TIMEDOUT:
        return None
    return f"this checker's HTTP client failed (curl error {exchange.code})"


def _proxy_trouble(exchange: Exchange) -> str | None:
    """Say what is wrong with the proxy itself, which is a means of this checker and no part of the service."""
    if HTTP_ERRORS <= exchange.tunnel < SERVER_ERRORS:
        return f"the proxy answered {exchange.tunnel}"
    return None if exchange.connect else "the proxy cannot be reached"


def _tls_failure(exchange: Exchange, times: Times, method: str) -> Measurement:
    """Return what broke the handshake, without anything that changes from check to check."""
    if OS_WORDS.get(exchange.os_errno) == "connection reset":
        return failed(ErrorType.TLS_ERROR, "connection reset, while securing the connection", times=times, method=method)
    if "unexpected eof" in exchange.message:
        return failed(ErrorType.CONNECTION_ERROR, "connection closed, while securing the connection", times=times, method=method)
    broken = _OPENSSLS_FRAME.match(exchange.message)
    if broken and exchange.code == pycurl.E_SSL_CONNECT_ERROR:
        words = f"{broken['reason'].strip().lower()}, while securing the connection"
    else:
        words = _CURLS_FRAME.sub("", exchange.message)[:200] or "TLS failed"  # the certificate's fault, as curl names it
    return failed(ErrorType.TLS_ERROR, words, times=times, method=method)


def _phase(exchange: Exchange) -> str:
    if exchange.status:
        return "reading the answer"
    if exchange.app_connect or (exchange.connect and not exchange.secure):
        return "waiting for the answer"
    if exchange.connect:
        return "securing the connection"
    return "connecting" if exchange.name_lookup else "looking up the name"


def _times(exchange: Exchange, spent: Spent = NOTHING_SPENT) -> Times:
    """Return the durations of the phases, summed over all hops; curl counts each from the start of its own."""
    lookup = spent.name_lookup + exchange.name_lookup
    connect = spent.connect + max(0.0, exchange.connect - exchange.name_lookup)
    tls = spent.tls + (max(0.0, exchange.app_connect - exchange.connect) if exchange.app_connect else 0.0)
    waited = (
        exchange.first_byte - max(exchange.app_connect, exchange.connect) if exchange.status else 0.0
    )  # curl gives the time of giving up
    return Times(
        name_lookup_ms=_ms(lookup) if lookup else None,
        connect_ms=_ms(connect) if connect else None,
        tls_ms=_ms(tls) if tls else None,
        first_byte_ms=_ms(spent.waiting + waited) if exchange.status or spent.waiting else None,
        total_ms=_ms(spent.total + exchange.total),
    )


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
