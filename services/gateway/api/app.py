"""The REST application: one guard before every route, one table of errors behind them."""

from fastapi import Depends, FastAPI

from services.gateway.api import (
    applying,
    calls,
    checks,
    contracts,
    history,
    incidents,
    maintenances,
    problems,
    push,
    reference,
    services,
    session,
    uptime,
)
from services.gateway.api.access import guard
from services.gateway.parts import Parts


def rest_app(parts: Parts) -> FastAPI:
    """Return the application. Its reference is a route of its own (reference.py): the framework's would be a route without a role."""
    app = FastAPI(
        title="SLA Monitor", dependencies=[Depends(guard)], openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.parts = parts
    problems.register(app)
    for room in (session, applying, services, checks, push, calls, uptime, history, contracts, incidents, maintenances, reference):
        app.include_router(room.router)
    return app
