"""Dead letters on a real broker: looking loses none, a replay arrives once and whole, dropping takes only what was named.

Seen red on: `show` that acks what it looked at; a replay that acks before it publishes to a queue that is gone.
"""

from collections.abc import AsyncIterator
from typing import cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError
from pamqp.common import FieldValue

from infra.ops import dead
from infra.ops.errors import OpsError
from shared.consuming import ATTEMPT_HEADER, REASON_HEADER
from shared.topology import AGGREGATOR_EVENTS as QUEUE
from tests.servers import Vhost
from tests.waiting import until


def arguments(plain: dict[str, object]) -> dict[str, FieldValue]:
    return cast("dict[str, FieldValue]", plain)


@pytest.fixture
async def channel(vhost: Vhost) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(vhost.amqp_url) as link, link.channel() as channel:
        await channel.declare_queue(QUEUE.dead, durable=True, arguments=arguments(QUEUE.dead_arguments))
        for number in range(3):
            headers = {REASON_HEADER: "ValueError: no", ATTEMPT_HEADER: 5, "kept": "yes"}
            message = aio_pika.Message(
                b"{}", message_id=f"m{number}", correlation_id="c", type="service.updated.v1", headers=arguments(headers)
            )
            await channel.default_exchange.publish(message, routing_key=QUEUE.dead)
        yield channel


async def letters(vhost: Vhost) -> list[str]:
    return [letter.message_id for letter in await dead.show(vhost.amqp_url, QUEUE, 100)]


async def lying(vhost: Vhost, queue: str, count: int) -> bool:
    async with await aio_pika.connect(vhost.amqp_url) as link, link.channel() as channel:
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count == count


@pytest.mark.usefixtures("channel")
async def test_looking_again_and_again_loses_none_and_keeps_the_order(vhost: Vhost) -> None:
    for _ in range(30):  # RabbitMQ 4 gives up on a message after 20 returns, unless it is told not to
        assert await letters(vhost) == ["m0", "m1", "m2"]
        await until(lambda: lying(vhost, QUEUE.dead, 3), within_s=5, what="all are back")


@pytest.mark.usefixtures("channel")
async def test_a_letter_says_why_it_died(vhost: Vhost) -> None:
    (first,) = await dead.show(vhost.amqp_url, QUEUE, 1)
    assert (first.type, first.correlation_id, first.reason, first.body) == ("service.updated.v1", "c", "ValueError: no", "{}")


async def test_a_replay_arrives_with_its_id_and_without_its_past(vhost: Vhost, channel: AbstractChannel) -> None:
    work = await channel.declare_queue(QUEUE.name, durable=True, arguments=arguments(QUEUE.arguments))
    done = await dead.replay(vhost.amqp_url, QUEUE, lambda letter: letter.message_id != "m1")
    assert [letter.message_id for letter in done] == ["m0", "m2"]
    for expected in ("m0", "m2"):
        message = await work.get(timeout=5)
        assert message.message_id == expected
        assert message.headers["kept"] == "yes"
        assert not {REASON_HEADER, ATTEMPT_HEADER} & set(message.headers)
        assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        await message.ack()
    await until(lambda: lying(vhost, QUEUE.dead, 1), within_s=5, what="only the other is left")


@pytest.mark.usefixtures("channel")
async def test_a_replay_to_a_queue_that_is_gone_loses_nothing(vhost: Vhost) -> None:
    with pytest.raises(DeliveryError):
        await dead.replay(vhost.amqp_url, QUEUE, lambda _: True)
    await until(lambda: lying(vhost, QUEUE.dead, 3), within_s=5, what="all are still there")


@pytest.mark.usefixtures("channel")
async def test_dropping_takes_the_named_one_only(vhost: Vhost) -> None:
    assert [one.message_id for one in await dead.drop(vhost.amqp_url, QUEUE, lambda letter: letter.message_id == "m1")] == ["m1"]
    await until(lambda: lying(vhost, QUEUE.dead, 2), within_s=5, what="the others are left")


@pytest.mark.usefixtures("channel")
async def test_counts_tell_empty_from_not_declared(vhost: Vhost) -> None:
    counted = {count.queue.name: count.letters for count in await dead.counts(vhost.amqp_url)}
    assert counted.pop(QUEUE.name) == 3
    assert set(counted.values()) == {None}


def test_a_queue_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(OpsError, match=r"aggregator\.checks"):
        dead.work_queue("nope")
