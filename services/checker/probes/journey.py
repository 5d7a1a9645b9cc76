"""From an address to an answer, over redirects: one exchange of the engine per hop, all within one timeout.

Names are looked up here, and not by curl; what is secret goes to the origin that it was meant for and to no other.
"""

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlsplit

from services.checker.domain.hosts import HostRules, literal
from services.checker.domain.target import Target, failed, not_looked
from services.checker.probes.dial import locate
from services.checker.probes.exchange import EVIDENCE_BYTES, Exchange, Extras, Request, Shape
from services.checker.probes.talk import Ended, Talk
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType

MAX_REDIRECTS = 5
DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
_PLAIN = "!#$%&'()*+,/:;=?@[]~-._"
"""What stands in addresses as it is; any other character that is not ASCII is written by its number (RFC 3987, 3.1)."""
_KEEP_METHOD = frozenset({307, 308})
_TO_GET = frozenset({301, 302})


class Aim(NamedTuple):
    """Where an address leads. `name` is None for an address that is written as one. `origin` as in RFC 6454: scheme, host, port."""

    url: str
    origin: tuple[str, str, int]
    name: str | None


class Dress(Protocol):
    """Says what curl is told for one hop."""

    def __call__(self, *, own_origin: bool, with_body: bool) -> Extras:
        """Return its options: with what is secret only for the service's own origin."""


class Spent(NamedTuple):
    """Seconds that went before the exchange that ended the journey: look-ups, and the hops before it."""

    name_lookup: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    waiting: float = 0.0
    total: float = 0.0


NOTHING_SPENT = Spent()


@dataclass(frozen=True, slots=True)
class Errand:
    """What is asked of a service.

    `max_redirects` None: a redirect is the answer. `family` (AF_INET, AF_INET6) restricts the addresses; `proxy` is "http://host:port".
    """

    target: Target
    shape: Shape
    max_body_bytes: int
    keep_bytes: int = EVIDENCE_BYTES
    max_redirects: int | None = MAX_REDIRECTS
    dress: Dress | None = field(default=None, repr=False)
    has_body: bool = False
    family: int = 0
    proxy: str | None = None


@dataclass(frozen=True, slots=True)
class Journey:
    """How it ended: the last exchange and what went before. `wrong`: why a redirect was not followed, in words for people."""

    exchange: Exchange
    spent: Spent = NOTHING_SPENT
    wrong: str | None = None


async def travel(errand: Errand, tools: Tools) -> Journey:
    """Ask, and follow where the answers lead. Raises `Ended` where it does not come to an exchange, and `EngineStopped`."""
    aim = _aim(errand.target.endpoint_url)
    if aim is None:
        raise Ended(failed(ErrorType.UNKNOWN, "address not understood"))
    home, method, own, with_body = aim.origin, errand.shape.method, True, True
    spent, hops = NOTHING_SPENT, 0
    while True:
        resolve, took = await _look_up(errand, tools, aim, spent)
        if took:
            spent = spent._replace(name_lookup=spent.name_lookup + took, total=spent.total + took)
        exchange = await tools.engine.fetch(_request(errand, aim, method, spent, resolve, own=own, with_body=with_body))
        if not exchange.redirect or errand.max_redirects is None or exchange.code:
            return Journey(exchange, spent)
        if hops == errand.max_redirects:
            return Journey(exchange, spent, f"more than {errand.max_redirects} redirects")
        hops += 1
        if not exchange.redirect.lower().startswith(("http://", "https://")):
            return Journey(exchange, spent, "redirected to something that is not HTTP")
        method, with_body = _next(method, exchange.status, with_body=with_body)
        aim = _aim(exchange.redirect)
        if aim is None:
            return Journey(exchange, spent, "redirected to an address that is not understood")
        # Once it led elsewhere, nothing secret goes out any more, not even where it leads back: the detour may have chosen what is asked.
        own = own and aim.origin == home
        if with_body and errand.has_body and not own:
            return Journey(exchange, spent, "redirected to another origin, which is not given the request's body")
        spent = _summed(spent, exchange)


