"""Every error as problem+json (RFC 9457): the one table from exceptions to answers."""

import http
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from services.gateway.api.reasons import reason
from services.gateway.domain.csrf import SAFE_METHODS
from shared.contracts.commands import FieldProblem, Problem
from shared.database import TRANSIENT
from shared.rpc import NoAnswer, Refused
from shared.telemetry import correlation_id, logger

MEDIA_TYPE = "application/problem+json"
log = logger(__name__)


class ProblemError(Exception):
    """An answer that is a problem."""

    def __init__(
        self, status: int, title: str, detail: str, *, errors: tuple[FieldProblem, ...] = (), headers: dict[str, str] | None = None
    ) -> None:
        """Say what is wrong in a sentence that helps."""
        super().__init__(detail)
        self.problem = Problem(title=title, status=status, detail=detail, errors=errors)
        self.headers = headers or {}


def respond(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem as an answer, with the correlation id under which the logs have it."""
    content: dict[str, Any] = problem.model_dump(mode="json")
    if not content["errors"]:
        del content["errors"]
    content["correlation_id"] = correlation_id()
    return JSONResponse(content, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def invalid(error: ValidationError) -> ProblemError:
    """Return the problem of a body that does not have the form it needs."""
    fields = tuple(
        FieldProblem(field=".".join(str(part) for part in one["loc"]) or "body", reason=reason(one))
        for one in error.errors(include_url=False, include_input=False)
    )
    return ProblemError(422, "Not valid", "Some fields cannot be used.", errors=fields)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101  # what it is registered for
    return respond(error.problem, error.headers)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101
    return respond(error.problem)


async def _no_answer(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NoAnswer)  # noqa: S101
    if request.method in SAFE_METHODS:
        return respond(
            Problem(title="Not available", status=503, detail=f"The service that knows did not answer ({error})."), {"Retry-After": "2"}
        )
    if error.may_have_happened:
        detail = f"No answer came in time ({error}). It may have been applied all the same: look before you try again."
        return respond(Problem(title="No answer in time", status=504, detail=detail))
    return respond(
        Problem(title="Not available", status=503, detail=f"It was not applied ({error}). Try again in a moment."), {"Retry-After": "2"}
    )


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    log.warning("the database is away", reason=f"{type(error).__name__}: {error}"[:200])
    detail = "The database of sign-ins is away; nothing was changed. Reading what was read lately still works."
    return respond(Problem(title="Not available", status=503, detail=detail), {"Retry-After": "2"})


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = http.HTTPStatus(error.status_code).phrase
    details = {404: "There is nothing at this address.", 405: "This address does not take this method."}
    detail = details.get(error.status_code, str(error.detail))
    return respond(Problem(title=title, status=error.status_code, detail=detail), dict(error.headers or {}))


async def _validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    fields = tuple(
        FieldProblem(field=".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), reason=reason(one))
        for one in error.errors()
    )
    return respond(Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=fields))


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    return respond(Problem(title="Internal error", status=500, detail="This is a defect; the log has it under the correlation id."))


def register(app: FastAPI) -> None:
    """Answer every error of an application as a problem."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(NoAnswer, _no_answer)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    for transient in TRANSIENT:
        app.add_exception_handler(transient, _database_away)
    app.add_exception_handler(Exception, _defect)
