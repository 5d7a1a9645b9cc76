"""`python -m tests.unit.checker.assertion_page`: write the sources of every kind into docs/assertions.md anew."""

from collections.abc import Mapping
from pathlib import Path

from services.checker.domain.kinds import Source
from services.checker.probes import KINDS

PAGE = Path(__file__).parents[3] / "docs" / "assertions.md"
BEGIN = "<!-- sources: made by `python -m tests.unit.checker.assertion_page` from the kinds -->\n"
END = "<!-- end -->"


def table() -> str:
    """Return the sources of every kind, a row for each kind."""
    rows = [f"| {name} | {_sources(kind.sources)} |" for name, kind in KINDS.items()]
    return "\n".join(["| kind | sources |", "|---|---|", *rows]) + "\n"


def _sources(sources: Mapping[str, Source]) -> str:
    return ", ".join(f"`{name}`{_parts(offers)} ({offers.type})" for name, offers in sources.items()) or "none"


def _parts(offers: Source) -> str:
    if offers.properties is None:
        return " *any*"
    return "".join(f" {name}" for name in offers.properties)


def page(written: str) -> str:
    """Return the page with the sources as they are now."""
    before, rest = written.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END, maxsplit=1)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
