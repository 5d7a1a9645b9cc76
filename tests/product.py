"""The product as users run it: the four services as processes of their own, on a database, virtual host and Redis of the test's own."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from services.gateway import usecases as gateway
from shared.contracts.codes import Role
from tests.servers import Database, Vhost
from tests.waiting import until

SERVICES = ("checker", "aggregator", "incidents", "gateway")
READY_S = 60.0
STOP_S = 10.0
ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """Return a loopback port that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Replica:
    """One process of one service. It keeps its settings and ports over restarts."""

    service: str
    env: dict[str, str]
    log: Path
    health_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of the gateway's REST API."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Start the process."""
        env = {**os.environ, **self.env, "SLA_HEALTH_PORT": str(self.health_port), "SLA_HTTP_PORT": str(self.http_port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", f"services.{self.service}"], cwd=ROOT, env=env, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL: no drain, no farewell."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; return the exit code. Fails if it takes longer than it may."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)

        async def ended() -> bool:
            return self.process is not None and self.process.poll() is not None

        await until(ended, within_s=STOP_S, what=f"{self.service} ends after SIGTERM")
        return self.process.returncode

    async def ready(self) -> None:
        """Wait until the process says that it is ready."""
        async with httpx.AsyncClient() as client:

            async def asked() -> bool:
                if self.process is None or self.process.poll() is not None:
                    msg = f"{self.service} ended: {self.log.read_text(encoding='utf-8')[-2000:]}"
                    raise AssertionError(msg)
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.health_port}/health/ready")
                except httpx.TransportError:
                    return False
                return answer.status_code == httpx.codes.OK

            await until(asked, within_s=READY_S, what=f"{self.service} is ready")


@dataclass(slots=True)
class Product:
    """All replicas, and an admin who is signed in."""

    database: Database
    vhost: Vhost
    settings: dict[str, str]
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    admin_password: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def add(self, service: str) -> Replica:
        """Make and start one more replica."""
        env = {
            "SLA_DATABASE_URL": self.database.url(service),
            "SLA_BROKER_URL": self.vhost.amqp_url,
            "SLA_SPOOL_PATH": str(self.folder / f"spool-{len(self.replicas)}.sqlite"),
            **self.settings,
        }
        replica = Replica(service, env, self.folder / f"{service}-{len(self.replicas)}.log")
        self.replicas.append(replica)
        replica.start()
        return replica

    def of(self, service: str) -> Replica:
        """Return the first replica of a service."""
        return next(one for one in self.replicas if one.service == service)

    async def create_admin(self) -> None:
        """Create the admin whom the test signs in as."""
        conn = await asyncpg.connect(self.database.url("gateway"))
        try:
            await gateway.create_user(
                conn, username="admin", email="admin@example.com", password=self.admin_password, role=Role.ADMIN, now=datetime.now(UTC)
            )
        finally:
            await conn.close()

    @asynccontextmanager
    async def signed_in(self, replica: Replica | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client of the REST API that is signed in as the admin."""
        base = (replica or self.of("gateway")).url
        async with httpx.AsyncClient(base_url=base, timeout=15, headers={"origin": base}) as client:
            answer = await client.post("/api/v1/session", json={"username": "admin", "password": self.admin_password})
            assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
            yield client


async def register(client: httpx.AsyncClient, service_id: str, url: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
    """Create a service over REST; return it."""
    body = {"id": service_id, "name": service_id, "display_name": service_id, "kind": "http", "endpoint_url": url, **more}
    answer = await client.post("/api/v1/services", json=body)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    created: dict[str, Any] = answer.json()
    return created


@asynccontextmanager
async def running_product(database: Database, vhost: Vhost, redis_url: str, folder: Path, *, gateways: int = 1) -> AsyncIterator[Product]:
    """Start every service, wait until all are ready, and stop them at the end; each must end cleanly."""
    settings = {"SLA_REDIS_URL": redis_url, "SLA_LOG_LEVEL": "info", "SLA_LOG_FORMAT": "console", "SLA_HEALTH_HOST": "127.0.0.1"}
    product = Product(database, vhost, settings, folder)
    await product.create_admin()
    try:
        for service in SERVICES:
            for _ in range(gateways if service == "gateway" else 1):
                product.add(service)
        await asyncio.gather(*(replica.ready() for replica in product.replicas))
        yield product
        codes = await asyncio.gather(*(replica.stop() for replica in product.replicas))
        assert set(codes) == {0}, dict(zip((one.service for one in product.replicas), codes, strict=True))
    finally:
        for replica in product.replicas:
            replica.kill()
