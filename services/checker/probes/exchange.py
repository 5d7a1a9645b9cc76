"""One HTTP exchange with libcurl: what is asked, how it ended, and the handle that is set up for it. Used by the engine's thread."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pycurl

from services.checker.probes.trouble import shortage

if TYPE_CHECKING:
    import asyncio

EVIDENCE_BYTES = 1024
"""So much of a body is kept where nobody asked for more."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""So much is kept of the bodies of all exchanges in flight together; for whom there is no room left is not judged."""
_WITHOUT_A_REASON = frozenset({pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT})
"""What curl also says when it cannot open or copy a descriptor, and then without the system's number."""
USER_AGENT = "sla-monitor/0.1 (checker)"
WEB = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
REDIRECTS = range(300, 400)

# The same for every exchange. No proxy from the environment, nor an exception from one: a check must see what its place sees. No cached
# names and no resumed TLS sessions: a check is to find out what a newcomer meets. Redirects are followed by journey.py, not by curl.
_ALWAYS: tuple[tuple[int, Any], ...] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FORBID_REUSE, 1),
    (pycurl.FRESH_CONNECT, 1),
    (pycurl.DNS_CACHE_TIMEOUT, 0),
    (pycurl.SSL_SESSIONID_CACHE, 0),
    (pycurl.PROXY, ""),
    (pycurl.NOPROXY, ""),
    (pycurl.PROTOCOLS, WEB),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.USERAGENT, USER_AGENT),
    (pycurl.ACCEPT_ENCODING, "gzip, deflate, br"),
)

NO_BODY_HEADERS = ("Content-Type:", "Expect:")
"""Headers that curl would add to a body, and is told not to."""
Extras = tuple[tuple[int, Any], ...]
"""Options of curl and their values."""


