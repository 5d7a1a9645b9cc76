"""Where HTTP checks go: names, redirects, certificates, proxies; and what they do not carry there."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Target
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.names import Names, Way
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome
from tests import certificates
from tests.asking import ask, looking_at
from tests.waiting import until
from tests.watched import BAD_CERTIFICATES, bad, fronted, service

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SECRETS = {"X-Token": "t1", "Cookie": "c1", "Accept": "text/x-mine"}


@dataclass(slots=True)
class Heard:
    """A server that remembers the requests it got, and answers paths as it is told: /301/<where> redirects."""

    port: int = 0
    requests: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
            self.requests.append(head + (await reader.readexactly(length)).decode())
            path = head.split(" ")[1].removeprefix("http://only.there.test")
            code, _, where = path.lstrip("/").partition("/")
            redirect = f"HTTP/1.1 {code} X\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n".encode()
            writer.write(redirect if code.isdigit() else OK)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def hearing() -> AsyncIterator[Heard]:
    heard = Heard()
    async with service(heard.answer) as heard.port:
        yield heard


class Fixed(Names):
    """A resolver whose answers are set, and which remembers what it was asked."""

    def __init__(self, **addresses: list[str]) -> None:
        super().__init__(threads=1)
        self.addresses = addresses
        self.asked: list[str] = []

    async def look_up(self, host: str, port: int, _deadline: float) -> list[Way]:
        self.asked.append(host)
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, (one, port)) for one in self.addresses[host.replace(".", "_")]]


# --- secrets and redirects


async def test_secrets_go_to_their_own_origin_alone() -> None:
    """Seen red with every hop dressed as the first."""
    async with hearing() as home, hearing() as other:
        url = f"http://127.0.0.1:{home.port}/302/http://127.0.0.1:{other.port}/there"
        found = await ask(url, headers=SECRETS, bearer="b1", authorities=certificates.authority().pem)
        assert found.outcome is Outcome.HEALTHY
        assert all(secret in home.requests[0] for secret in ("t1", "c1", "b1", "text/x-mine"))
        assert not any(secret in other.requests[0] for secret in ("t1", "c1", "b1"))
        assert "text/x-mine" in other.requests[0]
        basic = {"username": "ann", "password": "p1"}
        await ask(url, basic=basic)
        assert "Authorization: Basic YW5uOnAx" in home.requests[1]
        assert "uthorization" not in other.requests[1]


async def test_secrets_stay_away_once_it_led_elsewhere_even_where_it_leads_back() -> None:
    """Seen red with each hop compared to the first alone: the other party chooses what is then asked in our name."""
    async with hearing() as home, hearing() as other:
        back = f"http://127.0.0.1:{other.port}/302/http://127.0.0.1:{home.port}/delete-all"
        await ask(f"http://127.0.0.1:{home.port}/302/{back}", headers=SECRETS)
        assert len(home.requests) == 2
        assert "t1" not in home.requests[1]


async def test_secrets_go_along_within_the_origin() -> None:
    async with hearing() as home:
        await ask(f"http://127.0.0.1:{home.port}/302//here", headers=SECRETS)
        assert "t1" in home.requests[1]


async def test_another_host_on_the_same_address_is_another_origin() -> None:
    async with hearing() as home:
        await ask(f"http://127.0.0.1:{home.port}/302/http://localhost:{home.port}/x", headers=SECRETS)
        assert "t1" not in home.requests[1]


async def test_a_body_is_not_sent_to_another_origin() -> None:
    """Seen red without the refusal."""
    async with hearing() as home, hearing() as other:
        found = await ask(f"http://127.0.0.1:{home.port}/307/http://127.0.0.1:{other.port}/", method="POST", body="secret")
        assert found.error_message == "redirected to another origin, which is not given the request's body"
        assert other.requests == []


@pytest.mark.parametrize(
    ("method", "code", "then", "body"),
    [("POST", 301, "GET", ""), ("POST", 303, "GET", ""), ("PUT", 302, "PUT", "b1"), ("POST", 308, "POST", "b1"), ("HEAD", 303, "HEAD", "")],
)
async def test_method_and_body_follow_as_browsers_have_it(method: str, code: int, then: str, body: str) -> None:
    given: dict[str, Any] = {} if method == "HEAD" else {"body": "b1"}
    async with hearing() as home:
        await ask(f"http://127.0.0.1:{home.port}/{code}//x", method=method, **given)
        head, _, sent = home.requests[1].partition("\r\n\r\n")
        assert (head.split(" ")[0], sent) == (then, body)
        assert ("application/json" in head) == bool(body)


async def test_redirects_have_a_limit_and_one_timeout_for_all() -> None:
    async with hearing() as home:
        url = f"http://127.0.0.1:{home.port}/302//302//302//x"
        assert (await ask(url, max_redirects=3)).outcome is Outcome.HEALTHY
        found = await ask(url, max_redirects=2)
        assert (found.outcome, found.error_message) == (Outcome.FAILED, "more than 2 redirects")
        found = await ask(f"http://127.0.0.1:{home.port}/302/http://a,b.test:{home.port}/")
        assert found.error_message == "redirected to an address that is not understood"


# --- names and addresses


async def test_a_name_is_looked_up_here_and_once_per_hop() -> None:
    """Seen red with names left to curl, which does not know these."""
    async with hearing() as home:
        names = Fixed(a_test=["127.0.0.1"], b_test=["127.0.0.1"])
        found = await ask(f"http://a.test:{home.port}/302/http://b.test:{home.port}/x", names=names)
        assert (found.outcome, names.asked) == (Outcome.HEALTHY, ["a.test", "b.test"])
        assert f"Host: b.test:{home.port}" in home.requests[1]
        found = await ask(f"http://A.test.:{home.port}/", names=Fixed(a_test_=["127.0.0.1"]))
        assert found.outcome is Outcome.HEALTHY


async def test_names_and_paths_beyond_ascii_are_written_as_the_network_has_them() -> None:
    """RFC 3987, 3.1 and IDNA. Seen red with the address given to curl as it is."""
    async with hearing() as home:
        names = Fixed(**{"xn--bcher-kva_test": ["127.0.0.1"]})
        found = await ask(f"http://bücher.test:{home.port}/책?q=%20ü", names=names)
        assert (found.outcome, names.asked) == (Outcome.HEALTHY, ["xn--bcher-kva.test"])
        assert home.requests[0].startswith("GET /%EC%B1%85?q=%20%C3%BC HTTP/1.1\r\nHost: xn--bcher-kva.test:")


async def test_a_name_whose_addresses_changed_is_vetted_anew() -> None:
    """Rebinding: the name was permitted when the definition was written.

    Seen red without the vettings in `locate` and of the socket; either of them is enough.
    """
    rules = HostRules(denied=(ip_network("127.0.0.0/8"),))
    async with hearing() as home:
        found = await ask(f"http://a.test:{home.port}/", rules=rules, names=Fixed(a_test=["127.0.0.1"]))
        assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: 127.0.0.1 is in a denied network")
        assert home.requests == []


async def test_a_redirect_to_a_name_that_leads_to_the_clouds_metadata_is_not_followed() -> None:
    async with hearing() as home:
        url = f"http://127.0.0.1:{home.port}/302/http://a.test/latest"
        found = await ask(url, names=Fixed(a_test=["169.254.169.254"]))
        assert found.outcome is Outcome.UNKNOWN
        assert "169.254.169.254 is link-local" in (found.error_message or "")


async def test_the_next_address_of_a_name_is_tried() -> None:
    async with hearing() as home:
        found = await ask(f"http://a.test:{home.port}/", names=Fixed(a_test=["127.0.0.9", "127.0.0.1"]))
        assert found.outcome is Outcome.HEALTHY


async def test_a_name_is_not_remembered_from_check_to_check() -> None:
    """Seen red without curl being told to forget."""
    async with hearing() as home, hearing() as other:
        names = Fixed(a_test=["127.0.0.1"])
        ca_file = str(certificates.authority().file)
        async with open_engine(rules=HostRules(), ca_file=ca_file, most=1, on_failure=pytest.fail) as engine:
            tools = Tools(engine, HostRules(), ca_file, names=names)
            watched = Target("s", "http", f"http://a.test:{home.port}/", 60_000, 2000, KINDS["http"].read({})[0], 0, 1)
            assert (await PROBES["http"](watched, tools)).outcome is Outcome.HEALTHY
            names.addresses["a_test"] = ["127.0.0.9"]
            assert (await PROBES["http"](watched, tools)).error_message == "connection refused, while connecting"
        assert other.requests == []


@pytest.fixture
def swallowing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver of the system that never answers for names that begin with h."""
    asked: list[str] = []
    released = threading.Event()

    def look_up(host: str, port: int, **_kind: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        if host.startswith("h"):
            released.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    released.set()


async def test_a_resolver_that_swallows_questions_delays_no_other_name(swallowing: list[str]) -> None:
    """Thirty names hang, more than curl has threads for. Seen red with names left to curl."""
    options = KINDS["http"].read({})[0]
    async with hearing() as home, open_engine(rules=HostRules(), ca_file="/none", most=100, on_failure=pytest.fail) as engine:
        tools = Tools(engine, HostRules(), "/none")

        def watched(name: str, timeout_ms: int) -> Target:
            return Target("s", "http", f"http://{name}:{home.port}/", 60_000, timeout_ms, options, 0, 1)

        hanging = [asyncio.ensure_future(PROBES["http"](watched(f"h{number}.test", 3000), tools)) for number in range(30)]

        async def all_begun() -> bool:
            return len(swallowing) == len(hanging)

        await until(all_begun, within_s=5, what="30 look-ups at once")
        assert (await PROBES["http"](watched("good.test", 2000), tools)).outcome is Outcome.HEALTHY
        messages = {one.error_message for one in await asyncio.gather(*hanging)}
    assert messages == {"not done within 3000 ms, while looking up the name"}


def _full(listening: socket.socket) -> list[socket.socket]:
    """Fill a server's queue, so that the next connection is not answered."""
    links = []
    for _ in range(4):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(listening.getsockname())
        links.append(link)
    return links


async def test_a_host_that_does_not_answer_is_timed_out_while_connecting() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        links = _full(listening)
        found = await ask(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout_ms=300)
        for link in links:
            link.close()
    assert (found.error_type, found.error_message) == (ErrorType.TIMEOUT, "not done within 300 ms, while connecting")


# --- certificates


@pytest.mark.parametrize("sort", BAD_CERTIFICATES)
async def test_a_bad_certificate_is_a_tls_error_in_the_words_of_the_other_kinds(sort: str) -> None:
    certificate, words = bad(sort)
    async with hearing() as home, fronted(home.port, certificate) as port:
        found = await ask(f"https://localhost:{port}/")
        assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.TLS_ERROR, words)
        assert (await ask(f"https://localhost:{port}/", verify_tls=False)).outcome is Outcome.HEALTHY


