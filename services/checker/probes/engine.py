"""libcurl's multi interface on a thread of its own: thousands of HTTP exchanges at once for a tenth of the CPU of a Python client.

The thread waits in epoll for curl's sockets and for an eventfd that the event loop writes to when it hands work over. Finished
exchanges go back in batches, one wake-up of the loop each. (curl's own `select` is not used: it cannot see a descriptor above 1023.)
Everything of curl is touched by this thread only.

Known limit: curl looks names up on 20 threads of its own, a number that pycurl cannot change yet (CURLMOPT_RESOLVE_THREADS_MAX). While
more than 20 lookups hang at once, other names wait behind them, up to their checks' timeout; literal addresses never do.
"""

import asyncio
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pycurl
from prometheus_client import Counter, Gauge

from services.checker.domain.hosts import HostRules

MAX_REDIRECTS = 5
LONGEST_WAIT_S = 1.0
JOIN_S = 2.0
USER_AGENT = "sla-monitor/0.1 (checker)"
WEB = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

RUNNING = Gauge("sla_checker_http_running", "HTTP exchanges in flight")
WAITING = Gauge("sla_checker_http_waiting", "HTTP exchanges that wait because as many as allowed are in flight")
EXCHANGES = Counter("sla_checker_http_exchanges_total", "HTTP exchanges that ended, well or not")

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


class EngineStopped(RuntimeError):  # noqa: N818  # says what happened
    """The exchange was given up because the process is stopping."""


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


@dataclass(frozen=True, slots=True)
class Exchange:
    """How an exchange ended. `code` is curl's (0: well), times are seconds since its start, as curl counts them."""

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


@dataclass(slots=True)
class _Running:
    """An exchange in flight: what curl calls back on."""

    future: "asyncio.Future[Exchange]"
    room: int
    secure: bool
    vet: Callable[[str], str | None]
    refused: str | None = None
    cut: bool = field(default=False)

    def open_socket(self, _purpose: int, address: Any) -> "socket.socket | int":  # noqa: ANN401  # pycurl's own tuple
        """Vet the address that is really to be connected to, wherever a name or a redirect led."""
        self.refused = self.vet(address.addr[0])
        if self.refused:
            return int(pycurl.SOCKET_BAD)
        opened: socket.socket = socket.socket(address.family, address.socktype, address.protocol)
        return opened

    def take(self, chunk: bytes) -> int:
        """Count the body, and end the exchange when enough was read."""
        self.room -= len(chunk)
        if self.room >= 0:
            return len(chunk)
        self.cut = True
        return 0


