"""What services stand on: only on what exists, and none on itself, be it by way of others."""

from collections.abc import Collection, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def missing(depends_on: Sequence[str], present: Collection[str]) -> str | None:
    """Return what is wrong with dependencies on services that do not exist; None if all do."""
    gone = sorted(one for one in depends_on if one not in present)
    return f"there is no service {', '.join(map(repr, gone))}" if gone else None


def circle(graph: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return services that stand on each other in a circle, each on the next, the first again at the end; empty if none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return tuple(reversed(error.args[1]))
    return ()


def in_words(way: Sequence[str]) -> str:
    """Return a circle as the flaw that it is."""
    return f"leads back to the service itself: {' → '.join(way)}"
