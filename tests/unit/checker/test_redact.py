"""What must not be seen is made unrecognisable."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.redact import MASK, is_secret_name, redact

CASES = [
    ('{"password": "a b", "user": "me"}', '{"password": "********", "user": "me"}'),
    ('{"password": "a\\"b", "n": 1}', '{"password": "********", "n": 1}'),
    ('{"api_key":12345}', '{"api_key":********}'),
    ('{"access_token": "cut sho', '{"access_token": "********'),
    ("{'client_secret': 'x y'}", "{'client_secret': '********'}"),
    ('"{\\"token\\": \\"abc\\"}"', '"{\\"token\\": \\"********\\"}"'),
    ("user=me&password=abc&x=1", "user=me&password=********&x=1"),
    ("Authorization: Basic YWJj\r\nX-Other: 1", "Authorization: ********\r\nX-Other: 1"),
    ("Set-Cookie: id=1; HttpOnly\nDate: now", "Set-Cookie: ********\nDate: now"),
    ("sent Bearer abcdef123456 to it", "sent Bearer ******** to it"),
    ("postgresql://me:word@db/x", "postgresql://me:********@db/x"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl.", "jwt ********."),
    ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc\n-----END PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----********-----END PRIVATE KEY-----"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\ncut", "-----BEGIN RSA PRIVATE KEY-----********"),
    ("card 4111 1111 1111 1111 ok", "card ******** ok"),
    ("card 4111111111111111", "card ********"),
    ("at 1716000000 took 12.5 ms, 42 items", "at 1716000000 took 12.5 ms, 42 items"),
    ('{"status": "ok", "count": 3}', '{"status": "ok", "count": 3}'),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[case[0][:40] for case in CASES])
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, expected: str) -> None:
    assert redact(text) == expected


PIECES = st.sampled_from(
    ["password", "token", '"', "'", ":", "=", " ", "\\", "Bearer ", "eyJ", "a", "1", "*", "\n", "-----BEGIN A-----", "://", "@", "."]
)
TEXTS = st.text(max_size=200) | st.lists(PIECES, max_size=40).map("".join)
SECRETS = st.lists(st.text(min_size=1, max_size=8) | st.text(alphabet="*a", min_size=1, max_size=5), max_size=4)


@given(TEXTS, SECRETS)
def test_redacting_again_changes_nothing(text: str, secrets: list[str]) -> None:
    once = redact(text, secrets)
    assert redact(once, secrets) == once


@given(TEXTS, st.text(max_size=40), SECRETS)
def test_no_given_secret_comes_through(before: str, after: str, secrets: list[str]) -> None:
    text = redact("".join(f"{before}{one}{after}" for one in secrets), secrets)
    assert not [one for one in secrets if one.strip("*") and one in text]


def test_hostile_text_takes_no_long() -> None:
    """Mutant seen red: the digits of a card in one repetition within another, which does not end."""
    began = time.perf_counter()
    for text in (
        "password" * 1_000,
        'password":' * 800,
        "-----BEGIN A-----" * 480,
        "1" * 8_000,
        "1 " * 4_000,
        "eyJaaaa" * 1_100,
        "://a:" * 1_600,
    ):
        redact(text)
        redact(text + " " * 8_000 + '"')
    assert time.perf_counter() - began < 3


def test_a_mask_never_completes_a_secret_and_a_shorter_secret_never_saves_the_rest_of_a_longer_one() -> None:
    """Mutants seen red: one round only, after which the mask's own asterisk completes `a*`; shorter secrets replaced first."""
    assert redact("aa*", ["a*"]) == MASK + "*******"
    assert redact("hunter22", ["hunter2", "hunter22"]) == MASK


def test_names_that_say_that_they_hold_a_secret() -> None:
    assert all(map(is_secret_name, ("Set-Cookie", "$.user.password", "X-Api-Key", "Proxy-Authorization")))
    assert not any(map(is_secret_name, ("content-type", "$.status", "")))
    assert redact("", ["*"]) == ""
    assert MASK.strip("*") == ""
