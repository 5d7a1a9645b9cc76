"""Questions and answers over a real broker: many at once, each with a deadline, each refusal with its reason."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared import rpc
from shared.consuming import consuming, open_consumer
from shared.contracts.base import Contract
from shared.contracts.commands import FieldProblem, Method, Problem
from shared.health import Health
from shared.messaging import Publisher
from shared.rpc import Answerer, Client, NoAnswer, Refused, open_client
from shared.telemetry import correlated, correlation_id
from tests.proxy import running_proxy
from tests.servers import Vhost
from tests.waiting import until


class Number(Contract):
    """A question or an answer."""

    value: int


class Text(Contract):
    """An answer in words."""

    text: str


ECHO = Method("test.rpc", "numbers.echo", Number, Number)
WHO = Method("test.rpc", "numbers.who", Number, Text)
MANY = 50


@asynccontextmanager
async def answering(vhost: Vhost, publisher: Publisher, answers: dict[Method[Any, Any], Answerer], *, url: str = "") -> AsyncIterator[None]:
    """Serve the answers until left."""
    health = Health("answerer")
    consumer = open_consumer(url or vhost.amqp_url, name="answerer", publisher=publisher, health=health)
    rpc.serve(consumer, ECHO.queue, answers)
    async with consuming(consumer):
        await consumer.consuming.wait()
        yield


@pytest.fixture
async def client(vhost: Vhost) -> AsyncIterator[Client]:
    async with connected(vhost.amqp_url) as opened:
        yield opened


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """Give a client once it has its link."""
    health = Health("client")
    async with open_client(url, name="client", health=health) as opened:

        async def linked() -> bool:
            return "rpc client" not in await health.reasons()

        await until(linked, within_s=10, what="the client's link")
        yield opened


async def echo(number: Number) -> Number:
    """Answer with what was asked."""
    return number


async def test_point_11_many_questions_are_answered_at_once(vhost: Vhost, publisher: Publisher, client: Client) -> None:
    """Nobody is answered before all have been asked. Seen red with a prefetch of 1 (and with FastStream's own request(), by its lock)."""
    asked: list[int] = []
    all_asked = asyncio.Event()

    async def wait_for_all(number: Number) -> Number:
        asked.append(number.value)
        if len(asked) == MANY:
            all_asked.set()
        await all_asked.wait()
        return number

    async with answering(vhost, publisher, {ECHO: wait_for_all}):
        answers = await asyncio.gather(*(client.call(ECHO, Number(value=number), timeout_s=8) for number in range(MANY)))
    assert [answer.value for answer in answers] == list(range(MANY))


async def test_a_question_has_a_deadline(vhost: Vhost, publisher: Publisher, client: Client) -> None:
    """Seen red without asyncio.timeout in `call`."""
    go = asyncio.Event()

    async def hang(number: Number) -> Number:
        await go.wait()
        return number

    async with answering(vhost, publisher, {ECHO: hang}):
        began = time.monotonic()
        async with asyncio.timeout(5):
            with pytest.raises(NoAnswer, match=r"numbers\.echo: no answer within 0\.3 s") as none:
                await client.call(ECHO, Number(value=1), timeout_s=0.3)
        assert none.value.may_have_happened
        assert time.monotonic() - began < 1
        go.set()


async def test_asking_when_nobody_answers_fails_at_once(vhost: Vhost, publisher: Publisher, client: Client) -> None:
    """Seen red with a queue that outlives its answerers, and without `mandatory`: the whole deadline was waited for."""
    async with answering(vhost, publisher, {ECHO: echo}):
        await client.call(ECHO, Number(value=1))

    async def refused_at_once() -> bool:
        began = time.monotonic()
        with pytest.raises(NoAnswer) as none:
            await client.call(ECHO, Number(value=1), timeout_s=3)
        return not none.value.may_have_happened and time.monotonic() - began < 1

    await until(refused_at_once, within_s=5, what="a refusal within a second")


async def refuse(_number: Number) -> Number:
    raise Refused(Problem(title="Not valid", status=422, errors=(FieldProblem(field="value", reason="is odd"),)))


async def fail(_number: Number) -> Number:
    msg = "secret of the house"
    raise KeyError(msg)


async def be_away(_number: Number) -> Number:
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("answer", "status", "title"),
    [(refuse, 422, "Not valid"), (fail, 500, "Internal error"), (be_away, 503, "Not available")],
)
async def test_a_refusal_comes_back_with_its_reason_and_nothing_else(
    answer: Answerer, status: int, title: str, vhost: Vhost, publisher: Publisher, client: Client
) -> None:
    """Seen red with a bug's text in the answer, and with a bug that is not answered at all (deadline)."""
    async with answering(vhost, publisher, {ECHO: answer}):
        with pytest.raises(Refused) as refused:
            await client.call(ECHO, Number(value=1))
    problem = refused.value.problem
    assert (problem.status, problem.title) == (status, title)
    assert "secret" not in problem.model_dump_json()
    assert [error.field for error in problem.errors] == (["value"] if answer is refuse else [])