def _request(errand: Errand, aim: Aim, method: str, spent: Spent, resolve: str | None, *, own: bool, with_body: bool) -> Request:
    shape = errand.shape if method == errand.shape.method else errand.shape._replace(method=method)
    timeout_ms = errand.target.timeout_ms - int(spent.total * 1000) if spent.total else errand.target.timeout_ms
    extras = errand.dress(own_origin=own, with_body=with_body) if errand.dress else ()
    return Request(aim.url, max(1, timeout_ms), shape, errand.max_body_bytes, errand.keep_bytes, resolve, extras, errand.proxy is not None)


def _next(method: str, status: int, *, with_body: bool) -> tuple[str, bool]:
    """Return method and body for the next hop, as browsers do (RFC 9110, 15.4)."""
    if status in _KEEP_METHOD or method == "HEAD":
        return method, with_body
    if status == HTTPStatus.SEE_OTHER or (status in _TO_GET and method == "POST"):
        return "GET", False
    return method, with_body


def _summed(spent: Spent, exchange: Exchange) -> Spent:
    secured = max(exchange.app_connect, exchange.connect)
    return Spent(
        spent.name_lookup + exchange.name_lookup,
        spent.connect + max(0.0, exchange.connect - exchange.name_lookup),
        spent.tls + max(0.0, exchange.app_connect - exchange.connect if exchange.app_connect else 0.0),
        spent.waiting + max(0.0, exchange.first_byte - secured),
        spent.total + exchange.total,
    )


async def _look_up(errand: Errand, tools: Tools, aim: Aim, spent: Spent) -> tuple[str | None, float]:
    """Return what curl is to be told of the host, and how long finding it out took (seconds). Raises `Ended`."""
    if errand.proxy is not None:
        aim = _way_to_proxy(errand.proxy, tools, aim)
    if aim.name is None:
        return None, 0.0
    if errand.proxy is not None:
        # Whoever set the proxy for this installation permitted its address with it.
        tools = replace(tools, rules=HostRules())
    talk = Talk(errand.target)
    talk.deadline -= spent.total
    _scheme, host, port = aim.origin
    try:
        found = await locate(talk, tools, host, port)
    except Ended as ended:
        raise Ended(replace(ended.measurement, times=talk.times)) from None
    addresses = [str(address[0]) for family, address in found.ways if errand.family in {0, family}]
    if not addresses:
        raise Ended(failed(ErrorType.DNS_ERROR, "the name has no address of the chosen IP version", times=talk.times))
    listed = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
    return f"{aim.name}:{port}:{listed}", (talk.times.name_lookup_ms or 0.0) / 1000


def _way_to_proxy(proxy: str, tools: Tools, aim: Aim) -> Aim:
    """Return where the proxy is, if it may be used for this. It looks names up by itself: what it may connect to is for it to know."""
    if proxy not in tools.proxies:
        raise Ended(not_looked(f"the proxy {proxy} is not among those that SLA_ALLOWED_PROXIES allows"))
    refused = tools.rules.refusal(aim.origin[1]) if aim.name is None else None
    way = _aim(proxy)
    if refused or way is None:
        raise Ended(not_looked(refused or "the proxy's address is not understood"))
    return way


@lru_cache(maxsize=16_384)
def _aim(url: str) -> Aim | None:
    """Return where an address leads, in ASCII as curl takes it, or None if that is not to be understood."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        host = parts.hostname or ""
        ascii_host = host if host.isascii() else host.encode("idna").decode()
    except (ValueError, KeyError):  # UnicodeError is a ValueError
        return None
    if "@" in parts.netloc:
        return None
    is_name = literal(host) is None
    if is_name and not _NAME.fullmatch(ascii_host):
        return None
    if not url.isascii():
        url = quote(parts._replace(netloc=f"{ascii_host}:{port}" if is_name else parts.netloc).geturl(), safe=_PLAIN)
    return Aim(url, (parts.scheme, ascii_host, port), ascii_host if is_name else None)
