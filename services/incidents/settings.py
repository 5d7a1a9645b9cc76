"""Settings of the incidents service."""

from shared.settings import ServiceSettings


class IncidentsSettings(ServiceSettings):
    """What every service has; nothing of its own yet."""
