"""One HTTP exchange with libcurl: what is asked, how it ended, and the handle that is set up for it. Used by the engine's thread."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pycurl

from services.checker.probes.trouble import shortage

if TYPE_CHECKING:
    import asyncio

MAX_REDIRECTS = 5
_WITHOUT_A_REASON = frozenset({pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT})
"""What curl also says when it cannot open or copy a descriptor, and then without the system's number."""
USER_AGENT = "sla-monitor/0.1 (checker)"
WEB = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

# The same for every exchange. No proxy from the environment: a check must see what its place sees. No cached names and no resumed
# TLS sessions: a check is to find out what a newcomer meets.
_ALWAYS: tuple[tuple[int, Any], ...] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.DNS_CACHE_TIMEOUT, 0),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),
    (pycurl.PROTOCOLS, WEB),
    (pycurl.REDIR_PROTOCOLS, WEB),
    (pycurl.MAXREDIRS, MAX_REDIRECTS),
    (pycurl.USERAGENT, USER_AGENT),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange to make. At most `max_body_bytes` of the answer are read; what lies beyond is left unread."""

    url: str
    method: str
    timeout_ms: int
    follow_redirects: bool
    max_body_bytes: int
    verify_tls: bool

    @property
    def secure(self) -> bool:
        """Say whether the first connection is secured."""
        return self.url[:6].lower() == "https:"

    @property
    def shape(self) -> "Shape":
        """What a handle is set up for once; the rest changes with every exchange."""
        return self.method, self.follow_redirects, self.verify_tls


Shape = tuple[str, bool, bool]


@dataclass(frozen=True, slots=True)
class Exchange:
    """How an exchange ended. `code` is curl's (0: well), times are seconds since its start, as curl counts them.

    `os_errno` is the operating system's number for what went wrong, 0 if there is none.
    """

    code: int
    message: str
    os_errno: int
    status: int
    redirects: int
    secure: bool
    refused: str | None
    name_lookup: float
    connect: float
    app_connect: float
    first_byte: float
    total: float


class _Opened:
    """A socket on its way to curl, which duplicates it and lets go of this one.

    A Python socket would warn at each letting go that nobody had closed it, which costs more than opening it.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class Handle:
    """A curl handle, set up once for a shape of requests and used again and again; and the exchange that it is in."""

    __slots__ = ("curl", "cut", "future", "refused", "room", "secure", "shape", "unopened", "vet")

    def __init__(self, shape: Shape, *, vet: Callable[[str], str | None], ca_file: str) -> None:
        """Set a handle up. `vet` says why an address may not be connected to, or None."""
        self.shape = shape
        self.vet = vet
        self.curl = pycurl.Curl()
        method, follow, verify = shape
        for option, value in (*_ALWAYS, *_of_method(method)):
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.FOLLOWLOCATION, follow)
        self.curl.setopt(pycurl.CAINFO, ca_file)
        self.curl.setopt(pycurl.SSL_VERIFYPEER, verify)
        self.curl.setopt(pycurl.SSL_VERIFYHOST, 2 if verify else 0)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self.open_socket)
        self.curl.setopt(pycurl.WRITEFUNCTION, self.take)

    def begin(self, request: Request, future: "asyncio.Future[Exchange]") -> None:
        """Aim at one request. Raises what pycurl raises for an address that it cannot take."""
        self.curl.setopt(pycurl.URL, request.url)
        self.curl.setopt(pycurl.TIMEOUT_MS, request.timeout_ms)
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, request.timeout_ms)
        self.future, self.secure, self.room = future, request.secure, request.max_body_bytes
        self.refused: str | None = None
        self.cut = False
        self.unopened = 0

    def open_socket(self, _purpose: int, address: Any) -> "_Opened | int":  # noqa: ANN401  # pycurl's own tuple
        """Vet the address that is really to be connected to, wherever a name or a redirect led."""
        self.refused = self.vet(address.addr[0])
        if self.refused:
            return int(pycurl.SOCKET_BAD)
        try:
            return _Opened(socket.SocketType(address.family, address.socktype, address.protocol).detach())
        except OSError as error:
            # curl is told that there is none, and does not ask why.
            self.unopened = error.errno or 0
            return int(pycurl.SOCKET_BAD)

    def take(self, chunk: bytes) -> int:
        """Count the body, and end the exchange when enough was read."""
        self.room -= len(chunk)
        if self.room >= 0:
            return len(chunk)
        self.cut = True
        return 0

    def ended(self, code: int, message: str) -> Exchange:
        """Return how the exchange ended."""
        ask = self.curl.getinfo
        return Exchange(
            code=0 if self.cut and code == pycurl.E_WRITE_ERROR else code,
            message=message,
            os_errno=self._os_errno(code) if code else 0,
            status=ask(pycurl.RESPONSE_CODE),
            redirects=ask(pycurl.REDIRECT_COUNT) if code else 0,
            secure=self.secure,
            refused=self.refused,
            name_lookup=ask(pycurl.NAMELOOKUP_TIME),
            connect=ask(pycurl.CONNECT_TIME),
            app_connect=ask(pycurl.APPCONNECT_TIME),
            first_byte=ask(pycurl.STARTTRANSFER_TIME),
            total=ask(pycurl.TOTAL_TIME),
        )

    def _os_errno(self, code: int) -> int:
        known = int(self.curl.getinfo(pycurl.OS_ERRNO)) or self.unopened
        return shortage() if not known and code in _WITHOUT_A_REASON else known


def _of_method(method: str) -> tuple[tuple[int, Any], ...]:
    if method == "GET":
        return ()
    if method == "HEAD":
        return ((pycurl.NOBODY, 1),)
    # Without an empty body a POST would wait for one to be read.
    body = ((pycurl.POSTFIELDS, ""),) if method in {"POST", "PUT", "PATCH"} else ()
    return (*body, (pycurl.CUSTOMREQUEST, method))


def unable(message: str) -> Exchange:
    """Return how an exchange ended that could not even begin."""
    nothing = dict.fromkeys(("os_errno", "status", "redirects", "name_lookup", "connect", "app_connect", "first_byte", "total"), 0)
    return Exchange(code=pycurl.E_URL_MALFORMAT, message=message, secure=False, refused=None, **nothing)