class Shape(NamedTuple):
    """What a handle is set up for once; the rest changes with every exchange."""

    method: str
    verify_tls: bool = True
    headers: bool = False
    certificate: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One exchange to make: a single one, redirects are answers.

    At most `max_body_bytes` of the answer are read, as they are after decoding; what lies beyond is left unread. `keep_bytes` of them are
    kept. `resolve` is "host:port:address,address" for a host that is a name. `extras` are what only few exchanges need, and may hold
    secrets: they are gone from the handle afterwards. `proxied`: the connection goes to a proxy that the installation trusts.
    """

    url: str
    timeout_ms: int
    shape: Shape
    max_body_bytes: int
    keep_bytes: int = EVIDENCE_BYTES
    resolve: str | None = None
    extras: Extras = field(default=(), repr=False)
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """How an exchange ended. `code` is curl's (0: well), times are seconds since its start, as curl counts them.

    `os_errno` is the operating system's number for what went wrong, 0 if there is none. `redirect` is the address that the answer names.
    `tunnel` is what a proxy answered when asked to connect, `http_version` curl's number for it. `certificate` is the server's own, PEM.
    """

    code: int
    message: str
    os_errno: int
    status: int
    secure: bool
    refused: str | None
    name_lookup: float
    connect: float
    app_connect: float
    first_byte: float
    total: float
    redirect: str | None = None
    tunnel: int = 0
    http_version: int = 0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    truncated: bool = False
    certificate: str = field(default="", repr=False)


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


@dataclass(slots=True)
class Shelf:
    """Room for the bodies of all exchanges in flight (bytes left). For one thread."""

    left: int = MAX_KEPT_BYTES

    def take(self, wanted: int) -> bool:
        """Take so much room, if there is as much."""
        if wanted > self.left:
            return False
        self.left -= wanted
        return True

    def put_back(self, taken: int) -> None:
        """Give room back."""
        self.left += taken


class Handle:
    """A curl handle, set up once for a shape of requests and used again and again; and the exchange that it is in."""

    __slots__ = (
        "_ca_file",
        "_pinned",
        "_request",
        "_shelf",
        "_vet",
        "curl",
        "cut",
        "future",
        "headers",
        "kept",
        "refused",
        "room",
        "shape",
        "unkept",
        "unopened",
    )

    def __init__(self, shape: Shape, *, vet: Callable[[str], str | None], ca_file: str, shelf: Shelf) -> None:
        """Set a handle up. `vet` says why an address may not be connected to, or None."""
        self.shape = shape
        self._shelf = shelf
        self._vet = vet
        self._ca_file = ca_file
        self._pinned: str | None = None
        self.curl = pycurl.Curl()
        self._set_up()

    def _set_up(self) -> None:
        set_option = self.curl.setopt
        for option, value in (*_ALWAYS, *_of_method(self.shape.method)):
            set_option(option, value)
        set_option(pycurl.CAINFO, self._ca_file)
        set_option(pycurl.SSL_VERIFYPEER, self.shape.verify_tls)
        set_option(pycurl.SSL_VERIFYHOST, 2 if self.shape.verify_tls else 0)
        set_option(pycurl.OPENSOCKETFUNCTION, self.open_socket)
        set_option(pycurl.WRITEFUNCTION, self.take)
        if self.shape.headers:
            set_option(pycurl.HEADERFUNCTION, self.take_header)
        if self.shape.certificate:
            set_option(pycurl.OPT_CERTINFO, 1)

    def begin(self, request: Request, future: "asyncio.Future[Exchange]") -> None:
        """Aim at one request. Raises what pycurl raises for an address that it cannot take; `tidy` afterwards all the same."""
        self._request, self.future, self.room = request, future, request.max_body_bytes
        self.kept = bytearray()
        self.headers: list[tuple[str, str]] = []
        self.refused: str | None = None
        self.cut = self.unkept = False
        self.unopened = 0
        self.curl.setopt(pycurl.URL, request.url)
        self.curl.setopt(pycurl.TIMEOUT_MS, request.timeout_ms)
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, request.timeout_ms)
        if request.resolve or self._pinned:
            self._pin(request.resolve)
        for option, value in request.extras:
            self.curl.setopt(option, value)

    def _pin(self, resolve: str | None) -> None:
        """Tell curl a name's addresses, and have it forget those of the exchange before: it would keep them for good."""
        forget = [f"-{self._pinned}"] if self._pinned else []
        self.curl.setopt(pycurl.RESOLVE, [*forget, resolve] if resolve else forget)
        self._pinned = ":".join(resolve.split(":", 2)[:2]) if resolve else None

    def open_socket(self, _purpose: int, address: Any) -> "_Opened | int":  # noqa: ANN401  # pycurl's own tuple
        """Vet the address that is really to be connected to, wherever a name or a redirect led."""
        self.refused = None if self._request.proxied else self._vet(address.addr[0])
        if self.refused:
            return int(pycurl.SOCKET_BAD)
        try:
            return _Opened(socket.SocketType(address.family, address.socktype, address.protocol).detach())
        except OSError as error:
            # curl is told that there is none, and does not ask why.
            self.unopened = error.errno or 0
            return int(pycurl.SOCKET_BAD)

    def take(self, chunk: bytes) -> int:
        """Keep and count the body, and end the exchange when enough was read. What curl gives is decoded: no bomb goes off behind it."""
        wanted = min(len(chunk), min(self._request.keep_bytes, self._request.max_body_bytes) - len(self.kept))
        if wanted > 0:
            if not self._shelf.take(wanted):
                self.unkept = True
                return 0
            # In place: to join them anew for each piece would cost a second for a large body, on the thread that all checks share.
            self.kept += chunk[:wanted]
        self.room -= len(chunk)
        if self.room >= 0:
            return len(chunk)
        self.cut = True
        return 0

    def take_header(self, line: bytes) -> None:
        """Keep a line of the head; each status line begins a new one."""
        if line.startswith(b"HTTP/"):
            self.headers.clear()
            return
        name, colon, value = line.partition(b":")
        if colon:
            self.headers.append((name.decode("latin-1").strip(), value.decode(errors="replace").strip()))

    def ended(self, code: int, message: str) -> Exchange:
        """Return how the exchange ended."""
        ask = self.curl.getinfo
        request = self._request
        status = ask(pycurl.RESPONSE_CODE)
        return Exchange(
            code=self._code(code),
            message=message,
            os_errno=self._os_errno(code) if code else 0,
            status=status,
            secure=request.url[:6].lower() == "https:",
            refused=self.refused,
            name_lookup=ask(pycurl.NAMELOOKUP_TIME),
            connect=ask(pycurl.CONNECT_TIME),
            app_connect=ask(pycurl.APPCONNECT_TIME),
            first_byte=ask(pycurl.STARTTRANSFER_TIME),
            total=ask(pycurl.TOTAL_TIME),
            redirect=ask(pycurl.REDIRECT_URL) if status in REDIRECTS else None,
            tunnel=ask(pycurl.HTTP_CONNECTCODE) if request.proxied else 0,
            http_version=ask(pycurl.INFO_HTTP_VERSION) if request.extras else 0,
            headers=tuple(self.headers),
            body=bytes(self.kept),
            truncated=request.max_body_bytes - self.room > len(self.kept),
            certificate=_own_certificate(ask(pycurl.INFO_CERTINFO)) if self.shape.certificate else "",
        )

    def tidy(self) -> None:
        """Let go of what the exchange held, once curl is done with it: nothing of a check stays in a handle that goes to another."""
        extras = self._request.extras
        self._shelf.put_back(len(self.kept))
        self.kept, self.headers = bytearray(), []
        if extras:
            self.curl.reset()
            self._set_up()

    def _code(self, code: int) -> int:
        """Return curl's code, and where this side ended the exchange, what that means."""
        if code != pycurl.E_WRITE_ERROR:
            return code
        return pycurl.E_OUT_OF_MEMORY if self.unkept else 0 if self.cut else code

    def _os_errno(self, code: int) -> int:
        known = int(self.curl.getinfo(pycurl.OS_ERRNO)) or self.unopened
        return shortage() if not known and code in _WITHOUT_A_REASON else known


def _of_method(method: str) -> Extras:
    if method == "GET":
        return ()
    if method == "HEAD":
        return ((pycurl.NOBODY, 1),)
    # Without an empty body a POST would wait for one to be read.
    body: Extras = ((pycurl.POSTFIELDS, ""), (pycurl.HTTPHEADER, NO_BODY_HEADERS)) if method in {"POST", "PUT", "PATCH"} else ()
    return (*body, (pycurl.CUSTOMREQUEST, method))


def _own_certificate(chain: list[tuple[tuple[str, str], ...]]) -> str:
    """Return the first certificate of what curl tells about the chain."""
    return dict(chain[0]).get("Cert", "") if chain else ""


def unable(message: str) -> Exchange:
    """Return how an exchange ended that could not even begin."""
    return Exchange(pycurl.E_URL_MALFORMAT, message, 0, 0, False, None, 0.0, 0.0, 0.0, 0.0, 0.0)
