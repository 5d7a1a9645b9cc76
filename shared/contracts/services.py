"""Services: what is checked, and what their definitions tell everybody."""

from typing import Any, ClassVar

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import AssertionSeverity
from shared.contracts.envelope import Payload


class Assertion(Contract):
    """One thing that an answer must hold. One language for all kinds: docs/assertions.md."""

    source: str = Field(description="What is looked at, as code, header, body, json, html, response_time, phase, certificate, dns, loss")
    property: str = Field(default="", description="Which part of it: a header's name, a JSONPath, a CSS selector, a phase …")
    comparison: str = Field(description="As equals, contains, matches, less_than, exists, length_at_least")
    target: str | int | float | bool | None = None
    severity: AssertionSeverity = AssertionSeverity.DOWN


class ServiceDefinition(Contract):
    """The whole public definition of a service, as its owner (checker) has it. Times in milliseconds."""

    id: str
    name: str
    display_name: str
    display_name_ko: str | None = None
    description: str = ""
    kind: str = Field(description="How it is checked: http, dns and so on; more will come, so readers take kinds that they do not know")
    endpoint_url: str
    check_interval: int
    timeout: int
    failure_threshold: int
    recovery_threshold: int
    is_active: bool
    retry_interval_ms: int | None = Field(default=None, description="Until a doubtful outcome is checked again; null: interval/10")
    degraded_after_ms: int | None = Field(default=None, description="An answer that takes longer is degraded; null: never")
    regions: tuple[str, ...] = Field(default=(), description="The regions that check it; empty: all")
    quorum: str = Field(default="majority", description="How many regions must be down for `mo`: any, majority, all, or a number")
    depends_on: tuple[str, ...] = Field(default=(), description="While one of these is down, this one raises no alert of its own")
    options: dict[str, Any] = Field(default_factory=dict, description="Of the kind; secrets are masked")
    assertions: tuple[Assertion, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: Timestamp
    updated_at: Timestamp
    version: int = Field(description="Grows with every change; what is older than what you have is to be ignored")


class ServiceRegisteredV1(Payload):
    """A service began to exist."""

    TYPE: ClassVar[str] = "service.registered.v1"
    service: ServiceDefinition


class ServiceUpdatedV1(Payload):
    """A definition changed; the whole of it as it is now."""

    TYPE: ClassVar[str] = "service.updated.v1"
    service: ServiceDefinition


class ServiceRemovedV1(Payload):
    """A service is no longer checked; its history stays readable until it ages out."""

    TYPE: ClassVar[str] = "service.removed.v1"
    service: ServiceDefinition
    removed_at: Timestamp