class Engine:
    """The thread and what goes in and out of it. Made by `open_engine`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, rules: HostRules, ca_file: str, most: int, on_failure: Callable[[str], None]) -> None:
        """Run at most `most` exchanges at once. `on_failure` is called on the loop if the thread dies."""
        self._loop = loop
        self._ca_file = ca_file
        self._most = most
        self._on_failure = on_failure
        # Addresses repeat: a checker meets a service's few again and again.
        self._vet = lru_cache(maxsize=65_536)(rules.refusal)
        self._inbox: deque[tuple[Request, asyncio.Future[Exchange]]] = deque()
        self._asleep = False
        self._closing = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._deadline: float | None = None
        self._idle: list[pycurl.Curl] = []
        self._running: dict[pycurl.Curl, _Running] = {}
        self._finished: list[tuple[asyncio.Future[Exchange], Exchange]] = []
        self._thread = threading.Thread(target=self._live, name="http-engine", daemon=True)

    def fetch(self, request: Request) -> "asyncio.Future[Exchange]":
        """Begin an exchange and return its future. A cancelled future lets the exchange run out, unheard. Call on the loop only."""
        future: asyncio.Future[Exchange] = self._loop.create_future()
        self._inbox.append((request, future))
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)
        return future

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Give up what is in flight (`EngineStopped`) and end the thread."""
        self._closing = True
        os.eventfd_write(self._bell, 1)
        await asyncio.to_thread(self._thread.join, JOIN_S)

    # Everything below runs on the thread.

    def _live(self) -> None:
        failure = "stopped"
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: the owner is told, and ends the process
            failure = f"http engine: {type(error).__name__}: {error}"
        self._tell(self._end, failure)

    def _work(self) -> None:
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        multi.setopt(pycurl.M_PIPELINING, 0)
        self._epoll.register(self._bell, select.EPOLLIN)
        while not self._closing:
            self._begin(multi)
            self._step(multi)
            self._collect(multi)
        for curl in self._running:
            multi.remove_handle(curl)
        multi.close()

    def _begin(self, multi: pycurl.CurlMulti) -> None:
        while self._inbox and len(self._running) < self._most:
            request, future = self._inbox.popleft()
            curl = self._idle.pop() if self._idle else pycurl.Curl()
            running = _Running(future, request.max_body_bytes, request.secure, self._vet)
            try:
                self._prepare(curl, request, running)
            except (pycurl.error, UnicodeError) as error:
                # What curl cannot even be told, such as a host name that no encoding fits, is an answer like any other.
                self._finished.append((future, _unable(str(error))))
                continue
            self._running[curl] = running
            multi.add_handle(curl)
        RUNNING.set(len(self._running))
        WAITING.set(len(self._inbox))

    def _prepare(self, curl: pycurl.Curl, request: Request, running: _Running) -> None:
        curl.reset()
        for option, value in _ALWAYS:
            curl.setopt(option, value)
        curl.setopt(pycurl.URL, request.url)
        curl.setopt(pycurl.TIMEOUT_MS, request.timeout_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, request.timeout_ms)
        curl.setopt(pycurl.FOLLOWLOCATION, request.follow_redirects)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, running.open_socket)
        curl.setopt(pycurl.WRITEFUNCTION, running.take)
        if request.secure or request.follow_redirects:
            curl.setopt(pycurl.CAINFO, self._ca_file)
            curl.setopt(pycurl.SSL_VERIFYPEER, request.verify_tls)
            curl.setopt(pycurl.SSL_VERIFYHOST, 2 if request.verify_tls else 0)
        if request.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif request.method != "GET":
            if request.method in {"POST", "PUT", "PATCH"}:
                curl.setopt(pycurl.POSTFIELDS, "")
            curl.setopt(pycurl.CUSTOMREQUEST, request.method)

    def _step(self, multi: pycurl.CurlMulti) -> None:
        wait = LONGEST_WAIT_S if self._deadline is None else min(LONGEST_WAIT_S, max(0.0, self._deadline - time.monotonic()))
        # Said before the last look at the inbox, so that a hand-over is either seen here or rings.
        self._asleep = True
        events = self._epoll.poll(0 if self._inbox and len(self._running) < self._most else wait)
        self._asleep = False
        for descriptor, event in events:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            else:
                multi.socket_action(descriptor, _as_curl(event))
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _collect(self, multi: pycurl.CurlMulti) -> None:
        left = 1
        while left:
            left, well, badly = multi.info_read()
            for curl in well:
                self._finish(multi, curl, 0, "")
            for curl, code, message in badly:
                self._finish(multi, curl, code, message)
        if self._finished:
            batch, self._finished = self._finished, []
            EXCHANGES.inc(len(batch))
            self._tell(_deliver, batch)

    def _finish(self, multi: pycurl.CurlMulti, curl: pycurl.Curl, code: int, message: str) -> None:
        running = self._running.pop(curl)
        ask = curl.getinfo
        exchange = Exchange(
            code=0 if running.cut and code == pycurl.E_WRITE_ERROR else code,
            message=message,
            os_errno=ask(pycurl.OS_ERRNO) if code else 0,
            status=ask(pycurl.RESPONSE_CODE),
            redirects=ask(pycurl.REDIRECT_COUNT) if code else 0,
            secure=running.secure,
            refused=running.refused,
            name_lookup=ask(pycurl.NAMELOOKUP_TIME),
            connect=ask(pycurl.CONNECT_TIME),
            app_connect=ask(pycurl.APPCONNECT_TIME),
            first_byte=ask(pycurl.STARTTRANSFER_TIME),
            total=ask(pycurl.TOTAL_TIME),
        )
        multi.remove_handle(curl)
        self._idle.append(curl)
        self._finished.append((running.future, exchange))

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if descriptor in self._watched:
                self._watched.discard(descriptor)
                _forget(self._epoll, descriptor)
            return
        mask = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        if descriptor in self._watched:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
            self._watched.add(descriptor)

    def _set_timer(self, wait_ms: int) -> None:
        self._deadline = None if wait_ms < 0 else time.monotonic() + wait_ms / 1000

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            self._closing = True

    def _end(self, failure: str) -> None:
        """On the loop: let nobody wait for an exchange that will not come."""
        for future in [one.future for one in self._running.values()] + [future for _request, future in self._inbox]:
            if not future.done():
                future.set_exception(EngineStopped(failure))
        self._running.clear()
        self._inbox.clear()
        if not self._closing:
            self._on_failure(failure)
        self._epoll.close()
        os.close(self._bell)


@asynccontextmanager
async def open_engine(*, rules: HostRules, ca_file: str, most: int, on_failure: Callable[[str], None]) -> AsyncIterator[Engine]:
    """Run an engine until this is left. `ca_file` holds the certificate authorities that TLS trusts."""
    engine = Engine(asyncio.get_running_loop(), rules=rules, ca_file=ca_file, most=most, on_failure=on_failure)
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def _deliver(batch: "list[tuple[asyncio.Future[Exchange], Exchange]]") -> None:
    for future, exchange in batch:
        if not future.done():
            future.set_result(exchange)


def _as_curl(event: int) -> int:
    bits = 0
    if event & (select.EPOLLIN | select.EPOLLHUP):
        bits |= pycurl.CSELECT_IN
    if event & select.EPOLLOUT:
        bits |= pycurl.CSELECT_OUT
    if event & select.EPOLLERR:
        bits |= pycurl.CSELECT_ERR
    return bits


def _forget(epoll: select.epoll, descriptor: int) -> None:
    try:
        epoll.unregister(descriptor)
    except (FileNotFoundError, OSError):
        # curl closed it first, and with that epoll forgot it.
        return


def _unable(message: str) -> Exchange:
    nothing = dict.fromkeys(("os_errno", "status", "redirects", "name_lookup", "connect", "app_connect", "first_byte", "total"), 0)
    return Exchange(code=pycurl.E_URL_MALFORMAT, message=message, secure=False, refused=None, **nothing)
