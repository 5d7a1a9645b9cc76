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
    """The servers of this test run; all workers share them."""
    run = Run(servers.run_folder(testrun_uid))
    yield run
    run.leave()


@pytest.fixture(scope="session")
def postgres(server_run: Run) -> str:
    """URL of the server's maintenance database with a superuser's rights."""
    return server_run.server("postgresql").url("postgres")


@pytest.fixture(scope="session")
def migrated_template(server_run: Run) -> None:
    """The template database with every migration applied, made once per run."""
    server = server_run.server("postgresql")
    server_run.once("template", lambda: servers.make_template(server_run, server))


@pytest.fixture
def database(server_run: Run, migrated_template: None) -> Iterator[Database]:
    """A fresh database from the template."""
    with servers.fresh_database(server_run, server_run.server("postgresql")) as fresh:
        yield fresh


@pytest.fixture
def vhost(server_run: Run) -> Iterator[Vhost]:
    """A fresh virtual host."""
    with servers.fresh_vhost(server_run.server("rabbitmq")) as fresh:
        yield fresh


@pytest.fixture
def redis_url(server_run: Run) -> str:
    """URL of a Redis database that no other test of this run uses."""
    server = server_run.server("redis")
    return server.url(str(servers.next_redis_database(server_run)))
