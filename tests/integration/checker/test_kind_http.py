"""HTTP checks against nginx, and against servers that do what nginx never would."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from services.checker.assertions import judge
from services.checker.domain.hosts import HostRules
from services.checker.probes import PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.tools import Tools
from shared.contracts.codes import ErrorType, Outcome
from tests import certificates
from tests.asking import ask, looking_at
from tests.nginx import running_nginx
from tests.watched import saying, service, silent, target

PASSWORDS = "ann:{PLAIN}open sesame\n"


@dataclass(frozen=True, slots=True)
class Site:
    """The addresses of the parts of nginx."""

    http: str
    tls: str
    http2: str
    mutual: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    shown, clients = certificates.good("localhost", "127.0.0.1"), certificates.authority("clients")
    passwords = tmp_path_factory.mktemp("nginx") / "passwords"
    passwords.write_text(PASSWORDS, encoding="utf-8")
    passwords.parent.chmod(0o755)
    tls = f"ssl_certificate {shown.chain_file}; ssl_certificate_key {shown.key_file};"
    config = f"""
    gzip on; gzip_types text/plain; gzip_min_length 1;
    server {{
        listen 127.0.0.1:PORT0;
        location / {{ return 200 "hello"; }}
        location /code/ {{ location ~ /code/503 {{ return 503 "down for a while"; }} location ~ /code/204 {{ return 204; }} }}
        location /private {{ auth_basic "x"; auth_basic_user_file {passwords}; try_files /none =204; }}
        location /told {{ return 200 "$request_method|$host|$http_x_token|$http_authorization|$content_type|$http_user_agent"; }}
        location /json {{ default_type application/json; add_header X-Two a; add_header X-Two b; return 200 '{{"ok": true, "n": 3}}'; }}
    }}
    server {{ listen 127.0.0.1:PORT1 ssl; {tls} return 200 "tls $server_protocol"; }}
    server {{ listen 127.0.0.1:PORT2 ssl http2; {tls} return 200 "tls $server_protocol"; }}
    server {{
        listen 127.0.0.1:PORT3 ssl; {tls} ssl_client_certificate {clients.file}; ssl_verify_client on;
        return 200 "$ssl_client_s_dn";
    }}
    """
    with running_nginx(config) as nginx:
        plain, *secured = nginx.ports
        yield Site(f"http://127.0.0.1:{plain}", *(f"https://localhost:{port}" for port in secured))


async def test_a_good_answer_says_how_long_each_phase_took(site: Site) -> None:
    found = await ask(f"{site.tls}/")
    times = found.times
    assert (found.outcome, found.status_code, found.error_message) == (Outcome.HEALTHY, 200, None)
    phases = (times.name_lookup_ms, times.connect_ms, times.tls_ms, times.first_byte_ms)
    assert all(one is not None and one > 0 for one in phases)
    assert times.total_ms == found.response_time_ms
    assert sum(one or 0 for one in phases) <= (times.total_ms or 0) + 0.01


@pytest.mark.parametrize(
    ("code", "expected", "outcome"), [(204, ["2xx"], Outcome.HEALTHY), (204, [200], Outcome.FAILED), (503, [503], Outcome.HEALTHY)]
)
async def test_the_codes_that_count_are_chosen(site: Site, code: int, expected: list[int | str], outcome: Outcome) -> None:
    assert (await ask(f"{site.http}/code/{code}", expected_codes=expected)).outcome is outcome


async def test_a_failing_answer_leaves_its_beginning_as_evidence(site: Site) -> None:
    watched = target("http", f"{site.http}/code/503")
    found = judge(await ask(watched.endpoint_url), watched)
    assert (found.error_message, found.evidence) == ("answered 503, expected 2xx", "down for a while")


async def test_basic_authentication(site: Site) -> None:
    url = f"{site.http}/private"
    assert (await ask(url, basic={"username": "ann", "password": "open sesame"})).outcome is Outcome.HEALTHY
    assert (await ask(url, basic={"username": "ann", "password": "shut"})).status_code == 401
    assert (await ask(url)).status_code == 401


async def test_what_is_asked_is_what_was_chosen(site: Site) -> None:
    async def told(**options: Any) -> list[str]:  # noqa: ANN401  # JSON
        return (await ask(f"{site.http}/told", assertions=looking_at("body"), **options)).facts.body.decode().split("|")

    assert await told(headers={"X-Token": "t1", "Host": "other.example", "User-Agent": "me"}, bearer="b1") == [
        "GET", "other.example", "t1", "Bearer b1", "", "me",
    ]  # fmt: skip
    assert (await told(method="POST", body="{}"))[4] == "application/json"
    assert (await told(method="PUT", body="x", headers={"content-type": "text/csv"}))[0:5:4] == ["PUT", "text/csv"]
    assert (await told(method="POST"))[4] == ""
    assert (await told(method="GET", body="q"))[0] == "GET"


async def test_a_handle_that_carried_secrets_goes_on_without_them(site: Site) -> None:
    """Seen red without the handle's reset after extras."""
    with_secret = target("http", f"{site.http}/told", headers={"X-Token": "t1"}, method="POST", body="b", expected_codes=[418])
    without = target("http", f"{site.http}/told", method="POST", expected_codes=[418])
    ca_file = str(certificates.authority().file)
    async with open_engine(rules=HostRules(), ca_file=ca_file, most=1, on_failure=pytest.fail) as engine:
        tools = Tools(engine, HostRules(), ca_file)
        bodies = [(await PROBES["http"](one, tools)).facts.body.split(b"|")[2:5] for one in (with_secret, without)]
    assert bodies == [[b"t1", b"", b"application/json"], [b"", b"", b""]]


