"""Sign-in and sign-out: a cookie that scripts cannot read and other sites cannot send."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from services.gateway.api.access import COOKIE, Who, With
from services.gateway.api.bodies import Body, address_of, as_json, read
from services.gateway.api.problems import ProblemError
from services.gateway.domain.passwords import normal_username
from services.gateway.live.views import to_json
from services.gateway.sessions import ATTEMPTS_WITHIN_S
from services.gateway.usecases import TooBusy, WrongCredentials
from shared.contracts.base import rfc3339
from shared.database import TRANSIENT

router = APIRouter()


class SignIn(BaseModel):
    """What is sent to come in."""

    username: str = Field(min_length=1, max_length=200)
    password: str = Field(min_length=1, max_length=1000)


@router.post("/api/v1/session", status_code=204)
async def sign_in(request: Request, parts: With, body: Body) -> Response:
    """Begin a session; the cookie is the answer."""
    form = read(SignIn, body)
    name, address = normal_username(form.username), address_of(request)
    if not await parts.attempts.allowed(name, address):
        detail = "Too many attempts from this address. Wait a few minutes."
        raise ProblemError(429, "Too many attempts", detail, headers={"Retry-After": str(ATTEMPTS_WITHIN_S)})
    try:
        token, _who = await parts.door.sign_in(username=name, password=form.password, address=address, now=parts.clock())
    except WrongCredentials:
        raise ProblemError(
            401, "Not signed in", "The user name or the password is wrong.", headers={"WWW-Authenticate": "Session"}
        ) from None
    except TooBusy:
        await parts.attempts.taken_back(name, address)
        detail = "Too many people sign in at this moment. Try again in a few seconds."
        raise ProblemError(503, "Too many sign-ins", detail, headers={"Retry-After": "3"}) from None
    except TRANSIENT:
        await parts.attempts.taken_back(name, address)
        raise
    await parts.attempts.succeeded(name, address)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    lasts = parts.settings.session_hours * 3600
    response.set_cookie(COOKIE, token, max_age=lasts, httponly=True, samesite="strict", secure=parts.settings.cookie_secure, path="/")
    return response


@router.delete("/api/v1/session", status_code=204)
async def sign_out(request: Request, parts: With) -> Response:
    """End the session, if there is one."""
    token = request.cookies.get(COOKIE)
    if token:
        parts.sessions.forget(token)
        await parts.door.sign_out(token)
    response = Response(status_code=204, headers={"Cache-Control": "no-store"})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=parts.settings.cookie_secure, path="/")
    return response


@router.get("/api/v1/session")
async def who_am_i(who: Who) -> Response:
    """Say who is signed in, and until when."""
    return as_json(to_json({"username": who.username, "role": who.role, "expires_at": rfc3339(who.expires_at)}))
