"""Who may import whom: import-linter's contracts hold in the tree, and each catches the violation that is planted for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROKEN = 1


def lint(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a tree with the tree's own configuration."""
    chosen = [word for contract in contracts for word in ("--contract", contract)]
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo", *chosen], cwd=tree, capture_output=True, text=True, check=False
    )


def test_everybody_imports_only_whom_they_may() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = [
    ("shared-knows-nobody", "shared/clock.py", "from services.checker import store"),
    ("shared-knows-nobody", "shared/inbox.py", "import infra.ops"),
    ("contracts-are-facts", "shared/contracts/status.py", "from shared.database import Pool"),
    ("contracts-are-facts", "shared/topology.py", "import aio_pika"),
    ("slices", "services/incidents/usecases.py", "from services.aggregator import store"),
    ("slices", "services/gateway/settings.py", "from services.checker.domain import hosts"),
    ("services-below-infra", "services/checker/settings.py", "from infra.ops import database"),
    ("infra-by-the-front-door", "infra/ops/seed.py", "from services.checker import store"),
    ("infra-by-the-front-door", "infra/ops/seed.py", "from services.gateway.domain import roles"),
    ("rooms", "services/incidents/usecases.py", "from services.incidents import consumers"),
    ("rooms", "services/aggregator/store.py", "from services.aggregator import usecases"),
    ("rooms", "services/checker/domain/kinds.py", "from services.checker import store"),
    ("rooms", "services/incidents/store.py", "import services.incidents.__main__"),
    ("edges-decide-nothing", "services/incidents/consumers.py", "from services.incidents import store"),
    ("edges-decide-nothing", "services/gateway/api/__init__.py", "from services.gateway import store"),
    ("domain-is-pure", "services/incidents/domain/lifecycle.py", "from shared.contracts.status import Evidence"),
    ("domain-is-pure", "services/checker/domain/kinds.py", "import shared.clock"),
]


def test_a_room_without_a_place_in_the_order_is_caught(tree: Path) -> None:
    room = tree / "services/incidents/escalation.py"
    room.write_text("", encoding="utf-8")
    try:
        done = lint(tree, "rooms")
    finally:
        room.unlink()
    assert done.returncode == BROKEN, done.stdout + done.stderr
    assert "services.incidents.escalation" in done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product's Python, with the configuration, to plant in."""
    copy = tmp_path_factory.mktemp("tree")
    for part in ("services", "shared", "infra"):
        shutil.copytree(
            ROOT / part, copy / part, ignore=lambda _, names: [name for name in names if "." in name and not name.endswith(".py")]
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.parametrize(("contract", "path", "line"), PLANTED, ids=[f"{contract}: {path}: {line}" for contract, path, line in PLANTED])
def test_a_planted_import_is_caught(contract: str, path: str, line: str, tree: Path) -> None:
    file = tree / path
    before = file.read_text(encoding="utf-8")
    assert lint(tree, contract).returncode == 0
    file.write_text(f"{before}\n{line}\n", encoding="utf-8")
    try:
        done = lint(tree, contract)
    finally:
        file.write_text(before, encoding="utf-8")
    assert done.returncode == BROKEN, done.stdout + done.stderr
    assert "is not allowed to import" in done.stdout
