"""The house rules hold in the tree, and each rule catches what is planted against it."""

from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.rules import Rule

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    assert rule(ROOT) == []


LONG = "def f() -> int:\n" + "    x = 1\n" * 40 + "    return x\n"
DOMAIN = "services/checker/domain/verdict.py"

PLANTED: list[tuple[Rule, str, str, str]] = [
    (rules.names_that_say_nothing, "shared/utils.py", "", "shared/utils.py: a module named utils"),
    (rules.names_that_say_nothing, "services/checker/models.py", "", "services/checker/models.py: a module named models"),
    (rules.names_that_say_nothing, "services/checker/store.py", "class CheckManager:\n    pass\n", "CheckManager"),
    (rules.modules_too_long, "services/checker/store.py", "x = 1\n" * 401, "401 lines"),
    (rules.functions_too_long, "infra/ops/cli.py", LONG, "f has 42 lines"),
    (rules.functions_too_long, "infra/ops/cli.py", "async " + LONG, "f has 42 lines"),
    (rules.impure_domain, DOMAIN, "import asyncpg\n", "imports asyncpg"),
    (rules.impure_domain, DOMAIN, "from shared.contracts.status import Evidence\n", "imports shared.contracts.status"),
    (rules.impure_domain, DOMAIN, "from shared.contracts import status\n", "imports shared.contracts.status"),
    (rules.impure_domain, DOMAIN, "from services.checker import store\n", "imports services.checker"),
    (rules.impure_domain, DOMAIN, "from ..store import find\n", "imports ..store"),
    (rules.impure_domain, DOMAIN, "import time\n", "imports time, which reaches outside"),
    (rules.impure_domain, DOMAIN, "async def f() -> None: ...\n", "awaits"),
    (rules.impure_domain, DOMAIN, "from datetime import datetime\nx = datetime.now()\n", "calls datetime.now"),
    (rules.sleeping_tests, "tests/unit/test_x.py", "import time\ntime.sleep(1)\n", "sleeps"),
    (rules.sleeping_tests, "tests/unit/test_x.py", "import asyncio\nasync def test() -> None:\n    await asyncio.sleep(0.5)\n", "sleeps"),
    (rules.secrets_in_code, "services/gateway/settings.py", 'PASSWORD = "hunter22"\n', "PASSWORD is a constant"),
    (rules.secrets_in_code, "services/gateway/settings.py", 'session_secret: str = "abcdef0123"\n', "session_secret is a constant"),
    (rules.secrets_in_code, "infra/ops/stack.py", 'x = "amqp://sla:s3cret@localhost/"\n', "address with a password"),
    (rules.secrets_in_code, "infra/ops/stack.py", 'x = "-----BEGIN RSA PRIVATE KEY-----"\n', "looks like a key"),
    (rules.queries_put_together, "services/checker/store.py", "async def f(c, n): await c.fetch(f'select {n}')\n", "SQL is put together"),
    (rules.queries_put_together, "services/checker/store.py", "async def f(c, n): await c.execute('select ' + n)\n", "SQL is put together"),
    (rules.environment_read_outside_settings, "services/checker/store.py", "import os\nx = os.environ['X']\n", "reads the environment"),
]


@pytest.mark.parametrize(
    ("rule", "path", "text", "sentence"), PLANTED, ids=[f"{case[0].__name__}-{number}" for number, case in enumerate(PLANTED)]
)
def test_a_planted_breach_is_caught(rule: Rule, path: str, text: str, sentence: str, tmp_path: Path) -> None:
    plant(tmp_path, path, text)
    found = rule(tmp_path)
    assert len(found) == 1, found
    assert sentence in found[0]


KEPT: list[tuple[Rule, str, str]] = [
    (
        rules.functions_too_long,
        "infra/ops/cli.py",
        LONG.replace("    x = 1\n", '    """Say\n' + "    more\n" * 20 + '    """\n', 1).replace("    x = 1\n", "", 20),
    ),
    (
        rules.impure_domain,
        DOMAIN,
        "from datetime import datetime\nfrom shared.contracts.codes import Status\nfrom services.checker.domain.kinds import K\n",
    ),
    (rules.sleeping_tests, "tests/waiting.py", "import asyncio\nasync def until() -> None:\n    await asyncio.sleep(0.05)\n"),
    (rules.sleeping_tests, "tests/unit/test_x.py", "import time\ntime.sleep(1)  # the outage has this length\n"),
    (rules.secrets_in_code, "shared/settings.py", 'x = "postgresql://role:password@host:port/database"\n'),
    (rules.secrets_in_code, "infra/ops/urls.py", 'x = f"amqp://{user}:{password}@{host}/"\n'),
    (rules.queries_put_together, "services/checker/store.py", "async def f(c, n): await c.fetch(SQL_FIND, n)\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), KEPT, ids=[f"{case[0].__name__}-{number}" for number, case in enumerate(KEPT)])
def test_what_the_rule_allows_is_let_through(rule: Rule, path: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, path, text)
    assert rule(tmp_path) == []


def plant(root: Path, path: str, text: str) -> None:
    """Write one module of a tree that has nothing else."""
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
