"""The product's REST API, as an operator's command uses it: signed in with a password, for as long as the command runs."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import typer
from pydantic import TypeAdapter

from infra.ops.errors import OpsError
from infra.ops.settings import RestSettings
from shared.contracts.commands import FieldProblem

CONNECT_S = 10.0
ANSWER_S = 90.0
"""Applying ten thousand definitions takes seconds; the gateway gives up after sixty."""
_PROBLEMS = TypeAdapter(list[FieldProblem])


class NotDone(Exception):  # noqa: N818  # names the fact
    """It could not be asked, or was refused for another reason than what was written."""


class NotValid(OpsError):  # noqa: N818
    """What was sent cannot be accepted: `problems` name the fields."""

    def __init__(self, message: str, problems: list[FieldProblem]) -> None:
        """Say what the gateway said."""
        super().__init__(message)
        self.problems = problems


class Rest:
    """A client that is signed in."""

    def __init__(self, http: httpx.Client) -> None:
        """See `signed_in`."""
        self._http = http

    def get(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """Return what an address answers. Raises `NotDone`, `NotValid`."""
        return _answer(self._http, "GET", path, None)

    def fetch(self, path: str, asked: Mapping[str, str]) -> bytes:
        """Return a file, as it is. Raises `NotDone`, `NotValid`."""
        return _answered(self._http, "GET", path, None, asked).content

    def post(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401  # JSON
        """Return what an address answers to a body. Raises `NotDone`, `NotValid`."""
        return _answer(self._http, "POST", path, body)


@contextmanager
def signed_in(settings: RestSettings) -> Iterator[Rest]:
    """Sign in, and out again at the end. Asks for the password at a terminal. Raises `NotDone`, `OpsError`."""
    password = settings.password.get_secret_value() if settings.password else _asked(settings.username)
    base = settings.url.rstrip("/")
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        http = httpx.Client(base_url=base, headers={"origin": base}, timeout=timeout)
    except (httpx.InvalidURL, ValueError) as error:
        message = f"SLA_URL is no address: {error}"
        raise OpsError(message) from None
    with http:
        _answer(http, "POST", "/api/v1/session", {"username": settings.username, "password": password})
        try:
            yield Rest(http)
        finally:
            with suppress(httpx.HTTPError):  # it ends by itself
                http.delete("/api/v1/session")


def _asked(username: str) -> str:
    if not sys.stdin.isatty():
        message = "SLA_PASSWORD is not set, and there is no terminal to ask at"
        raise OpsError(message)
    return str(typer.prompt(f"Password of {username}", hide_input=True, err=True))


@contextmanager
def spoken() -> Iterator[None]:
    """End with a sentence and exit code 1 where the product cannot be reached or refuses."""
    try:
        yield
    except NotDone as error:
        typer.echo(f"sla-monitor: {error}", err=True)
        raise typer.Exit(1) from None


def _answer(http: httpx.Client, method: str, path: str, body: Mapping[str, Any] | None) -> Any:  # noqa: ANN401  # JSON
    answer = _answered(http, method, path, body, {})
    return answer.json() if answer.content else None


def _answered(http: httpx.Client, method: str, path: str, body: Mapping[str, Any] | None, asked: Mapping[str, str]) -> httpx.Response:
    try:
        answer = http.request(method, path, json=body, params=asked or None)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"{http.base_url} cannot be reached: {error or type(error).__name__}"
        raise NotDone(message) from error
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
        said = f"{problem['title']}: {problem['detail']}"
        problems = _PROBLEMS.validate_python(problem.get("errors", []))
    except (ValueError, KeyError, TypeError):
        message = f"{http.base_url} answered {answer.status_code}, and not as this product does"
        raise NotDone(message) from None
    if answer.status_code in {400, 409, 413, 422}:
        raise NotValid(said, problems)
    raise NotDone(said)
