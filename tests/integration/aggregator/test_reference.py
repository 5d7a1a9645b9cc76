"""The whole aggregator, on a real database, agrees with the reference (tests/reference) on what arrives in any order, twice and late."""

import os
import random

import pytest

from tests.integration.aggregator.comparing import differences
from tests.integration.aggregator.playing import play, replicas
from tests.reference.making import made
from tests.servers import Database

SEEDS = range(int(os.environ.get("SLA_TEST_SEEDS", "5")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_number_is_the_references(database: Database, seed: int) -> None:
    story = made(seed)
    async with replicas(database.url("aggregator")) as both:
        await play(story, both, random.Random(seed))
        wrong = await differences(both.pools[1], story)
    assert not wrong, "\n".join(wrong)