async def test_authorities_of_ones_own_are_trusted_in_place_of_the_others() -> None:
    """Seen red without CAINFO_BLOB."""
    strange = certificates.good("localhost", signed_by="strangers")
    async with hearing() as home, fronted(home.port, strange) as port:
        assert (await ask(f"https://localhost:{port}/")).error_message == "unable to get local issuer certificate"
        found = await ask(f"https://localhost:{port}/", authorities=certificates.authority("strangers").pem)
        assert found.outcome is Outcome.HEALTHY
    async with hearing() as home, fronted(home.port, certificates.good("localhost")) as port:
        found = await ask(f"https://localhost:{port}/", authorities=certificates.authority("strangers").pem)
        assert found.error_type is ErrorType.TLS_ERROR


async def test_a_service_that_breaks_the_handshake_off() -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()

    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n" * 10)

    async with service(close) as port:
        found = await ask(f"https://127.0.0.1:{port}/")
        assert (found.error_type, found.error_message) == (ErrorType.CONNECTION_ERROR, "connection closed, while securing the connection")
    async with service(plain) as port:
        found = await ask(f"https://127.0.0.1:{port}/")
        assert (found.error_type, found.error_message) == (ErrorType.TLS_ERROR, "wrong version number, while securing the connection")


# --- proxies


