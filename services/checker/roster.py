"""All that is to be checked in this region, and the part of it that is this process's: what the scheduler is told follows from both."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import Gauge

from services.checker.domain.shards import SHARDS, shard_of
from services.checker.domain.target import Target
from services.checker.scheduler import Scheduler
from shared.clock import Clock

RESUMED_MS = 60_000
"""What was not looked at for longer, and for longer than its interval, is begun anew, and no gap of so many slots is told one by one."""

KNOWN = Gauge("sla_checker_services_known", "Services that are to be checked in this region, by whomever")


class Roster:
    """Who is to be checked, and whose work it is. `settled` is set once it was said which shards are held."""

    def __init__(self, scheduler: Scheduler, clock: Clock, *, note_shards: Callable[[Mapping[int, int]], None] = lambda _: None) -> None:
        """Know of nothing, and hold nothing. `note_shards` is told which shards are held whenever that changes."""
        self._scheduler = scheduler
        self._note_shards = note_shards
        self._clock = clock
        self._shards: tuple[dict[str, Target], ...] = tuple({} for _ in range(SHARDS))
        self._held: set[int] = set()
        self._done: dict[int, int] = {}
        self._complete = False
        self.settled = asyncio.Event()

    @property
    def held(self) -> frozenset[int]:
        """The shards that are checked here."""
        return frozenset(self._held)

    def learn(self, targets: Iterable[Target], gone: Iterable[str]) -> None:
        """Take over what is new or changed, and forget what is not to be checked any more."""
        news, dropped = [], []
        for service_id in gone:
            shard = shard_of(service_id)
            if self._shards[shard].pop(service_id, None) is not None and shard in self._held:
                dropped.append(service_id)
        for target in targets:
            shard = shard_of(target.id)
            before = self._shards[shard].get(target.id)
            if before is not None and before.revision == target.revision:
                continue
            self._shards[shard][target.id] = target
            if shard in self._held:
                news.append(target)
        # What is learnt in the first round was there before this process; what is new after it has no slots that were somebody else's.
        self._scheduler.apply(news, dropped, done_ms={} if self._complete else self._done_ms(news))
        KNOWN.set(sum(map(len, self._shards)))

    def complete(self, all_ids: Collection[str] | None = None) -> None:
        """Note that everything was learnt; given all ids, forget the others: what was remembered may be gone long since."""
        if all_ids is not None:
            self.learn((), [service_id for services in self._shards for service_id in services if service_id not in all_ids])
        self._complete = True

    def hold(self, shards: Mapping[int, int]) -> None:
        """Check these shards and no others; the value is up to which moment (ms) a shard's slots were somebody else's."""
        new, lost = shards.keys() - self._held, self._held - shards.keys()
        self._held = set(shards)
        for shard in new:
            self._done[shard] = max(shards[shard], self._done.get(shard, 0))
        if new or lost:
            taken = [target for shard in new for target in self._shards[shard].values()]
            self._scheduler.apply(taken, [service_id for shard in lost for service_id in self._shards[shard]], done_ms=self._done_ms(taken))
            self._note()
        self.settled.set()

    async def give_up(self, shards: Collection[int], within_s: float) -> dict[int, int]:
        """Stop checking these shards; return up to which moment (ms) the slots of each are done."""
        self._held -= set(shards)
        done = await asyncio.gather(*(self._scheduler.released(list(self._shards[shard]), within_s) for shard in shards))
        self._done.update(zip(shards, done, strict=True))
        self._note()
        return dict(zip(shards, done, strict=True))

    def hasten(self, ids: Iterable[str]) -> None:
        """Check these services now, as far as they are checked here."""
        self._scheduler.hasten([service_id for service_id in ids if shard_of(service_id) in self._held])

    def _note(self) -> None:
        self._note_shards({shard: self._done[shard] for shard in self._held})

    def _done_ms(self, targets: Iterable[Target]) -> dict[str, int]:
        """Return up to when the slots of services were somebody else's, where that goes on without a gap that is too long to be told."""
        now = int(self._clock().timestamp() * 1000)
        moments = ((target, self._done.get(shard_of(target.id), 0)) for target in targets)
        return {target.id: min(done, now) for target, done in moments if done >= now - max(RESUMED_MS, target.interval_ms)}
