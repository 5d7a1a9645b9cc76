"""Who people are to the gateway, and what is written down of what they do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.contracts.codes import Role


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in is checked against."""

    user_id: UUID
    username: str
    password_hash: str
    role: Role
    is_active: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking."""

    user_id: UUID
    username: str
    role: Role
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Deed:
    """One line of the audit log, before its outcome is known."""

    at: datetime
    actor: str
    action: str
    subject: str
    address: str
    correlation_id: str
    details: dict[str, Any]
