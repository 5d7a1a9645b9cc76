"""Settings of the `sla-monitor` command and of the demo. Each field says what follows from changing it."""

from typing import Self

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.demo.targets import HTTP_IDS, port_of

_CONFIG = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)


class RolePasswords(BaseSettings):
    """What each service's database role signs in with; `db migrate` sets them."""

    model_config = _CONFIG

    checker_db_password: SecretStr = Field(
        description="Password of role sla_checker; a change takes effect with the next `db migrate`", min_length=8
    )
    aggregator_db_password: SecretStr = Field(description="Password of role sla_aggregator; likewise", min_length=8)
    incidents_db_password: SecretStr = Field(description="Password of role sla_incidents; likewise", min_length=8)
    gateway_db_password: SecretStr = Field(description="Password of role sla_gateway; likewise", min_length=8)
    readonly_db_password: SecretStr = Field(description="Password of role sla_readonly, for reports and BI tools; likewise", min_length=8)

    def passwords(self: Self) -> dict[str, str]:
        """Return the passwords by service."""
        return {
            "checker": self.checker_db_password.get_secret_value(),
            "aggregator": self.aggregator_db_password.get_secret_value(),
            "incidents": self.incidents_db_password.get_secret_value(),
            "gateway": self.gateway_db_password.get_secret_value(),
            "readonly": self.readonly_db_password.get_secret_value(),
        }


class AdminSettings(BaseSettings):
    """Where the database is, for whoever may make roles and databases."""

    model_config = _CONFIG

    admin_database_url: SecretStr = Field(
        description="postgresql://admin:password@host:port/sla_monitor, a role that may make databases and roles; for `sla-monitor db` only"
    )


class DatabaseOpsSettings(AdminSettings, RolePasswords):
    """What `sla-monitor db` needs."""


class DeadLetterSettings(BaseSettings):
    """Where the dead letters are."""

    model_config = _CONFIG

    broker_url: SecretStr = Field(description="amqp://user:password@host:port/vhost")


class RestSettings(BaseSettings):
    """Where the REST API is, and who asks: for `sla-monitor apply` and `export`."""

    model_config = _CONFIG

    url: str = Field(default="http://127.0.0.1:8080", description="Address of the gateway, or of the proxy before it")
    username: str = Field(default="admin", description="Who asks; an admin for `apply`")
    password: SecretStr | None = Field(default=None, description="Their password; without it the command asks at a terminal")


class DemoSettings(BaseSettings):
    """The demo's services: where they listen and under which address checkers find them."""

    model_config = _CONFIG

    demo_host: str = Field(default="127.0.0.1", description="Address that the demo's services listen on; 0.0.0.0 in a container")
    demo_port: int = Field(
        default=8090, ge=1024, le=65000, description="Port of the demo's switchboard; its services have the six ports after it"
    )
    demo_target_host: str = Field(
        default="127.0.0.1", description="Host under which checkers reach the demo's services; `db seed` writes it"
    )
    demo_target_urls: dict[str, str] = Field(
        default_factory=dict, description='Addresses of the real services instead, by id, as JSON: {"face-compare": "https://…/health"}'
    )

    def target_url(self: Self, service: str) -> str:
        """Return the address to check for a seeded service: the given one, or the demo's."""
        given = self.demo_target_urls.get(service)
        return given or f"http://{self.demo_target_host}:{port_of(service, self.demo_port)}/health"

    def target_urls(self: Self) -> dict[str, str]:
        """Return the address of every seeded service."""
        return {service: self.target_url(service) for service in HTTP_IDS}
