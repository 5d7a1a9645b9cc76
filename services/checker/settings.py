"""The checker's settings; each field says what follows from changing it."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from services.checker.domain.hosts import HostRules, Network
from shared.settings import ServiceSettings


def _networks(value: Any) -> Any:  # noqa: ANN401  # whatever the environment holds
    if not isinstance(value, str):
        return value
    return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())


Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]


class CheckerSettings(ServiceSettings):
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
    http_concurrency: int = Field(default=1000, ge=1, le=20_000, description="HTTP checks in flight at once; more wait, and get late")
    denied_networks: Networks = Field(
        default=(), description="Networks never connected to, as in 10.0.0.0/8,fc00::/7; cloud metadata always is denied"
    )
    allowed_networks: Networks = Field(default=(), description="If set, only these networks are connected to; empty: all, private ones too")
    ca_file: Path | None = Field(default=None, description="Certificate authorities that HTTPS checks trust; without it the system's")

    @property
    def host_rules(self) -> HostRules:
        """The rules that both lists make."""
        return HostRules(denied=self.denied_networks, allowed=self.allowed_networks)