@dataclass(slots=True)
class Proxy:
    """A proxy that carries what it is asked to, or answers `refuses`."""

    port: int = 0
    refuses: int = 0
    asked: list[str] = field(default_factory=list)
    to: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split("\r\n")[0])
        if self.refuses:
            writer.write(f"HTTP/1.1 {self.refuses} No\r\ncontent-length: 0\r\n\r\n".encode())
            writer.write_eof()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        if head.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            far_writer.write(head.encode())
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(reader, far_writer))
                both.create_task(_carry(far_reader, writer))
        except* OSError:
            pass  # either side is done
        finally:
            far_writer.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    raise ConnectionResetError


@asynccontextmanager
async def proxying(**how: Any) -> AsyncIterator[tuple[Proxy, str]]:  # noqa: ANN401  # the proxy's fields
    proxy = Proxy(**how)
    async with service(proxy.answer) as proxy.port:
        yield proxy, f"http://127.0.0.1:{proxy.port}"


async def test_a_proxy_is_gone_through_where_the_installation_allows_it() -> None:
    """The name is for the proxy to look up. Seen red without the look at the setting."""
    async with hearing() as home, proxying(to=home.port) as (proxy, url):
        assert (await ask("http://only.there.test/x", proxy=url, proxies=(url,))).outcome is Outcome.HEALTHY
        assert proxy.asked == ["GET http://only.there.test/x HTTP/1.1"]
        found = await ask("http://only.there.test/", proxy=url)
        assert found.outcome is Outcome.UNKNOWN
        assert found.error_message == f"not checked: the proxy {url} is not among those that SLA_ALLOWED_PROXIES allows"
        assert len(proxy.asked) == 1


