"""What an HTTP exchange means, in stable words, with the phase that it failed in."""

import errno
from dataclasses import replace

import pycurl
import pytest

from services.checker.domain.target import Measurement
from services.checker.probes.exchange import Exchange
from services.checker.probes.http import KIND, HttpOptions
from services.checker.probes.http import judge as judge_journey
from services.checker.probes.journey import Journey, Spent
from shared.contracts.codes import ErrorType, Outcome

DONE = Exchange(0, "", 0, 200, False, None, 0.001, 0.003, 0.0, 0.010, 0.012)
LOOKING_UP = replace(DONE, status=0, name_lookup=0.0, connect=0.0)
CONNECTING = replace(DONE, status=0, connect=0.0)
WAITING = replace(DONE, status=0)
SECURING = replace(WAITING, secure=True)


def judge(exchange: Exchange, options: HttpOptions, *, timeout_ms: int) -> Measurement:
    return judge_journey(Journey(exchange), options, timeout_ms=timeout_ms)


@pytest.mark.parametrize(
    ("exchange", "error_type", "message"),
    [
        (replace(LOOKING_UP, code=28), ErrorType.TIMEOUT, "not done within 900 ms, while looking up the name"),
        (replace(CONNECTING, code=28), ErrorType.TIMEOUT, "not done within 900 ms, while connecting"),
        (replace(SECURING, code=28), ErrorType.TIMEOUT, "not done within 900 ms, while securing the connection"),
        (replace(WAITING, code=28), ErrorType.TIMEOUT, "not done within 900 ms, while waiting for the answer"),
        (replace(DONE, code=28), ErrorType.TIMEOUT, "not done within 900 ms, while reading the answer"),
        (replace(LOOKING_UP, code=6), ErrorType.DNS_ERROR, "name not found"),
        (replace(CONNECTING, code=7, os_errno=errno.ECONNREFUSED), ErrorType.CONNECTION_ERROR, "connection refused, while connecting"),
        (replace(CONNECTING, code=7), ErrorType.CONNECTION_ERROR, "connection failed, while connecting"),
        (
            replace(WAITING, code=56, os_errno=errno.ECONNRESET),
            ErrorType.CONNECTION_ERROR,
            "connection reset, while waiting for the answer",
        ),
        (replace(WAITING, code=52), ErrorType.CONNECTION_ERROR, "connection closed without an answer, while waiting for the answer"),
        (replace(DONE, code=18), ErrorType.CONNECTION_ERROR, "answer cut short, while reading the answer"),
        (replace(SECURING, code=35, os_errno=errno.ECONNRESET), ErrorType.TLS_ERROR, "connection reset, while securing the connection"),
        (
            replace(SECURING, code=60, message="SSL certificate problem: certificate has expired"),
            ErrorType.TLS_ERROR,
            "certificate has expired",
        ),
        (replace(WAITING, code=1), ErrorType.HTTP_ERROR, "the answer is not HTTP"),
        (
            replace(SECURING, code=35, message="TLS connect error: error:0A00010B:SSL routines::wrong version number"),
            ErrorType.TLS_ERROR,
            "wrong version number, while securing the connection",
        ),
        (
            replace(SECURING, code=35, message="TLS connect error: error:0A000126:SSL routines::unexpected eof while reading"),
            ErrorType.CONNECTION_ERROR,
            "connection closed, while securing the connection",
        ),
    ],
)
def test_a_failure_says_what_and_in_which_phase(exchange: Exchange, error_type: ErrorType, message: str) -> None:
    found = judge(exchange, HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, error_type, message)
    assert found.response_time_ms is None


def test_a_good_answer_has_its_phases() -> None:
    found = judge(DONE, HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.status_code, found.response_time_ms) == (Outcome.HEALTHY, 200, 12.0)
    assert (found.times.name_lookup_ms, found.times.connect_ms, found.times.tls_ms, found.times.first_byte_ms) == (1.0, 2.0, None, 7.0)


def test_phases_are_summed_over_redirects() -> None:
    """Seen red with the last hop's alone."""
    spent = Spent(name_lookup=0.1, connect=0.2, tls=0.3, waiting=0.4, total=1.5)
    found = judge_journey(Journey(DONE, spent), HttpOptions(), timeout_ms=900)
    times = found.times
    assert (times.name_lookup_ms, times.connect_ms, times.tls_ms, times.first_byte_ms) == (101.0, 202.0, 300.0, 407.0)
    assert found.response_time_ms == times.total_ms == 1512.0


def test_a_redirect_that_is_not_followed_says_why() -> None:
    found = judge_journey(Journey(replace(DONE, status=302), wrong="more than 5 redirects"), HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.error_type, found.error_message) == (Outcome.FAILED, ErrorType.HTTP_ERROR, "more than 5 redirects")


@pytest.mark.parametrize(
    ("exchange", "message"),
    [
        (replace(LOOKING_UP, code=7), "the proxy cannot be reached"),
        (replace(LOOKING_UP, code=28), "the proxy cannot be reached"),
        (replace(CONNECTING, code=56, connect=0.1, tunnel=407), "the proxy answered 407"),
    ],
)
def test_a_proxys_trouble_is_not_the_services(exchange: Exchange, message: str) -> None:
    """Seen red as failures."""
    found = judge(exchange, HttpOptions(proxy="http://proxy:3128"), timeout_ms=900)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, f"not checked: {message}")


def test_a_proxy_that_does_not_get_there_is_a_failure() -> None:
    found = judge(replace(WAITING, code=56, secure=True, tunnel=502), HttpOptions(proxy="http://proxy:3128"), timeout_ms=900)
    assert (found.outcome, found.error_message) == (Outcome.FAILED, "the proxy could not connect, while securing the connection")


def test_a_refused_address_teaches_nothing_about_the_service() -> None:
    found = judge(replace(CONNECTING, code=7, refused="10.0.0.1 is in a denied network"), HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: 10.0.0.1 is in a denied network")


@pytest.mark.parametrize(
    ("codes", "status", "good"),
    [(["2xx"], 204, True), (["2xx"], 301, False), ([200, "3xx"], 302, True), ([200], 201, False), ([503], 503, True), (["5xx"], 599, True)],
)
def test_expected_codes(codes: list[int | str], status: int, *, good: bool) -> None:
    options, wrong = KIND.read({"expected_codes": codes})
    assert wrong == []
    found = judge(replace(DONE, status=status), options, timeout_ms=900)
    assert (found.outcome is Outcome.HEALTHY) == good
    assert (found.error_type, found.status_code) == (None if good else ErrorType.HTTP_ERROR, status)


def test_every_code_of_curl_has_words() -> None:
    for code in range(1, pycurl.E_HTTP2 + 100):
        assert judge(replace(WAITING, code=code), HttpOptions(), timeout_ms=1).error_message