async def test_what_does_not_fit_the_question_is_refused_by_field_and_an_unknown_question_by_name(
    vhost: Vhost, publisher: Publisher, client: Client
) -> None:
    async with answering(vhost, publisher, {ECHO: echo}):
        with pytest.raises(Refused) as unfit:
            await client.call(Method(ECHO.queue, ECHO.name, Text, Number), Text(text="x"))
        with pytest.raises(Refused, match=r"Nobody here answers 'numbers\.who'"):
            await client.call(WHO, Number(value=1))
    assert [(error.field, unfit.value.problem.status) for error in unfit.value.problem.errors] == [("value", 422)]


async def test_a_question_that_nobody_waits_for_any_more_is_not_carried_out(
    vhost: Vhost, publisher: Publisher, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had reached the answerer's side of a stalled link when its deadline passed. Seen red with `_expired` always False."""
    monkeypatch.setattr(rpc, "CLOCK_SKEW_S", 0.0)  # one clock here
    done: list[int] = []

    async def note(number: Number) -> Number:
        done.append(number.value)
        return number

    async with running_proxy(vhost.amqp_url) as proxy, answering(vhost, publisher, {ECHO: note}, url=proxy.url(vhost.amqp_url)):
        proxy.stall()
        with pytest.raises(NoAnswer):
            await client.call(ECHO, Number(value=1), timeout_s=0.3)
        proxy.resume()
        await client.call(ECHO, Number(value=2), timeout_s=5)
    assert done == [2]


async def test_a_link_that_breaks_fails_what_was_asked_and_comes_back(vhost: Vhost, publisher: Publisher) -> None:
    """Seen red without `_fail_pending`: the question waited for its whole deadline."""
    asked = asyncio.Event()
    go = asyncio.Event()

    async def hold(number: Number) -> Number:
        asked.set()
        await go.wait()
        return number

    async with (
        running_proxy(vhost.amqp_url) as proxy,
        connected(proxy.url(vhost.amqp_url)) as client,
        answering(vhost, publisher, {ECHO: hold}),
    ):
        asking = asyncio.create_task(client.call(ECHO, Number(value=1), timeout_s=30))
        await asked.wait()
        proxy.reset()
        async with asyncio.timeout(5):
            with pytest.raises(NoAnswer, match="broke") as none:
                await asking
        assert none.value.may_have_happened
        go.set()

        async def answered() -> bool:
            try:
                return (await client.call(ECHO, Number(value=2))).value == 2
            except NoAnswer:
                return False

        await until(answered, within_s=10, what="an answer over a new link")


async def test_without_a_link_nothing_is_asked(vhost: Vhost) -> None:
    async with running_proxy(vhost.amqp_url) as proxy:
        proxy.refuse()
        async with open_client(proxy.url(vhost.amqp_url), name="client", health=Health("client")) as client:
            with pytest.raises(NoAnswer, match="no link") as none:
                await client.call(ECHO, Number(value=1))
    assert not none.value.may_have_happened


async def test_the_correlation_id_goes_along(vhost: Vhost, publisher: Publisher, client: Client) -> None:
    """Seen red without `correlated` in `serve`."""

    async def say(_number: Number) -> Text:
        return Text(text=correlation_id())

    async with answering(vhost, publisher, {WHO: say}):
        with correlated("cause-9"):
            assert (await client.call(WHO, Number(value=1))).text == "cause-9"


async def test_what_is_too_long_is_refused_and_the_link_lives_on(vhost: Vhost, publisher: Publisher, client: Client) -> None:
    """Seen red without either bound, and with the answer called a defect.

    A broker of version 4 closes the channel for more than 16 MiB; one of version 3 takes it.
    """
    length = Method(ECHO.queue, "texts.length", Text, Number)

    async def count(text: Text) -> Number:
        return Number(value=len(text.text))

    async def lengthen(number: Number) -> Text:
        return Text(text="x" * number.value)

    async with answering(vhost, publisher, {length: count, WHO: lengthen}):
        under, beyond = rpc.MAX_BYTES - 100, rpc.MAX_BYTES + 2 * 1024 * 1024
        assert (await client.call(length, Text(text="x" * under), timeout_s=20)).value == under
        with pytest.raises(Refused) as question:
            await client.call(length, Text(text="x" * beyond), timeout_s=20)
        with pytest.raises(Refused) as answer:
            await client.call(WHO, Number(value=beyond), timeout_s=20)
        assert (question.value.problem.status, answer.value.problem.status) == (413, 422)
        assert (await client.call(length, Text(text="short"))).value == 5
