"""`python -m tests.contracts.regenerate`: write the schemas and docs/events.md anew.

Refuses a change that breaks readers: such a change is a new version of the event type (`…V2`, `….v2`) beside the old one.
"""

import sys
from pathlib import Path

from tests.contracts.breaking import breaks
from tests.contracts.document import PAGE, page
from tests.contracts.schemas import SCHEMAS, Schema, as_text, committed, generated


def problems(old: dict[str, Schema], new: dict[str, Schema]) -> list[str]:
    """Return what broke between two sets of schemas, each sentence with its event type in front."""
    gone = [f"{name}: the event type was removed" for name in old if name not in new]
    return gone + [f"{name}: {sentence}" for name in old if name in new for sentence in breaks(old[name], new[name])]


def write(folder: Path = SCHEMAS, page_file: Path = PAGE, schemas: dict[str, Schema] | None = None) -> list[str]:
    """Write schemas and page, unless that would break readers; return what would."""
    new = generated() if schemas is None else schemas
    found = problems(committed(folder), new)
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in new.items():
            (folder / f"{name}.json").write_text(as_text(schema), encoding="utf-8")
        page_file.write_text(page(), encoding="utf-8")
    return found


if __name__ == "__main__":
    if broken := write():
        sys.exit("Not written, because it would break readers. Make a new version of the type instead.\n" + "\n".join(broken))
