"""What an HTTP check may be told: headers that can be sent, keys that fit, and secrets that nobody sees."""

from typing import Any

import pytest

from services.checker.probes.exchange import Request, Shape
from services.checker.probes.http import KIND
from tests import certificates

SECRETS = {
    "headers": {"X-Token": "s3cret-1"},
    "body": "s3cret-2",
    "basic": {"username": "ann", "password": "s3cret-3"},
    "method": "POST",
}


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Host": "[::1]:80", "X-Empty": "", "X-Tab": "a\tb", "X-Name": "이름"}},
        {"bearer": "abc.def-_~+/="},
        {"basic": {"username": "ann", "password": ""}},
        {"proxy": "http://proxy.internal:3128"},
        {"proxy": "http://[fd00::1]:3128"},
        {"method": "GET", "body": "{}"},
        {"http_version": "2", "ip_version": "6", "max_redirects": 20},
    ],
)
def test_what_can_be_sent_is_taken(options: dict[str, Any]) -> None:
    assert KIND.read(options)[1] == []


@pytest.mark.parametrize(
    ("options", "field", "reason"),
    [
        ({"headers": {"X-A": "s3cret\r\nX-B: 1"}}, "headers", "one line for X-A"),
        ({"headers": {"X-A": "s3cret\nx"}}, "headers", "one line for X-A"),
        ({"headers": {"X-A": "s3cret\x00"}}, "headers", "one line for X-A"),
        ({"headers": {"X-A\r\nX-B": "s3cret"}}, "headers", "names of headers"),
        ({"headers": {"X A": "s3cret"}}, "headers", "names of headers"),
        ({"headers": {"": "s3cret"}}, "headers", "names of headers"),
        ({"headers": {"X:A": "s3cret"}}, "headers", "names of headers"),
        ({"headers": {"Content-Length": "1"}}, "headers", "must not set Content-Length"),
        ({"headers": {"transfer-encoding": "chunked"}}, "headers", "must not set transfer-encoding"),
        ({"headers": {"Host": "a b"}}, "headers", "a host"),
        ({"headers": {"Host": "a/../b"}}, "headers", "a host"),
        ({"headers": {"Host": "user@b"}}, "headers", "a host"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers", "each header once"),
        ({"bearer": "s3cret with spaces"}, "bearer", "must be a token"),
        ({"basic": {"username": "a:b", "password": "s3cret"}}, "basic.username", "must be"),
        ({"basic": {"username": "a", "password": "x"}, "bearer": "s3cret"}, "", "sign in one way"),
        ({"headers": {"authorization": "s3cret"}, "bearer": "s3cret"}, "", "sign in one way"),
        ({"method": "HEAD", "body": "s3cret"}, "", "no body with HEAD"),
        ({"proxy": "http://user:s3cret@proxy:1"}, "proxy", "must be"),
        ({"proxy": "socks5://proxy:1"}, "proxy", "must be"),
        ({"authorities": "nonsense"}, "authorities", "certificates as PEM"),
        ({"client_certificate": {"certificate": "nonsense", "key": "s3cret"}}, "client_certificate", "a certificate as PEM"),
        ({"http_version": "3"}, "http_version", "must be"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_a_word_of_the_secret(options: dict[str, Any], field: str, reason: str) -> None:
    """Seen red without the look at line breaks, and with the value in the reason."""
    read, flaws = KIND.read(options)
    assert read is None
    assert [flaw.field for flaw in flaws] == [f"options.{field}".rstrip(".")]
    assert reason in flaws[0].reason
    assert "s3cret" not in str(flaws)


def test_a_certificate_and_a_strange_key_do_not_belong_together() -> None:
    """Seen red without comparing them: the handshake would fail at every check, and look like an outage."""
    one, other = certificates.good("a.test"), certificates.good("b.test")
    _read, flaws = KIND.read({"client_certificate": {"certificate": one.chain, "key": other.key}})
    assert "do not belong together" in flaws[0].reason
    assert KIND.read({"client_certificate": {"certificate": one.chain, "key": one.key}})[1] == []


def test_what_does_not_fit_the_address_is_refused() -> None:
    own = certificates.good("a.test")
    with_key = KIND.read({"client_certificate": {"certificate": own.chain, "key": own.key}})[0]
    assert KIND.flaws is not None
    assert [flaw.field for flaw in KIND.flaws("http://a.test/", with_key)] == ["options.client_certificate"]
    assert KIND.flaws("https://a.test/", with_key) == []
    only_6 = KIND.read({"ip_version": "6"})[0]
    assert [flaw.field for flaw in KIND.flaws("http://127.0.0.1/", only_6)] == ["options.ip_version"]
    assert KIND.flaws("http://[::1]/", only_6) == []


def test_no_secret_is_shown() -> None:
    """Seen red with `extras` in the request's repr, and with a header's value as plain text."""
    options, flaws = KIND.read(SECRETS)
    assert flaws == []
    request = Request("http://a.test/", 900, Shape("POST"), 1, extras=options.dress(own_origin=True, with_body=True))
    for shown in (repr(options), str(options), repr(request), options.model_dump_json()):
        assert "s3cret" not in shown
    assert "s3cret-1" in str(request.extras)


def test_secrets_are_said_to_be_secrets_in_the_schema() -> None:
    properties = KIND.schema["properties"]
    assert properties["headers"]["additionalProperties"] == {"format": "password", "type": "string", "writeOnly": True}
    assert all(one.get("description") for one in properties.values())


def test_an_ordinary_check_tells_curl_nothing_of_its_own() -> None:
    """What most checks are: they must stay as cheap as they are."""
    assert KIND.read({})[0].plain
    assert KIND.read({"method": "POST", "expected_codes": [204]})[0].plain
    assert not KIND.read({"headers": {"X-A": "1"}})[0].plain