async def test_tls_goes_through_a_proxy_to_its_end() -> None:
    async with hearing() as home, fronted(home.port, certificates.good("only.there.test")) as port, proxying(to=port) as (proxy, url):
        found = await ask(
            "https://only.there.test/", proxy=url, proxies=(url,), headers={"X-Token": "t1"}, assertions=looking_at("header", "x")
        )
        assert found.outcome is Outcome.HEALTHY
        assert proxy.asked == ["CONNECT only.there.test:443 HTTP/1.1"]


async def test_a_denied_address_is_denied_through_a_proxy_too() -> None:
    """Seen red without the look at the address."""
    async with hearing() as home, proxying(to=home.port) as (proxy, url):
        found = await ask("http://only.there.test/302/http://169.254.169.254/latest", proxy=url, proxies=(url,))
        assert found.outcome is Outcome.UNKNOWN
        assert "link-local" in (found.error_message or "")
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("refuses", "outcome", "message"),
    [
        (407, Outcome.UNKNOWN, "not checked: the proxy answered 407"),
        (502, Outcome.FAILED, "the proxy could not connect, while securing the connection"),
    ],
)
async def test_a_proxys_own_trouble_is_told_from_the_services(refuses: int, outcome: Outcome, message: str) -> None:
    async with proxying(refuses=refuses) as (_proxy, url):
        found = await ask("https://only.there.test/", proxy=url, proxies=(url,))
    assert (found.outcome, found.error_message) == (outcome, message)


async def test_a_proxy_that_is_away_is_no_outage_of_the_service() -> None:
    url = "http://127.0.0.1:1"
    found = await ask("http://only.there.test/", proxy=url, proxies=(url,))
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: the proxy cannot be reached")
