"""Fixtures for every test: real servers on demand, and a fresh corner of them for each test.

`database`: a migrated PostgreSQL database of the test's own, with a URL per service role. `vhost`: an empty virtual host of RabbitMQ.
`redis_url`: a Redis database of the test's own. A test that asks for none of them starts no server.
"""

from collections.abc import Iterator

import pytest

from tests import servers
from tests.servers import Database, Run, Vhost


@pytest.fixture(scope="session")
def server_run(testrun_uid: str) -> Iterator[Run]:
    """Share the servers of this test run with its other workers."""
    run = Run(servers.run_folder(testrun_uid))
    yield run
    run.leave()


@pytest.fixture(scope="session")
def postgres(server_run: Run) -> str:
    """Give the URL of the server's maintenance database with a superuser's rights."""
    return server_run.server("postgresql").url("postgres")


@pytest.fixture(scope="session")
def template(server_run: Run) -> str:
    """Make the template database, once per run, with every migration applied; give its name."""
    server = server_run.server("postgresql")
    server_run.once("template", lambda: servers.make_template(server_run, server))
    return servers.TEMPLATE


@pytest.fixture
def database(server_run: Run, template: str) -> Iterator[Database]:
    """Give a fresh copy of the template."""
    with servers.fresh_database(server_run, server_run.server("postgresql"), template) as fresh:
        yield fresh


@pytest.fixture
def vhost(server_run: Run) -> Iterator[Vhost]:
    """Give a fresh virtual host."""
    with servers.fresh_vhost(server_run.server("rabbitmq")) as fresh:
        yield fresh


@pytest.fixture
def redis_url(server_run: Run) -> str:
    """Give the URL of a Redis database that no other test of this run uses."""
    server = server_run.server("redis")
    return server.url(str(servers.next_redis_database(server_run)))
