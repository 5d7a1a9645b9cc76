"""What the documents list is what there is."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from typer.main import get_command

from infra.ops.cli import app
from tests.architecture.rules import PRODUCT, modules

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {*PRODUCT, "tests"}

IMPORTED_AS = {
    "axe-playwright-python": "axe_playwright_python",
    "dnspython": "dns",
    "fpdf2": "fpdf",
    "google-re2": "re2",
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "import-linter": "importlinter",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "python-jsonpath": "jsonpath",
    "pyyaml": "yaml",
}
BROUGHT = {"aiormq", "click", "pydantic_core", "pymysql", "starlette"}
"""What others' own interfaces name, pinned with them: aio-pika's connection, Typer's errors, pydantic's errors, aiomysql's constants,
FastAPI's requests and responses."""
BROUGHT_FOR_TESTS = {"pamqp", "yarl"}
"""aio-pika's own interface: its frames' values and its URLs; pinned with it."""
NOT_IMPORTED = {
    "asyncpg-stubs",  # read by mypy
    "grpc-stubs",  # likewise
    "import-linter",  # run as a program
    "mypy",
    "pytest-asyncio",
    "pytest-randomly",
    "pytest-xdist",
    "ruff",
    "types-pyyaml",  # read by mypy
}
"""Tools, and plugins that pytest finds by itself."""


def names(requirements: list[str]) -> set[str]:
    """Return the packages that requirements name."""
    return {re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0] for requirement in requirements}


RUNTIME = names(PROJECT["dependencies"])
DEVELOPMENT = names(PROJECT["optional-dependencies"]["dev"])


def listed(title: str) -> set[str]:
    """Return the packages that docs/dependencies.md lists under a title."""
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| ([a-z0-9-]+) \|", section, flags=re.MULTILINE)) - {"package"}


def imported(*places: str) -> set[str]:
    """Return the top names of what is imported from outside."""
    found: set[str] = set()
    for _, _, tree in modules(ROOT, *places):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - OURS


def test_every_dependency_has_its_line_and_every_line_its_dependency() -> None:
    """Seen red with certifi declared before it was listed."""
    assert listed("In the product") == RUNTIME
    assert listed("For development") == DEVELOPMENT


def test_the_product_imports_what_it_declares_and_nothing_more() -> None:
    """Seen red with `yarl` imported but not declared: it came by way of another package."""
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in RUNTIME} | BROUGHT
    assert imported(*PRODUCT) - declared == set()


def test_the_tests_import_what_is_declared() -> None:
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in RUNTIME | DEVELOPMENT} | BROUGHT | BROUGHT_FOR_TESTS
    assert imported("tests") - declared == set()


def test_nothing_is_declared_that_nobody_imports() -> None:
    """So that what is no longer needed goes."""
    wanted = {IMPORTED_AS.get(name, name.replace("-", "_")): name for name in (RUNTIME | DEVELOPMENT) - NOT_IMPORTED}
    found = imported(*OURS)
    assert {package for module, package in wanted.items() if module not in found} == set()


def test_records_of_decisions_are_numbered_without_gap_and_say_what_was_decided() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert [title for title in ("## Decision", "## Why", "## What follows") if title not in text] == [], path.name


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    """Seen red with the pages on kinds, on assertions and on definitions linked from nowhere that a reader begins."""
    docs = ROOT / "docs"
    linked: set[Path] = set()
    for page in (ROOT / "README.md", docs / "architecture.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        links = {page.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text)}
        assert {link for link in links if not link.exists()} == set()
        linked |= {link.resolve() for link in links}
    assert {page.name for page in docs.glob("*.md") if page.resolve() not in linked} == set()


def test_the_readme_names_compose_services_commands_and_targets_that_exist() -> None:
    """Seen red with `docker compose exec demo`, a service that was called demo-target."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    services = set(
        re.findall(r"^  ([a-z-]+):$", (ROOT / "docker-compose.yml").read_text(encoding="utf-8").partition("\nservices:\n")[2], re.MULTILINE)
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"docker compose (?:exec|run(?: --[a-z-]+)*) ([a-z-]+)", readme))
    made = set(re.findall(r"\bmake ([a-z]+)\b", readme))
    commands = {
        " ".join(name for name in words if name) for words in re.findall(r"sla-monitor (stack|user|dead|db)(?: ([a-z-]+))?", readme)
    }
    groups: dict[str, Any] = vars(get_command(app))["commands"]
    known = {f"{group} {name}" for group, parser in groups.items() for name in vars(parser).get("commands", {})}
    assert named
    assert named - services == set()
    assert made - targets == set()
    assert commands - known == set()