async def test_headers_and_body_are_there_for_assertions(site: Site) -> None:
    found = await ask(f"{site.http}/json", assertions=(*looking_at("header", "x-two"), *looking_at("json", "$.n")))
    assert [value for name, value in found.facts.headers if name == "X-Two"] == ["a", "b"]
    assert found.facts.body == b'{"ok": true, "n": 3}'
    assert (await ask(f"{site.http}/json")).facts.body == b""


@pytest.mark.parametrize(
    ("part", "version", "protocol"),
    [("http2", "auto", "HTTP/2.0"), ("http2", "1.1", "HTTP/1.1"), ("http2", "2", "HTTP/2.0"), ("tls", "auto", "HTTP/1.1")],
)
async def test_the_version_of_http_is_chosen(site: Site, part: str, version: str, protocol: str) -> None:
    found = await ask(getattr(site, part), http_version=version, assertions=looking_at("body"))
    assert found.facts.body == f"tls {protocol}".encode()


async def test_a_service_without_http2_fails_where_nothing_else_will_do(site: Site) -> None:
    found = await ask(site.tls, http_version="2")
    assert (found.error_type, found.error_message) == (
        ErrorType.TLS_ERROR, "tlsv1 alert no application protocol, while securing the connection",
    )  # fmt: skip
    assert (await ask(site.http, http_version="2")).error_message == "the answer breaks HTTP/2"


async def test_mutual_tls(site: Site) -> None:
    own, strange = certificates.good("client.test", signed_by="clients"), certificates.good("stranger.test")
    shown = {"certificate": own.chain, "key": own.key}
    found = await ask(site.mutual, client_certificate=shown, assertions=looking_at("body"))
    assert b"CN=client.test" in found.facts.body
    assert (await ask(site.mutual)).status_code == 400
    assert (await ask(site.mutual, client_certificate={"certificate": strange.chain, "key": strange.key})).status_code == 400


async def test_the_certificate_is_told_where_somebody_looks_at_it(site: Site) -> None:
    found = await ask(site.tls, assertions=looking_at("certificate", "days_left"))
    shown = found.facts.values["certificate"]
    assert 365.4 < shown["days_left"] <= 365.5
    assert shown["names"] == ("localhost", "127.0.0.1")
    assert "CN=localhost" in shown["subject"]
    assert "O=Authority trusted" in shown["issuer"]
    assert found.details == {"certificate_days": shown["days_left"]}


async def test_a_compressed_answer_is_read_and_a_bomb_does_not_go_off() -> None:
    """Twenty megabytes of nothing in twenty kilobytes. Seen red with the limit on what came over the network."""
    bomb = gzip.compress(bytes(20_000_000))
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    async with service(saying(head + bomb, b"", pause_s=60)) as port:
        found = await ask(f"http://127.0.0.1:{port}/", max_body_bytes=100_000, assertions=looking_at("body"))
    assert (found.outcome, found.facts.body, found.facts.truncated) == (Outcome.HEALTHY, bytes(100_000), True)


async def test_a_compressed_answer_is_told_in_clear(site: Site) -> None:
    found = await ask(site.http, assertions=(*looking_at("header", "content-encoding"), *looking_at("body")))
    assert ("Content-Encoding", "gzip") in found.facts.headers
    assert found.facts.body == b"hello"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (silent, "not done within 400 ms, while waiting for the answer"),
        (saying(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", pause_s=0.05), "not done within 400 ms, while reading the answer"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n", b".", pause_s=0.05), "not done within 400 ms, while reading the answer"),
        (
            saying(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope", b"", pause_s=60),
            "the answer's encoding is broken",
        ),
    ],
)
async def test_a_slow_or_broken_answer_fails_in_its_phase(answer: Any, message: str) -> None:  # noqa: ANN401  # a server's function
    async with service(answer) as port:
        assert (await ask(f"http://127.0.0.1:{port}/", timeout_ms=400)).error_message == message


async def test_the_ip_version_is_chosen(site: Site) -> None:
    port = site.http.rpartition(":")[2]
    assert (await ask(f"http://localhost:{port}/", ip_version="4")).outcome is Outcome.HEALTHY
    found = await ask(f"http://localhost:{port}/", ip_version="6")
    assert found.outcome is Outcome.FAILED
