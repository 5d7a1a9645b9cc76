"""Questions and answers over RabbitMQ: many at once, each with a deadline, each refusal as problem+json.

A request that nobody answered in time may still have been carried out: commands carry ids chosen by the asker, or are refused
as duplicates, so that asking again is safe. FastStream's own request() is serialised by a lock, hence the client on aio-pika with
direct reply-to (rabbitmq.com/docs/direct-reply-to).
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitMessage, RabbitQueue
from prometheus_client import Histogram
from pydantic import ValidationError

from shared.consuming import Consumer
from shared.contracts.base import Contract
from shared.contracts.commands import FieldProblem, Method, Problem
from shared.database import backoff, is_transient
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, broker_url
from shared.runtime import background
from shared.telemetry import correlated, correlation_id, logger

DEADLINE_HEADER = "x-sla-deadline-ms"
CLOCK_SKEW_S = 5.0
"""How far the clocks of asker and answerer may differ before a good request looks like one that expired."""
METHOD_HEADER = "x-sla-method"
REPLY_TO = "amq.rabbitmq.reply-to"
MAX_BYTES = 15 * 1024 * 1024
"""Of a question or an answer: below what a broker of version 4 takes (max_message_size, 16 MiB), which closes the channel for more."""
ANSWERED = b'{"result":'
"""How an answer begins that is no problem; one brace ends it."""
AT_ONCE = 50
"""Unlike every work queue's prefetch: FastStream gives equal channel settings one channel, and its errors would be shared."""

Params = TypeVar("Params", bound=Contract)
Result = TypeVar("Result", bound=Contract)
Answerer = Callable[[Any], Awaitable[Contract]]

SECONDS = Histogram("sla_rpc_seconds", "Time to answer a request", ["method"])
log = logger(__name__)


class Refused(Exception):  # noqa: N818  # a refusal is an answer, not a failure
    """The asked service said no, and why."""

    def __init__(self, problem: Problem) -> None:
        """Carry the problem as it will be shown."""
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class NoAnswer(Exception):  # noqa: N818  # names the fact
    """No answer came in time. `may_have_happened` says whether the request may have been carried out all the same."""

    def __init__(self, message: str, *, may_have_happened: bool) -> None:
        """Say what was asked of whom, and how it ended."""
        super().__init__(message)
        self.may_have_happened = may_have_happened


def serve(consumer: Consumer, queue: str, answers: Mapping[Method[Any, Any], Answerer]) -> None:
    """Answer requests on `queue`, up to `AT_ONCE` at once. An answerer raises `Refused` to say no."""
    by_name = {method.name: (method, answer) for method, answer in answers.items()}

    async def undecoded(message: RabbitMessage) -> RabbitMessage:
        return message

    async def handle(message: RabbitMessage) -> None:
        raw = message.raw_message
        if _expired(raw):
            await _settle(message)
            return
        with correlated(str(raw.headers.get("x-sla-correlation", ""))):
            reply = await _answer(by_name, str(raw.headers.get(METHOD_HEADER, "")), message.body)
            await _reply(consumer, raw, reply)
        await _settle(message)

    consumer.broker.subscriber(
        rpc_queue(queue), channel=Channel(prefetch_count=AT_ONCE), ack_policy=AckPolicy.MANUAL, decoder=undecoded, no_reply=True
    )(handle)


def rpc_queue(name: str) -> RabbitQueue:
    """Return the queue of requests: it goes away with the last answerer, so that asking nobody fails at once."""
    return RabbitQueue(name, queue_type=QueueType.CLASSIC, durable=True, auto_delete=True)


def _expired(raw: AbstractIncomingMessage) -> bool:
    """Say whether the asker has given up. The broker drops what expires while it waits there; this is for a link that stalled."""
    deadline = raw.headers.get(DEADLINE_HEADER)
    return isinstance(deadline, int) and time.time() > deadline / 1000 + CLOCK_SKEW_S


async def _settle(message: RabbitMessage) -> None:
    try:
        await message.ack()
    except (AMQPError, ChannelInvalidStateError, OSError) as error:
        log.warning("ack did not reach the broker", reason=str(error))


async def _answer(by_name: dict[str, tuple[Method[Any, Any], Answerer]], name: str, body: bytes) -> bytes:
    known = by_name.get(name)
    if known is None:
        return _problem(
            Problem(title="Unknown request", status=501, detail=f"Nobody here answers {name!r}: the asker is of another version.")
        )
    method, answer = known
    try:
        params = method.params.model_validate_json(body)
    except ValidationError as error:
        fields = tuple(
            FieldProblem(field=".".join(str(part) for part in one["loc"]), reason=one["msg"])
            for one in error.errors(include_url=False, include_input=False)
        )
        return _problem(Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=fields))
    with SECONDS.labels(name).time():
        try:
            return ANSWERED + (await answer(params)).model_dump_json().encode() + b"}"
        except Refused as refusal:
            return _problem(refusal.problem)
        except Exception as error:
            if is_transient(error):
                log.warning("cannot answer now", method=name, reason=f"{type(error).__name__}: {error}"[:200])
                return _problem(
                    Problem(title="Not available", status=503, detail="The database is away; nothing was changed. Try again in a moment.")
                )
            log.exception("request failed", method=name)
            return _problem(
                Problem(title="Internal error", status=500, detail="This is a defect; the log has it under the correlation id.")
            )


def _problem(problem: Problem) -> bytes:
    return b'{"problem":' + problem.model_dump_json().encode() + b"}"


