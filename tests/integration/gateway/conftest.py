"""A gateway on a database, a virtual host and a Redis of the test's own."""

from collections.abc import AsyncIterator, Callable

import pytest

from services.gateway.settings import GatewaySettings
from tests.integration.gateway import rig
from tests.servers import Database, Vhost

Chooser = Callable[..., GatewaySettings]


@pytest.fixture
def choose(database: Database, vhost: Vhost, redis_url: str) -> Chooser:
    """Return settings of a gateway on this test's servers; what is given goes before."""
    urls = {"database_url": database.url("gateway"), "amqp_url": vhost.amqp_url, "redis_url": redis_url}

    def chosen(**more: object) -> GatewaySettings:
        return rig.settings(**(urls | more))  # type: ignore[arg-type]  # settings of several kinds

    return chosen


@pytest.fixture
async def people(database: Database) -> None:
    """Add one person per role."""
    await rig.add_people(database)


@pytest.fixture
async def others(vhost: Vhost) -> AsyncIterator[rig.World]:
    """Answer for the other services, with one service defined and operational."""
    owners = rig.Owners(services={"face-compare": rig.definition()}, statuses={"face-compare": rig.status_of()})
    async with rig.world(vhost.amqp_url, owners) as there:
        yield there


@pytest.fixture
async def running(choose: Chooser, others: rig.World, people: None) -> AsyncIterator[rig.Running]:  # noqa: ARG001  # needed to be there, not to be used
    """Run a gateway until it is ready, and for the test."""
    async with rig.gateway(choose()) as one:
        await one.ready()
        yield one
