"""A gateway as it runs, on real servers: `start` of its own `__main__`, with the other services' questions answered by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr

from services.gateway.__main__ import start
from services.gateway.live.hub import Hub
from services.gateway.settings import GatewaySettings
from services.gateway.usecases import create_user
from shared.consuming import consuming, open_consumer
from shared.contracts import commands as ask
from shared.contracts.checks import CheckResult
from shared.contracts.codes import IncidentStatus, OverallStatus, Priority, Role, Severity, Status
from shared.contracts.envelope import Event, Payload
from shared.contracts.incidents import Incident, IncidentOpenedV1, IncidentUpdate
from shared.contracts.registry import encode, make_event
from shared.contracts.services import Assertion, ServiceDefinition, ServiceRegisteredV1
from shared.contracts.status import Evidence, ServiceStatus, ServiceStatusChangedV1, SystemStatus, UptimeDay
from shared.database import open_pool, transaction
from shared.health import Health
from shared.messaging import Outgoing, Publisher, open_publisher
from shared.rpc import Refused, serve
from shared.topology import EVENTS
from tests.integration.gateway.described import conforms
from tests.integration.gateway.past import Past
from tests.servers import Database
from tests.waiting import until

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
PASSWORD = "a long enough one"
SECRET = "https://secret.internal/token-of-somebody"


def definition(service_id: str = "face-compare", *, version: int = 1, **more: object) -> ServiceDefinition:
    """Return a definition with something in it that the public must not see."""
    fields: dict[str, Any] = {
        "id": service_id,
        "name": service_id,
        "display_name": service_id.replace("-", " ").title(),
        "display_name_ko": f"{service_id} 서비스",
        "kind": "http",
        "endpoint_url": SECRET,
        "check_interval": 2000,
        "timeout": 1000,
        "failure_threshold": 2,
        "recovery_threshold": 2,
        "is_active": True,
        "options": {"headers": {"authorization": SECRET}},
        "created_at": NOW,
        "updated_at": NOW,
        "version": version,
    }
    return ServiceDefinition.model_validate(fields | more)


def status_of(service_id: str = "face-compare", status: Status = Status.OPERATIONAL, *, version: int = 1, **more: object) -> ServiceStatus:
    """Return a status whose evidence the public must not see."""
    evidence = Evidence(reason=f"because of {SECRET}")
    fields: dict[str, Any] = {"service_id": service_id, "status": status, "since": NOW, "detected_at": NOW, "version": version}
    return ServiceStatus.model_validate(fields | {"evidence": evidence} | more)


def incident(
    *, key: UUID | None = None, version: int = 1, status: IncidentStatus = IncidentStatus.INVESTIGATING, **more: object
) -> Incident:
    """Return an incident with one entry for customers and one that is not."""
    said = IncidentUpdate(id=uuid4(), status=status, message="We look into it.", created_by="system", created_at=NOW)
    hidden = said.model_copy(update={"id": uuid4(), "message": SECRET, "is_customer_visible": False})
    fields: dict[str, Any] = {
        "id": key or uuid4(),
        "title": "Face Compare is down",
        "description": SECRET,
        "status": status,
        "severity": Severity.CRITICAL,
        "priority": Priority.P1,
        "affected_services": ("face-compare",),
        "started_at": NOW,
        "created_by": "system",
        "root_cause": SECRET,
        "version": version,
        "updates": (said, hidden),
    }
    return Incident.model_validate(fields | more)


def event(data: Payload, subject: str, version: int) -> Event[Any]:
    """Return the event that says `data`."""
    return make_event(data, source="/test", subject=subject, version=version, at=NOW, correlation_id="test")


def changed(status: ServiceStatus) -> Event[Any]:
    """Return the event of a status."""
    return event(ServiceStatusChangedV1(status=status), status.service_id, status.version)


def registered(service: ServiceDefinition) -> Event[Any]:
    """Return the event of a definition."""
    return event(ServiceRegisteredV1(service=service), service.id, service.version)


def opened(one: Incident) -> Event[Any]:
    """Return the event of an incident."""
    return event(IncidentOpenedV1(incident=one), str(one.id), one.version)


def call(**more: object) -> dict[str, Any]:
    """Return one call of real traffic, as it is reported."""
    measured_at = datetime.now(UTC).isoformat()
    return {"endpoint": "/v1/orders", "method": "POST", "status_code": 201, "duration_ms": 12.5, "measured_at": measured_at} | more


def trial() -> ask.Trial:
    """Return what a check that was tried found."""
    checked = {"id": uuid4(), "service_id": "new-one", "region": "eu", "scheduled_at": NOW, "checked_at": NOW, "outcome": "healthy"}
    assertion = Assertion(source="code", comparison="equals", target=200)
    return ask.Trial(
        result=CheckResult.model_validate(checked), assertions=(ask.AssertionVerdict(assertion=assertion, holds=True, found="200"),)
    )


TOKEN = "token-of-a-job-that-nobody-may-read"


@dataclass
class Owners:
    """What checker, aggregator and incidents answer. `silent` methods are not answered in time; `asked` says what was asked."""

    services: dict[str, ServiceDefinition] = field(default_factory=dict)
    statuses: dict[str, ServiceStatus] = field(default_factory=dict)
    incidents: dict[UUID, Incident] = field(default_factory=dict)
    past: Past = field(default_factory=Past)
    silent: set[str] = field(default_factory=set)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def listing(self, _params: object) -> ask.Services:
        return ask.Services(services=tuple(self.services.values()))

    async def overview(self, _params: object) -> ask.Overview:
        system = SystemStatus(
            overall_status=OverallStatus.OPERATIONAL,
            operational_services=1,
            total_services=1,
            active_incidents=0,
            updated_at=NOW,
            version=1,
        )
        return ask.Overview(statuses=tuple(self.statuses.values()), system=system)

    async def create(self, draft: ask.ServiceDraft) -> ServiceDefinition:
        self.asked.append(("create", draft))
        if "create" in self.silent:
            await asyncio.Event().wait()
        if "name" not in draft.definition:
            errors = (ask.FieldProblem(field="name", reason="is needed"),)
            raise Refused(ask.Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=errors))
        service = definition(**draft.definition | {"service_id": draft.definition["id"]})
        self.services[service.id] = service
        return service

    async def change(self, patch: ask.ServicePatch) -> ServiceDefinition:
        self.asked.append(("change", patch))
        known = self.services.get(patch.id)
        if known is None:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such service"))
        self.services[patch.id] = known.model_copy(update=patch.changes | {"version": known.version + 1})
        return self.services[patch.id]

    async def remove(self, ref: ask.ServiceRef) -> ask.Nothing:
        self.services.pop(ref.id)
        return ask.Nothing()

    async def apply(self, wanted: ask.ServiceSet) -> ask.Plan:
        self.asked.append(("apply", wanted))
        names = {str(one["id"]) for one in wanted.definitions}
        changes = [ask.PlannedChange(id=one, action=ask.PlannedAction.CREATE) for one in sorted(names - set(self.services))]
        if wanted.prune:
            changes += [ask.PlannedChange(id=one, action=ask.PlannedAction.REMOVE) for one in sorted(set(self.services) - names)]
        if not wanted.dry_run:
            self.services = {one: self.services.get(one, definition(one)) for one in names} | (
                {} if wanted.prune else {one: service for one, service in self.services.items() if one not in names}
            )
        return ask.Plan(changes=tuple(changes), applied=not wanted.dry_run)

    async def try_once(self, draft: ask.ServiceDraft) -> ask.Trial:
        self.asked.append(("try", draft))
        return trial()

    async def kinds(self, _params: object) -> ask.Kinds:
        return ask.Kinds(kinds=(ask.KindDescription(name="tcp", title="TCP", endpoint="tcp://host:port", options={}, sources=()),))

    async def push(self, signal: ask.PushSignal) -> ask.Nothing:
        self.asked.append(("push", signal))
        if "push" in self.silent:
            raise Refused(ask.Problem(title="Not available", status=503, detail="The database is away."))
        if signal.token != TOKEN:
            raise Refused(ask.Problem(title="Not found", status=404, detail=f"{signal.token} is nobody's"))
        return ask.Nothing()

    async def renew(self, ref: ask.ServiceRef) -> ask.PushToken:
        self.asked.append(("renew", ref))
        return ask.PushToken(service_id=ref.id, token=TOKEN)

    async def uptime(self, query: ask.UptimeQuery) -> ask.Uptime:
        self.asked.append(("uptime", query))
        day = UptimeDay(
            service_id=query.service_id,
            date=str(query.until),
            status=Status.OPERATIONAL,
            uptime_percentage=100.0,
            total_checks=1,
            successful_checks=1,
            failed_checks=0,
        )
        return ask.Uptime(service_id=query.service_id, uptime_percentage=100.0, days=(day,) * query.days)

    async def incident_list(self, query: ask.IncidentQuery) -> ask.Incidents:
        found = [one for one in self.incidents.values() if not query.open_only or one.status is not IncidentStatus.RESOLVED]
        return ask.Incidents(incidents=tuple(found[: query.limit]))

    async def incident_get(self, ref: ask.IncidentRef) -> Incident:
        if ref.id not in self.incidents:
            raise Refused(ask.Problem(title="Not found", status=404, detail="no such incident"))
        return self.incidents[ref.id]

    async def incident_open(self, draft: ask.IncidentDraft) -> Incident:
        self.asked.append(("open", draft))
        one = incident(key=draft.id, title=draft.title, created_by=draft.actor)
        self.incidents[one.id] = one
        return one

    async def incident_update(self, entry: ask.IncidentEntry) -> Incident:
        self.asked.append(("update", entry))
        known = await self.incident_get(ask.IncidentRef(id=entry.incident_id))
        said = IncidentUpdate(id=entry.entry_id, status=entry.status, message=entry.message, created_by=entry.actor, created_at=NOW)
        one = known.model_copy(update={"version": known.version + 1, "status": entry.status, "updates": (*known.updates, said)})
        self.incidents[one.id] = one
        return one

    def answers(self) -> dict[str, Mapping[Any, Any]]:
        """Return who answers what, by queue."""
        past: dict[str, dict[Any, Any]] = {queue: dict(one) for queue, one in self.past.answers().items()}
        return {
            ask.CHECKER_RPC: {
                ask.SERVICES_LIST: self.listing,
                ask.SERVICES_CREATE: self.create,
                ask.SERVICES_CHANGE: self.change,
                ask.SERVICES_REMOVE: self.remove,
                ask.SERVICES_APPLY: self.apply,
                ask.CHECKS_TRY: self.try_once,
                ask.KINDS_DESCRIBE: self.kinds,
                ask.PUSH_SIGNAL: self.push,
                ask.PUSH_RENEW_TOKEN: self.renew,
            },
            ask.AGGREGATOR_RPC: {ask.STATUS_OVERVIEW: self.overview, ask.UPTIME_READ: self.uptime} | past[ask.AGGREGATOR_RPC],
            ask.INCIDENTS_RPC: {
                ask.INCIDENTS_LIST: self.incident_list,
                ask.INCIDENTS_GET: self.incident_get,
                ask.INCIDENTS_OPEN: self.incident_open,
                ask.INCIDENTS_UPDATE: self.incident_update,
            }
            | past[ask.INCIDENTS_RPC],
        }


@dataclass
class World:
    """The other services, as the gateway meets them on the broker."""

    owners: Owners
    publisher: Publisher

    async def say(self, *events: Event[Any]) -> None:
        """Publish events, in order, each confirmed. What they say is what their owners answer from then on."""
        for one in events:
            if isinstance(one.data, ServiceStatusChangedV1):
                self.owners.statuses[one.data.status.service_id] = one.data.status
            if isinstance(one.data, ServiceRegisteredV1):
                self.owners.services[one.data.service.id] = one.data.service
            await self.publisher.publish(Outgoing(EVENTS, one.type, encode(one), str(one.id), one.correlationid))


@asynccontextmanager
async def world(amqp_url: str, owners: Owners | None = None) -> AsyncIterator[World]:
    """Answer for checker, aggregator and incidents, and publish what they would."""
    health = Health("world")
    owners = owners or Owners()
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_publisher(amqp_url, name="world", health=health))
        consumer = open_consumer(amqp_url, name="world", publisher=publisher, health=health)
        for queue, answers in owners.answers().items():
            serve(consumer, queue, answers)
        await stack.enter_async_context(consuming(consumer))
        await publisher.connected.wait()
        yield World(owners, publisher)


@dataclass(frozen=True)
class Running:
    """A gateway that runs."""

    port: int
    health: Health
    hub: Hub

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def status(self) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url) as http:
            answer = await http.get("/api/v1/status")
            return dict(answer.json()) if answer.status_code == 200 else {}

    async def ready(self) -> None:
        """Return when it is ready."""

        async def asked() -> bool:
            return not (await self.health.reasons()).get("read model")

        await until(asked, within_s=20, what="a ready gateway")


def settings(*, database_url: str, amqp_url: str, redis_url: str, **more: object) -> GatewaySettings:
    """Return settings for a test: quick where that changes nothing else."""
    quick: dict[str, Any] = {
        "http_port": 0,
        "bcrypt_cost": 4,
        "rpc_timeout_s": 2.0,
        "snapshot_every_s": 0.1,
        "refresh_every_s": 60.0,
        "session_cache_s": 0.0,
    }
    urls = {"database_url": SecretStr(database_url), "broker_url": SecretStr(amqp_url), "redis_url": SecretStr(redis_url)}
    make: Callable[..., GatewaySettings] = GatewaySettings
    return make(**urls, **(quick | more))


@asynccontextmanager
async def gateway(chosen: GatewaySettings) -> AsyncIterator[Running]:
    """Run a gateway until this is left."""
    health = Health("gateway")
    async with AsyncExitStack() as stack:
        serving = await start(stack, health, chosen)
        yield Running(serving.port, health, serving.hub)
    assert not health.failed.is_set(), health.failure


async def add_people(database: Database) -> None:
    """Add one person per role, called as the role."""
    async with open_pool(database.url("gateway"), name="test", health=Health("test")) as pool, transaction(pool) as conn:
        for role in Role:
            await create_user(conn, username=role, email=f"{role}@example.com", password=PASSWORD, role=role, now=NOW, cost=4)


@asynccontextmanager
async def signed_in(running: Running, role: Role) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that is signed in as the person of a role. Every answer is held against the reference of the API."""
    async with httpx.AsyncClient(base_url=running.url, timeout=20, event_hooks={"response": [conforms]}) as http:

        async def try_it() -> bool:
            answer = await http.post("/api/v1/session", json={"username": role, "password": PASSWORD})
            assert answer.status_code in {204, 503}, answer.text
            return answer.status_code == 204

        await until(try_it, within_s=10, what="a sign-in")
        yield http


def later(seconds: float) -> datetime:
    """Return a moment after NOW."""
    return NOW + timedelta(seconds=seconds)
