"""Settings that every service has. Each process reads the environment once, in `__main__`; nothing is read at import."""

import sys
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

USAGE_ERROR = 2
"""Exit code of a process whose settings or arguments cannot be used."""


class TelemetrySettings(BaseSettings):
    """How a process speaks."""

    model_config = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)

    log_format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is said less is lost: keep info in production"
    )


class DatabaseSettings(BaseSettings):
    """Where the service's own schema is."""

    model_config = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="postgresql://role:password@host:port/database, with the service's own role")
    database_pool_size: int = Field(
        default=10, ge=2, le=200, description="Connections kept by one process; replicas times this must stay below max_connections"
    )


class BrokerSettings(BaseSettings):
    """Where the other services are met."""

    model_config = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)

    broker_url: SecretStr = Field(description="amqp://user:password@host:port/vhost")


class HealthSettings(BaseSettings):
    """Where a process says how it is: /health/live, /health/ready, /metrics."""

    model_config = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)

    health_host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 lets others in, as in a container")
    health_port: int = Field(default=9100, ge=0, le=65535, description="Port to listen on; 0 picks a free one")


class ServiceSettings(TelemetrySettings, DatabaseSettings, BrokerSettings, HealthSettings):
    """What every service needs; each adds its own."""


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read settings from the environment, or end the process with exit code 2 and one sentence for each mistake."""
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        for problem in error.errors(include_url=False, include_input=False):
            name = f"{prefix}{'.'.join(str(part) for part in problem['loc'])}".upper()
            print(f"{name}: {problem['msg']}. What it means stands in .env.example.", file=sys.stderr)  # noqa: T201  # no log is configured yet
        raise SystemExit(USAGE_ERROR) from None
