"""What must hold of every queue, as data."""

import pytest

from shared import topology
from shared.contracts.registry import PAYLOADS
from shared.messaging import HEARTBEAT_S, broker_url
from shared.topology import DEAD, WORK_QUEUES, WorkQueue


@pytest.mark.parametrize("queue", WORK_QUEUES, ids=lambda queue: queue.name)
def test_point_8_a_work_queue_buries_nothing_in_silence(queue: WorkQueue) -> None:
    """Seen red with the dead-letter exchange left out: what goes over the limit is deleted."""
    arguments = queue.arguments
    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-delivery-limit"] == 100
    assert (arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]) == (DEAD, queue.name)
    assert (arguments["x-dead-letter-strategy"], arguments["x-overflow"]) == ("at-least-once", "reject-publish")


@pytest.mark.parametrize("queue", WORK_QUEUES, ids=lambda queue: queue.name)
def test_point_13_a_retry_goes_through_a_queue_of_its_own_and_back(queue: WorkQueue) -> None:
    assert len({queue.name, queue.retry, queue.dead}) == 3
    assert (queue.retry_arguments["x-dead-letter-exchange"], queue.retry_arguments["x-dead-letter-routing-key"]) == ("", queue.name)
    assert "x-dead-letter-exchange" not in queue.dead_arguments


@pytest.mark.parametrize("queue", WORK_QUEUES, ids=lambda queue: queue.name)
def test_point_6_every_prefetch_is_bounded(queue: WorkQueue) -> None:
    assert 1 <= queue.prefetch <= 100


def test_names_and_bindings_are_of_this_product() -> None:
    names = [queue.name for queue in WORK_QUEUES]
    assert len(set(names)) == len(names)
    assert {queue.exchange for queue in WORK_QUEUES} <= set(topology.EXCHANGES)
    nouns = {event_type.split(".")[0] for event_type in PAYLOADS}
    bound = {key.split(".")[0] for queue in WORK_QUEUES for key in queue.bindings}
    assert bound <= nouns


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p%40ss@h:5672/", f"amqp://u:p%40ss@h:5672/?heartbeat={HEARTBEAT_S}"),
        ("amqp://u:p@h:5672/%2F", f"amqp://u:p@h:5672/%2F?heartbeat={HEARTBEAT_S}"),
        ("amqps://u:p@h/v?heartbeat=60&name=x", f"amqps://u:p@h/v?heartbeat={HEARTBEAT_S}&name=x"),
    ],
)
def test_point_3_the_heartbeat_goes_in_the_url(url: str, expected: str) -> None:
    assert broker_url(url) == expected
