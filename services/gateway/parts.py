"""What the routes work with: made once in `__main__`, handed on, never imported."""

from dataclasses import dataclass

from services.gateway.cache import Cache
from services.gateway.database import Database
from services.gateway.live.hub import Hub
from services.gateway.sessions import Attempts, Pace, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.usecases import Door
from services.gateway.web.reports.making import Reports
from shared.clock import Clock
from shared.messaging import Publisher
from shared.rpc import Client


@dataclass(frozen=True, slots=True)
class Parts:
    """The gateway's resources, wired."""

    settings: GatewaySettings
    clock: Clock
    hub: Hub
    client: Client
    cache: Cache
    database: Database
    door: Door
    sessions: Sessions
    attempts: Attempts
    pace: Pace
    publisher: Publisher
    reports: Reports
