"""Who may use which route. What is not listed is refused to everybody: a route that somebody forgot is closed, not open."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request

from services.gateway.api.problems import ProblemError
from services.gateway.domain.csrf import SAFE_METHODS, forged
from services.gateway.domain.people import Identity
from services.gateway.domain.roles import Action, may
from services.gateway.parts import Parts

COOKIE = "sla_session"

PUBLIC = frozenset({("GET", "/api/v1/status"), ("GET", "/api/v1/openapi.json"), ("POST", "/api/v1/session"), ("DELETE", "/api/v1/session")})
"""Routes that need no role: what everybody may read, and the door itself."""

SECRET_ADDRESSES = frozenset(
    (method, path) for method in ("GET", "HEAD", "POST") for path in ("/api/v1/push/{token}", "/api/v1/push/{token}/{signal}")
)
"""Routes that are opened by the secret in their address and by nothing else: another site that made a browser call one would know it."""

NEEDS: Mapping[tuple[str, str], Action] = {
    ("GET", "/api/v1/session"): Action.READ,
    ("GET", "/api/v1/services"): Action.READ,
    ("POST", "/api/v1/services"): Action.CHANGE_SERVICES,
    ("POST", "/api/v1/services/apply"): Action.CHANGE_SERVICES,
    ("GET", "/api/v1/kinds"): Action.READ,
    ("POST", "/api/v1/checks/try"): Action.CHANGE_SERVICES,
    ("GET", "/api/v1/services/{service_id}"): Action.READ,
    ("PATCH", "/api/v1/services/{service_id}"): Action.CHANGE_SERVICES,
    ("DELETE", "/api/v1/services/{service_id}"): Action.CHANGE_SERVICES,
    ("GET", "/api/v1/services/{service_id}/uptime"): Action.READ,
    ("POST", "/api/v1/services/{service_id}/push-token"): Action.CHANGE_SERVICES,
    ("POST", "/api/v1/services/{service_id}/response-times"): Action.REPORT_CALLS,
    ("GET", "/api/v1/incidents"): Action.READ,
    ("POST", "/api/v1/incidents"): Action.HANDLE_INCIDENTS,
    ("GET", "/api/v1/incidents/{incident_id}"): Action.READ,
    ("POST", "/api/v1/incidents/{incident_id}/updates"): Action.HANDLE_INCIDENTS,
    ("GET", "/api/v1/services/{service_id}/uptime/audit"): Action.READ,
    ("GET", "/api/v1/services/{service_id}/timeline"): Action.READ,
    ("GET", "/api/v1/services/{service_id}/status/history"): Action.READ,
    ("GET", "/api/v1/services/{service_id}/response-times/series"): Action.READ,
    ("POST", "/api/v1/services/{service_id}/dry-run"): Action.READ,
    ("GET", "/api/v1/services/{service_id}/corrections"): Action.READ,
    ("POST", "/api/v1/services/{service_id}/corrections"): Action.CORRECT_HISTORY,
    ("POST", "/api/v1/corrections/{correction_id}/revoke"): Action.CORRECT_HISTORY,
    ("GET", "/api/v1/sla/contracts"): Action.READ,
    ("GET", "/api/v1/sla/contracts/{contract_id}"): Action.READ,
    ("PUT", "/api/v1/sla/contracts/{contract_id}"): Action.CHANGE_CONTRACTS,
    ("DELETE", "/api/v1/sla/contracts/{contract_id}"): Action.CHANGE_CONTRACTS,
    ("POST", "/api/v1/sla/contracts/{contract_id}/exclusions"): Action.CHANGE_CONTRACTS,
    ("GET", "/api/v1/sla/contracts/{contract_id}/exclusions"): Action.READ,
    ("POST", "/api/v1/sla/contracts/{contract_id}/exclusions/{exclusion_id}/revoke"): Action.CHANGE_CONTRACTS,
    ("GET", "/api/v1/sla/contracts/{contract_id}/standing"): Action.READ,
    ("GET", "/api/v1/sla/contracts/{contract_id}/report"): Action.READ,
    ("GET", "/api/v1/maintenances"): Action.READ,
    ("POST", "/api/v1/maintenances"): Action.PLAN_MAINTENANCE,
    ("PATCH", "/api/v1/maintenances/{maintenance_id}"): Action.PLAN_MAINTENANCE,
    ("POST", "/api/v1/maintenances/{maintenance_id}/end"): Action.PLAN_MAINTENANCE,
}


def parts_of(request: Request) -> Parts:
    """Return what the application was wired with."""
    parts: Parts = request.app.state.parts
    return parts


async def guard(request: Request) -> None:
    """Let a request pass, or raise `ProblemError` 401 or 403. Runs before every route, before its body is read."""
    key = (request.method, request.scope["route"].path)
    if key in SECRET_ADDRESSES:
        return
    headers = request.headers
    if forged(method=request.method, fetch_site=headers.get("sec-fetch-site"), origin=headers.get("origin"), host=headers.get("host")):
        raise ProblemError(403, "Forbidden", "This request was made by a page of another site.")
    if key in PUBLIC:
        return
    action = NEEDS.get(key)
    if action is None:
        raise ProblemError(403, "Forbidden", "Nobody is allowed to do this: the route has no role.")
    who = await _identity(request)
    if who is None:
        raise ProblemError(401, "Not signed in", "Sign in with POST /api/v1/session first.", headers={"WWW-Authenticate": "Session"})
    if not may(who.role, action):
        raise ProblemError(403, "Forbidden", f"Your role, {who.role}, may not do this.")
    request.state.who = who


async def _identity(request: Request) -> Identity | None:
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    return await parts_of(request).sessions.who(token, reading=request.method in SAFE_METHODS)


def signed_in(request: Request) -> Identity:
    """Return who is asking. Only behind `guard`."""
    who: Identity = request.state.who
    return who


Who = Annotated[Identity, Depends(signed_in)]
With = Annotated[Parts, Depends(parts_of)]