async def _reply(consumer: Consumer, raw: AbstractIncomingMessage, body: bytes) -> None:
    if not raw.reply_to:
        return
    if len(body) > MAX_BYTES:
        log.warning("answer too long", bytes=len(body))
        most = MAX_BYTES // 1024**2
        detail = f"The answer would be longer than {most} MB: ask for a shorter time, or for fewer services. A command may have been done."
        body = _problem(Problem(title="Too much at once", status=422, detail=detail))
    answer = Outgoing(
        exchange="",
        routing_key=raw.reply_to,
        body=body,
        message_id=uuid4().hex,
        correlation_id=raw.correlation_id or "",
        content_type="application/json",
        persistent=False,
        mandatory=False,  # RabbitMQ 4 returns a mandatory message to direct reply-to even when it was delivered
    )
    try:
        await consumer.publisher.publish(answer)
    except NotConfirmed as error:
        log.warning("reply lost: the asker will give up at its deadline", reason=str(error))


class Client:
    """Asks other services. One connection, any number of questions at once; reconnects by itself, with jitter."""

    def __init__(self, url: str, *, name: str, health: Health) -> None:
        """See `open_client`."""
        self._url = broker_url(url)
        self._name = name
        self._health = health
        self._channel: AbstractChannel | None = None
        self._pending: dict[str, asyncio.Future[bytes]] = {}

    async def call(self, method: Method[Params, Result], params: Params, *, timeout_s: float = 5.0) -> Result:
        """Ask, and return the answer. Raises `Refused` with the reason, or `NoAnswer` after `timeout_s` seconds or without a link.

        A question of more than `MAX_BYTES` is refused here (413).
        """
        return method.result.model_validate_json(await self.call_for_json(method, params, timeout_s=timeout_s))

    async def call_for_json(self, method: Method[Params, Result], params: Params, *, timeout_s: float = 5.0) -> bytes:
        """Ask as `call` does, and return the answer as the JSON that its owner wrote: for who passes it on, and need not look inside."""
        body = params.model_dump_json().encode()
        if len(body) > MAX_BYTES:
            raise Refused(Problem(title="Too much at once", status=413, detail=f"{len(body)} bytes, more than {MAX_BYTES}: ask in parts."))
        channel = self._channel
        if channel is None:
            msg = f"{method.name}: no link to the broker"
            raise NoAnswer(msg, may_have_happened=False)
        key = uuid4().hex
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            async with asyncio.timeout(timeout_s):
                await self._ask(channel, method, body, key, timeout_s)
                answer = await future
        except TimeoutError:
            msg = f"{method.name}: no answer within {timeout_s:g} s"
            raise NoAnswer(msg, may_have_happened=True) from None
        finally:
            self._pending.pop(key, None)
        if not answer.startswith(ANSWERED):
            raise Refused(Problem.model_validate(json.loads(answer)["problem"]))
        return answer[len(ANSWERED) : -1]

    async def _ask(self, channel: AbstractChannel, method: Method[Params, Result], body: bytes, key: str, timeout_s: float) -> None:
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        message = aio_pika.Message(
            body,
            correlation_id=key,
            reply_to=REPLY_TO,
            expiration=timeout_s,
            headers={
                METHOD_HEADER: method.name,
                DEADLINE_HEADER: int((time.time() + timeout_s) * 1000),
                "x-sla-correlation": correlation_id(),
            },
        )
        try:
            await channel.default_exchange.publish(message, routing_key=method.queue, mandatory=True)
        except DeliveryError as error:
            msg = f"{method.name}: nobody answers on {method.queue} now"
            raise NoAnswer(msg, may_have_happened=False) from error
        except (AMQPError, ChannelInvalidStateError, OSError) as error:
            msg = f"{method.name}: the link to the broker broke"
            raise NoAnswer(msg, may_have_happened=True) from error
        except asyncio.CancelledError:
            if task and task.cancelling() > cancelled_before:
                raise
            msg = f"{method.name}: the link to the broker died"
            raise NoAnswer(msg, may_have_happened=True) from None

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        waits = backoff()
        while True:
            try:
                await self._connected()
                waits = backoff()
            except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
                self._health.set("rpc client", ok=False, reason=f"{type(error).__name__}: {error}"[:200])
                log.warning("waiting for the broker", part="rpc client", reason=str(error))
            await asyncio.sleep(next(waits))

    async def _connected(self) -> None:
        async with asyncio.timeout(10):
            connection = await aio_pika.connect(self._url, client_properties={"connection_name": self._name})
        try:
            async with asyncio.timeout(10):
                channel = await connection.channel(on_return_raises=True)
                replies = await channel.get_queue(REPLY_TO, ensure=False)
                await replies.consume(self._take, no_ack=True)
            closed = asyncio.Event()
            for closing in (connection.close_callbacks, channel.close_callbacks):
                closing.add(lambda *_: closed.set())
            self._channel = channel
            self._health.set("rpc client", ok=True)
            await closed.wait()
        finally:
            self._channel = None
            self._fail_pending()
            async with asyncio.timeout(3):
                await connection.close()

    def _fail_pending(self) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(NoAnswer("the link to the broker broke", may_have_happened=True))

    async def _take(self, message: AbstractIncomingMessage) -> None:
        future = self._pending.get(message.correlation_id or "")
        if future is not None and not future.done():
            future.set_result(message.body)


@asynccontextmanager
async def open_client(url: str, *, name: str, health: Health) -> AsyncIterator[Client]:
    """Give a client at once and connect in the background; until then `call` raises `NoAnswer`."""
    health.set("rpc client", ok=False, reason="connecting")
    client = Client(url, name=name, health=health)
    async with background(health, "rpc client", client.run):
        yield client
