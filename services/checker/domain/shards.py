"""Who checks what: services fall into shards, and the checkers of a region divide these among themselves.

Nobody hands shards out. Each checker sees who is there and who holds what, gives up what is more than its share, and takes what is free
or was a dead one's until it has its share. Shares add up to all shards, so this comes to rest wherever it begins.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b

SHARDS = 256


def shard_of(service_id: str) -> int:
    """Return the shard of a service: the same everywhere and for ever, 0 to 255."""
    return blake2b(service_id.encode(), digest_size=1).digest()[0]


def share(members: Sequence[str], checker: str) -> int:
    """Return how many shards are this checker's among those that live, in the order of their starts; the first ones get the rest."""
    rank = members.index(checker)
    return SHARDS // len(members) + (rank < SHARDS % len(members))


def to_release(held: Collection[int], fair: int) -> tuple[int, ...]:
    """Return which shards to give up: as few as may be, and always the same ones."""
    return tuple(sorted(held)[fair:])


def to_take(held: Collection[int], fair: int) -> int:
    """Return how many shards may be taken."""
    return max(0, fair - len(held))
