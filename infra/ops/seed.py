"""First content: the five services to watch, and one user per role.

Made through the services' own use cases, so that every rule and event holds.

Safe to run any number of times: what exists is left as it is.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
from pydantic import SecretStr

from infra.ops.database import role, with_credentials
from infra.ops.errors import OpsError
from services.checker import usecases as checker
from services.checker.settings import CheckerSettings
from services.gateway import usecases as gateway
from shared.contracts.codes import Role
from shared.contracts.commands import ServiceDraft
from shared.database import Connection, open_pool
from shared.health import Health
from shared.rpc import Refused

ACTOR = "seed"
CONNECT_S = 20.0
CHECK_INTERVAL_MS = 2_000
TIMEOUT_MS = 1_500
THRESHOLD = 2

NAMES = {
    "id-recognition": ("ID Recognition", "ID 인식"),
    "face-liveness": ("Face Liveness", "얼굴 라이브니스"),
    "id-liveness": ("ID Liveness", "ID 라이브니스"),
    "face-compare": ("Face Compare", "얼굴 비교"),
    "curp-verifier": ("CURP Verifier", "CURP 검증"),
}
"""The seeded services: English and Korean display name by id."""

SQL_USERNAMES = "select username from users"
SQL_SERVICE_IDS = "select id from services"  # the removed ones too: what was removed on purpose does not come back


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was made; passwords by user name, to be shown once and kept nowhere."""

    services: list[str] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)


async def seed(admin_url: str, passwords: Mapping[str, str], targets: Mapping[str, str]) -> Seeded:
    """Make what is missing; `targets` holds the address to check by service id. Raises OpsError."""
    made = Seeded()
    async with as_service(admin_url, "checker", passwords) as conn:
        # Only its rules about hosts are of interest here; where its database is was said already.
        settings = CheckerSettings(database_url=SecretStr(admin_url), broker_url=SecretStr(""))
        present = {row["id"] for row in await conn.fetch(SQL_SERVICE_IDS)}
        for service, url in targets.items():
            if service not in present:
                await _create_service(conn, service, url, settings)
                made.services.append(service)
    async with as_service(admin_url, "gateway", passwords) as conn:
        taken = {row["username"] for row in await conn.fetch(SQL_USERNAMES)}
        for one in Role:
            if one.value not in taken:
                made.passwords[one.value] = await _create_user(conn, one)
    return made


async def reset_password(admin_url: str, passwords: Mapping[str, str], username: str) -> str:
    """Give a user a new generated password and return it; their sessions end. Raises OpsError if there is no such user."""
    password = new_password()
    async with as_service(admin_url, "gateway", passwords) as conn:
        try:
            await gateway.reset_password(conn, username=username, password=password)
        except gateway.NoSuchUser as error:
            message = f"there is no user {username!r}"
            raise OpsError(message) from error
    return password


def new_password() -> str:
    """Return a password that a person can copy: about 95 bits."""
    return secrets.token_urlsafe(12)


async def _create_service(conn: Connection, service: str, url: str, settings: CheckerSettings) -> None:
    display_name, korean = NAMES[service]
    definition = {
        "id": service,
        "name": display_name,
        "display_name": display_name,
        "display_name_ko": korean,
        "kind": "http",
        "endpoint_url": url,
        "check_interval": CHECK_INTERVAL_MS,
        "timeout": TIMEOUT_MS,
        "failure_threshold": THRESHOLD,
        "recovery_threshold": THRESHOLD,
    }
    try:
        async with conn.transaction():
            await checker.create(conn, ServiceDraft(definition=definition, actor=ACTOR), rules=settings.host_rules)
    except Refused as refused:
        reasons = "; ".join(f"{one.field} {one.reason}" for one in refused.problem.errors) or refused.problem.detail
        message = f"service {service} was refused: {reasons}"
        raise OpsError(message) from refused


async def _create_user(conn: Connection, one: Role) -> str:
    password = new_password()
    async with conn.transaction():
        await gateway.create_user(
            conn, username=one.value, email=f"{one.value}@example.invalid", password=password, role=one, now=datetime.now(UTC)
        )
    return password


@asynccontextmanager
async def as_service(admin_url: str, service: str, passwords: Mapping[str, str]) -> AsyncIterator[Connection]:
    """Connect as the service itself: what it may not do, the seed does not do either."""
    url = with_credentials(admin_url, user=role(service), password=passwords[service])
    health = Health("seed")
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(CONNECT_S):
                pool = await stack.enter_async_context(open_pool(url, name="sla-monitor seed", health=health, size=2))
        except TimeoutError as error:
            message = f"cannot sign in to the database as {role(service)}; run `sla-monitor db migrate` first"
            raise OpsError(message) from error
        try:
            async with pool.acquire() as conn:
                yield conn
        except asyncpg.UndefinedTableError as error:
            message = f"the tables of {service} are not there yet; run `sla-monitor db migrate` first"
            raise OpsError(message) from error
