"""The checker's settings; each field says what follows from changing it."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.checker.domain.canaries import flaw
from services.checker.domain.hosts import PROXY_FORM, HostRules, Network
from services.checker.secrets import Sealer
from shared.settings import ServiceSettings


def _networks(value: Any) -> Any:  # noqa: ANN401  # whatever the environment holds
    if not isinstance(value, str):
        return value
    return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())


def _parts(value: Any) -> Any:  # noqa: ANN401  # whatever the environment holds
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
Canaries = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
Proxies = Annotated[tuple[Annotated[str, Field(pattern=PROXY_FORM)], ...], NoDecode, BeforeValidator(_parts)]
Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_parts)]


class SecretSettings(BaseSettings):
    """What secrets of definitions are sealed with."""

    model_config = SettingsConfigDict(env_prefix="SLA_", extra="ignore", frozen=True)

    secret_keys: Keys = Field(
        default=(),
        description="Fernet keys, by comma, that seal secrets of definitions: the first seals, all unseal; without any they are refused",
    )

    @field_validator("secret_keys")
    @classmethod
    def _fits(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        try:
            Sealer(keys)
        except ValueError:
            msg = "has a key that is none: each is 32 random bytes in URL-safe base64"
            raise ValueError(msg) from None
        return keys

    @property
    def sealer(self) -> Sealer:
        """What seals and unseals the secrets of definitions."""
        return Sealer(self.secret_keys)


class CheckerSettings(ServiceSettings, SecretSettings):
    """What a checker process needs to know."""

    region: str = Field(
        default="default",
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        description="The place that this checker looks from; checkers of one region share its slots, regions are judged beside each other",
    )
    spool_path: Path = Field(
        default=Path(".local/checker-spool.sqlite3"),
        description="File for results that the broker has not confirmed yet; one per process, on a disk that survives a restart",
    )
    spool_max_mb: int = Field(
        default=512, ge=1, description="What the spool may hold; beyond it the oldest results are given up, and counted"
    )
    concurrency: int = Field(
        default=1000, ge=1, le=20_000, description="Checks in flight at once; more wait and get late. Each holds a descriptor or two"
    )
    per_host_concurrency: int = Field(
        default=64, ge=1, le=20_000, description="Checks in flight at once against one host; the services on it that wait get late"
    )
    canaries: Canaries = Field(
        default=(),
        description="tcp://host:port or http(s) addresses, by comma: while none answers, results are unknown. Empty: every failure counts",
    )
    denied_networks: Networks = Field(
        default=(), description="Networks never connected to, as in 10.0.0.0/8,fc00::/7; cloud metadata always is denied"
    )
    allowed_networks: Networks = Field(default=(), description="If set, only these networks are connected to; empty: all")
    allow_private_networks: bool = Field(
        default=True,
        description="Whether private networks (loopback, 10.0.0.0/8, fc00::/7, …) are connected to; false where strangers define services",
    )
    allowed_proxies: Proxies = Field(
        default=(),
        description="Proxies, as http://host:port by comma, that HTTP checks may go through; rules of networks do not reach behind them",
    )
    ca_file: Path | None = Field(default=None, description="Certificate authorities that HTTPS checks trust; without it the system's")
    raw_retention_days: int = Field(
        default=90, ge=62, description="Days that the log of checks is kept at least; then it goes with its whole month"
    )

    @property
    def host_rules(self) -> HostRules:
        """The rules that these settings make."""
        return HostRules(denied=self.denied_networks, allowed=self.allowed_networks, private=self.allow_private_networks)

    @model_validator(mode="after")
    def _sound_canaries(self) -> Self:
        for canary in self.canaries:
            reason = flaw(canary, self.host_rules)
            if reason:
                msg = f"SLA_CANARIES: {canary}: {reason}"
                raise ValueError(msg)
        return self
