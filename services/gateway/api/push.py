"""The receiver of push checks: a watched job calls its secret address when it starts, succeeds or fails. No sign-in, any HTTP client.

The address is the secret, so it is written nowhere: this process keeps no access log, and limits are counted under its hash.
"""

from typing import Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, Query, Request, Response

from services.gateway.api.access import With
from services.gateway.api.bodies import address_of
from services.gateway.api.problems import ProblemError
from services.gateway.parts import Parts
from services.gateway.sessions import PACE_WITHIN_S
from shared.contracts.commands import PUSH_SIGNAL, PushSignal
from shared.rpc import NoAnswer, Refused

router = APIRouter(prefix="/api/v1/push")

MOST_LOG_BYTES = 10_240
"""What is kept of a body."""
MOST_BODY_BYTES = 1_000_000
"""What is read of a body; whoever sends more is answered all the same."""
LONGEST_TOKEN = 200
LONGEST_MS = 366 * 86_400_000
MOST_EXIT_CODE = 255
METHODS = ["GET", "POST", "HEAD"]

Duration = Annotated[float | None, Query(ge=0, le=LONGEST_MS, allow_inf_nan=False)]


@router.api_route("/{token}", methods=METHODS, status_code=204)
async def succeeded(request: Request, parts: With, token: str, duration_ms: Duration = None) -> Response:
    """Take note that the job of this address is done, and well."""
    return await _tell(request, parts, token, "success", None, duration_ms)


@router.api_route("/{token}/{signal}", methods=METHODS, status_code=204)
async def signalled(request: Request, parts: With, token: str, signal: str, duration_ms: Duration = None) -> Response:
    """Take note that it started (`start`), failed (`fail`), or ended with an exit code (0 is success)."""
    if signal in {"start", "fail"}:
        what: Literal["start", "fail"] = "start" if signal == "start" else "fail"
        return await _tell(request, parts, token, what, None, duration_ms)
    if not (signal.isascii() and signal.isdigit() and len(signal) <= 3 and int(signal) <= MOST_EXIT_CODE):  # noqa: PLR2004  # 255 has three digits
        raise ProblemError(404, "Not found", "After the token comes nothing, start, fail, or an exit code from 0 to 255.")
    code = int(signal)
    return await _tell(request, parts, token, "fail" if code else "success", code, duration_ms)


async def _tell(  # noqa: PLR0917  # the parts of a signal
    request: Request,
    parts: Parts,
    token: str,
    what: Literal["start", "success", "fail"],
    exit_code: int | None,
    duration_ms: float | None,
) -> Response:
    if not token.isascii() or not token.isprintable() or len(token) > LONGEST_TOKEN:
        raise _nobody()
    if not await parts.pace.allowed(token, address_of(request)):
        raise ProblemError(429, "Too many calls", "This address was called too often. Wait a minute.", headers=_retry(PACE_WITHIN_S))
    log = await _log(request)
    signal = PushSignal(id=uuid4(), token=token, what=what, exit_code=exit_code, log=log, duration_ms=duration_ms, at=parts.clock())
    try:
        await parts.client.call(PUSH_SIGNAL, signal, timeout_s=parts.settings.rpc_timeout_s)
    except NoAnswer:
        raise _later() from None
    except Refused as refusal:
        if refusal.problem.status == 404:  # noqa: PLR2004  # Not Found
            raise _nobody() from None
        if refusal.problem.status >= 500:  # noqa: PLR2004
            raise _later() from None
        raise
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


async def _log(request: Request) -> str:
    """Return the beginning of the body as text that can be stored."""
    kept, count = bytearray(), 0
    async for piece in request.stream():
        kept += piece[: MOST_LOG_BYTES - len(kept)]
        count += len(piece)
        if count > MOST_BODY_BYTES:
            break
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd")


def _nobody() -> ProblemError:
    return ProblemError(404, "Not found", "No job has this address.")


def _later() -> ProblemError:
    return ProblemError(503, "Not available", "It cannot be noted now. Call again in a moment.", headers=_retry(5))


def _retry(after_s: int) -> dict[str, str]:
    return {"Retry-After": str(after_s)}
