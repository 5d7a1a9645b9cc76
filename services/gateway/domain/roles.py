"""What each role may do. Said here once; access.py says which route is which action."""

from enum import StrEnum

from shared.contracts.codes import Role


class Action(StrEnum):
    """One kind of thing that a person does through the gateway."""

    READ = "read"
    HANDLE_INCIDENTS = "handle_incidents"
    REPORT_CALLS = "report_calls"
    CHANGE_SERVICES = "change_services"
    PLAN_MAINTENANCE = "plan_maintenance"
    CORRECT_HISTORY = "correct_history"
    CHANGE_CONTRACTS = "change_contracts"


ALLOWED: dict[Role, frozenset[Action]] = {
    Role.VIEWER: frozenset({Action.READ}),
    Role.REPORTER: frozenset({Action.READ, Action.HANDLE_INCIDENTS, Action.REPORT_CALLS, Action.PLAN_MAINTENANCE}),
    Role.ADMIN: frozenset(Action),
}


def may(role: Role, action: Action) -> bool:
    """Say whether somebody in this role may do this."""
    return action in ALLOWED[role]
