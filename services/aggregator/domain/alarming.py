"""When something is said of an SLA contract: its budget burns too fast (and no longer), is used up, it was broken."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

EXHAUSTED, BREACHED, BURN = "exhausted", "breached", "burn:"
ALWAYS = 0
"""The window of what is not bound to one: burn rules, and everything about a rolling window."""

Key = tuple[str, int]
"""What, and the start of the window that it is about (ms since 1970; or ALWAYS)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds now. `once`: is decided once for its window, whatever comes later; a verdict is decided even if it does not hold."""

    what: str
    window: int
    holds: bool
    once: bool = False
    verdict: bool = False

    @property
    def key(self) -> Key:
        """What it is remembered under."""
        return self.what, self.window


@dataclass(frozen=True, slots=True)
class Step:
    """A finding that is news to what is remembered. `told`: an event says it."""

    finding: Finding
    told: bool


def steps(before: Mapping[Key, bool], findings: Iterable[Finding]) -> list[Step]:
    """Return what is to be remembered anew, and which of it is to be said. `before`: what was found last, by key.

    Of a burn rule both beginning and end are said; of the others that they hold, and again only after they no longer held. What is
    decided once stays decided.
    """
    return [Step(one, told=_is_told(one)) for one in findings if _is_news(before.get(one.key), one)]


def _is_news(before: bool | None, finding: Finding) -> bool:  # noqa: FBT001  # what is remembered of a key
    if finding.once:
        return before is None and (finding.holds or finding.verdict)
    return finding.holds != bool(before)


def _is_told(finding: Finding) -> bool:
    return finding.holds or finding.what.startswith(BURN)
