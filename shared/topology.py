"""What exists in the broker, as data. Nothing here talks to it: see messaging.py.

Queue arguments cannot change once a queue exists (406): a change needs a new name, or a policy.
"""

from dataclasses import dataclass

CHECKS = "sla.checks"
"""Topic exchange: batches of check results."""
EVENTS = "sla.events"
"""Topic exchange: every event; the routing key is the event's type."""
DEAD = "sla.dead"
"""Direct exchange: what could not be handled, by the name of the queue that it left."""
EXCHANGES = {CHECKS: "topic", EVENTS: "topic", DEAD: "direct"}

STATUS_STREAM = "sla.status"
"""The public feed. The offset in it is every client's resume token."""
STREAM_ARGUMENTS = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-max-length-bytes": 2_000_000_000,
    "x-stream-max-segment-size-bytes": 50_000_000,
}
STREAM_BINDINGS = ("service.#", "system.#", "incident.#", "maintenance.#", "sla.#", "checker.#")


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A quorum queue that replicas of one service share, with its retry queue and its dead queue."""

    name: str
    exchange: str
    bindings: tuple[str, ...]
    prefetch: int

    @property
    def dead(self) -> str:
        """The name of the queue where its poison lies, until an operator looks."""
        return f"{self.name}.dead"

    @property
    def retry(self) -> str:
        """The name of the queue where a message waits before it is tried again."""
        return f"{self.name}.retry"

    @property
    def arguments(self) -> dict[str, object]:
        """A high delivery limit, because on RabbitMQ 3.10 even a graceful stop counts as a delivery."""
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": 100,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": self.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    @property
    def retry_arguments(self) -> dict[str, object]:
        """Waits for a while, then goes back by the default exchange."""
        return {
            "x-queue-type": "quorum",
            "x-message-ttl": 2_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    @property
    def dead_arguments(self) -> dict[str, object]:
        """Kept until somebody decides. RabbitMQ 4 drops what a quorum queue got back twenty times: looking would lose it."""
        return {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


CHECKER_WATCH_LOG = WorkQueue("checker.watch-log", CHECKS, ("checks.#",), prefetch=64)
CHECKER_EVENTS = WorkQueue("checker.events", EVENTS, ("service.status_changed.#",), prefetch=32)
AGGREGATOR_CHECKS = WorkQueue("aggregator.checks", CHECKS, ("checks.#",), prefetch=64)
AGGREGATOR_CALLS = WorkQueue("aggregator.calls", CHECKS, ("calls.#",), prefetch=16)
AGGREGATOR_EVENTS = WorkQueue(
    "aggregator.events",
    EVENTS,
    ("service.registered.#", "service.updated.#", "service.removed.#", "incident.#", "maintenance.#", "checker.#"),
    prefetch=32,
)
INCIDENTS_EVENTS = WorkQueue("incidents.events", EVENTS, ("service.#",), prefetch=32)

WORK_QUEUES = (CHECKER_WATCH_LOG, CHECKER_EVENTS, AGGREGATOR_CHECKS, AGGREGATOR_CALLS, AGGREGATOR_EVENTS, INCIDENTS_EVENTS)
