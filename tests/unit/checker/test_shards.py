"""Shards: every one has exactly one holder, whoever comes, goes or dies, and over every move no slot is lost or done twice."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain import schedule
from services.checker.domain.shards import SHARDS, shard_of, share, to_release, to_take

TTL_MS = 5_000
INTERVAL_MS = 3_000
STEP_MS = 500
START_MS = 1_700_000_000_000

PHASES = [schedule.phase(f"service-{shard}", "r", INTERVAL_MS) for shard in range(SHARDS)]


@given(number=st.integers(min_value=1, max_value=300))
def test_shares_add_up_and_differ_by_one_at_most(number: int) -> None:
    members = [f"checker-{one}" for one in range(number)]
    shares = [share(members, one) for one in members]
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


def test_shards_are_the_same_everywhere_and_even() -> None:
    assert [shard_of(one) for one in ("face-compare", "a", "service-1")] == [5, 222, 80]
    sizes = Counter(shard_of(f"service-{number}") for number in range(25_600))
    assert len(sizes) == SHARDS
    assert max(sizes.values()) < 160


@given(held=st.sets(st.integers(min_value=0, max_value=255)), fair=st.integers(min_value=0, max_value=256))
def test_what_is_released_or_taken_leads_to_the_share_and_no_further(held: set[int], fair: int) -> None:
    released, taken = to_release(held, fair), to_take(held, fair)
    assert set(released) <= held
    assert len(held) - len(released) + taken == fair
    assert not (released and taken)


@dataclass
class Member:
    name: str
    seen_ms: int
    slots: dict[int, int] = field(default_factory=dict)
    """By shard, the next slot to check."""
    taken: dict[int, int] = field(default_factory=dict)
    """By shard, when it was taken."""


@dataclass
class Region:
    """The protocol of leases.py without database and scheduler: a service in every shard, checked on time by whoever holds it."""

    now: int = START_MS
    holders: list[str | None] = field(default_factory=lambda: [None] * SHARDS)
    covered: list[int] = field(default_factory=lambda: [START_MS] * SHARDS)
    living: list[Member] = field(default_factory=list)
    dead: list[Member] = field(default_factory=list)
    done: Counter[tuple[int, int]] = field(default_factory=Counter)
    unseen: list[tuple[int, int]] = field(default_factory=list)
    """From the last word of a dead one to its death: what it did in between nobody knows."""
    joined: int = 0

    def join(self) -> None:
        self.joined += 1
        self.living.append(Member(f"checker-{self.joined}", self.now))

    def die(self, place: int) -> None:
        member = self.living.pop(place % len(self.living))
        self.dead.append(member)
        self.unseen.append((member.seen_ms, self.now))

    def leave(self, place: int) -> None:
        member = self.living.pop(place % len(self.living))
        self._free(member, tuple(member.slots))

    def _free(self, member: Member, shards: tuple[int, ...]) -> None:
        for shard in shards:
            assert self.holders[shard] == member.name
            # as the scheduler says it: what was due and is not begun yet is owed
            self.holders[shard], self.covered[shard] = None, min(self.now, member.slots.pop(shard) - 1)

    def go_on(self, milliseconds: int) -> None:
        self.now += milliseconds
        for member in self.living:
            for shard, slot in member.slots.items():
                while slot <= self.now:
                    self.done[shard, slot] += 1
                    slot = schedule.next_slot(slot, phase_ms=PHASES[shard], interval_ms=INTERVAL_MS)  # noqa: PLW2901  # the next one
                member.slots[shard] = slot

    def tick(self, member: Member) -> None:
        member.seen_ms = self.now
        fair = share([one.name for one in self.living], member.name)
        gone = {one.name: one for one in self.dead if one.seen_ms < self.now - TTL_MS}
        free = [shard for shard, holder in enumerate(self.holders) if holder is None or holder in gone]
        for shard in free[: to_take(member.slots, fair)]:
            before = gone.get(self.holders[shard] or "")
            if before is not None and before.seen_ms > before.taken[shard]:
                self.covered[shard] = before.seen_ms
            done = self.covered[shard]
            self.holders[shard], member.taken[shard] = member.name, self.now
            member.slots[shard] = schedule.slot_after(done, created_ms=0, phase_ms=PHASES[shard], interval_ms=INTERVAL_MS)
        self._free(member, to_release(member.slots, fair))


events = st.one_of(
    st.just(("join", 0)),
    st.tuples(st.sampled_from(["die", "leave"]), st.integers(min_value=0, max_value=9)),
    st.tuples(st.just("pass"), st.integers(min_value=1, max_value=STEP_MS)),
)


@given(story=st.lists(events, max_size=25), order=st.randoms(use_true_random=False))
def test_over_any_joins_deaths_and_farewells_no_slot_is_lost_or_done_twice(story: list[tuple[str, int]], order: Random) -> None:
    """But for what a dead one did after its last word: nobody knows of that, and it is done again.

    Seen red with a taker that does the last slot done once more, and with one that leaves the next one out.
    """
    region = Region()
    region.join()
    for what, number in [*story, *[("pass", STEP_MS)] * (2 * TTL_MS // STEP_MS)]:
        if what == "join":
            region.join()
        elif what == "pass":
            region.go_on(number)
        elif len(region.living) > 1:
            region.die(number) if what == "die" else region.leave(number)
        for member in order.sample(region.living, len(region.living)):
            region.tick(member)

    members = [one.name for one in region.living]
    assert Counter(region.holders) == Counter({name: share(members, name) for name in members})
    region.go_on(0)
    for shard in range(SHARDS):
        first = schedule.next_slot(START_MS, phase_ms=PHASES[shard], interval_ms=INTERVAL_MS)
        for slot in range(first, region.now + 1, INTERVAL_MS):
            times = region.done[shard, slot]
            assert times >= 1, "lost"
            assert times == 1 or any(seen < slot <= died for seen, died in region.unseen), "done twice"
