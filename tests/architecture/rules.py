"""The house rules that no linter knows. Each takes the folder of a source tree and returns a sentence for every breach."""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Rule = Callable[[Path], list[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef

PRODUCT = ("services", "shared", "infra")
MODULE_LINES = 400
FUNCTION_LINES = 40
NAMELESS = {"utils", "util", "common", "helpers", "helper", "models", "misc", "base_service"}
DOMAIN_MAY_IMPORT = "shared.contracts.codes"
SHORTEST_SECRET = 6
QUERIES = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "prepare", "cursor"}

_SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|api_?key|private_key)$")
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|://[^\s:/@{}]+:(?!(?:password|pw)@)[^\s:/@{}]+@"
)
_ROLE_NAME = re.compile(r"\w+(Service|Manager|Helper|Util|Utils)$")


def modules(root: Path, *places: str) -> Iterator[tuple[str, str, ast.Module]]:
    """Give path, text and syntax tree of every module in some folders of a tree."""
    for place in places:
        for path in sorted((root / place).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            yield path.relative_to(root).as_posix(), text, ast.parse(text)


def names_that_say_nothing(root: Path) -> list[str]:
    """A module is named after what it is about; so is a class."""
    found = [
        f"{path}: a module named {Path(path).stem} collects anything"
        for path, _, _ in modules(root, *PRODUCT)
        if Path(path).stem in NAMELESS
    ]
    for path, _, tree in modules(root, *PRODUCT):
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        found += [
            f"{path}:{node.lineno}: {node.name}: say what it is, not that it serves" for node in classes if _ROLE_NAME.match(node.name)
        ]
    return found


def modules_too_long(root: Path) -> list[str]:
    """A module fits in the head: at most 400 lines."""
    lengths = [(path, len(text.splitlines())) for path, text, _ in modules(root, *PRODUCT)]
    return [f"{path}: {length} lines, more than {MODULE_LINES}: cut it by noun" for path, length in lengths if length > MODULE_LINES]


def functions_too_long(root: Path) -> list[str]:
    """A function fits on a screen: at most 40 lines, its docstring not counted."""
    return [
        f"{path}:{node.lineno}: {node.name} has {_length(node)} lines, more than {FUNCTION_LINES}"
        for path, _, tree in modules(root, *PRODUCT)
        for node in ast.walk(tree)
        if isinstance(node, Function) and _length(node) > FUNCTION_LINES
    ]


def _length(node: Function) -> int:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def impure_domain(root: Path) -> list[str]:
    """A domain is decided by its arguments: standard library and codes only, no await, no clock, no chance, no I/O."""
    found = []
    for path, _, tree in modules(root, "services"):
        parts = path.split("/")
        if "domain" in parts[:-1] or parts[-1] == "domain.py":
            own = ".".join(parts[:3]).removesuffix(".py")
            found += [f"{path}:{getattr(node, 'lineno', 0)}: {what}" for node in ast.walk(tree) for what in _impure(node, own)]
    return found


def _impure(node: ast.AST, own: str) -> Iterator[str]:
    for name in _imported(node):
        allowed = name.split(".")[0] in sys.stdlib_module_names or f"{name}.".startswith((f"{own}.", f"{DOMAIN_MAY_IMPORT}."))
        if not allowed:
            yield f"imports {name}"
        if name.split(".")[0] in {"asyncio", "random", "secrets", "subprocess", "time", "os", "urllib.request", "logging"}:
            yield f"imports {name}, which reaches outside"
    if isinstance(node, ast.AsyncFunctionDef | ast.Await):
        yield "awaits"
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
        "now",
        "utcnow",
        "today",
        "uuid4",
        "uuid1",
        "open",
        "print",
        "getaddrinfo",
        "socket",
    }:
        yield f"calls {ast.unparse(node.func)}: time, ids and files are arguments"


def _imported(node: ast.AST) -> list[str]:
    """Return what an import statement names, as far as modules go."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return (
            [f"{'.' * node.level}{node.module or ''}"]
            if node.module != "shared.contracts"
            else [f"shared.contracts.{alias.name}" for alias in node.names]
        )
    return []


def sleeping_tests(root: Path) -> list[str]:
    """A test waits for a condition (`until`, with a deadline). A length of time that is the test's own premise has its reason beside it."""
    found = []
    for path, text, tree in modules(root, "tests"):
        lines = text.splitlines()
        polling = {id(call) for node in ast.walk(tree) if isinstance(node, Function) and node.name == "until" for call in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and id(node) not in polling and _sleeps(node):
                said = "  # " in lines[node.lineno - 1] or lines[node.lineno - 2].lstrip().startswith("# ")
                if not said:
                    found.append(f"{path}:{node.lineno}: sleeps; wait for a condition, or say beside it why this length is the premise")
    return found


def _sleeps(node: ast.Call) -> bool:
    only_gives_way = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
    return ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"} and not only_gives_way


def secrets_in_code(root: Path) -> list[str]:
    """Passwords, tokens and keys come from the environment; none is a constant."""
    return [f"{path}:{line}: {what}" for path, _, tree in modules(root, *PRODUCT) for line, what in _secrets(tree)]


def _secrets(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SECRET_VALUE.search(node.value):
            yield node.lineno, "looks like a key, or an address with a password in it"
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                name = ast.unparse(target)
                if _SECRET_NAME.search(name) and not name.startswith("SQL_") and len(node.value.value) >= SHORTEST_SECRET:
                    yield node.lineno, f"{name} is a constant"


def queries_put_together(root: Path) -> list[str]:
    """SQL stands in constants, and values are parameters. Only statements that take none (DDL, settings) may be written where they run."""
    found = []
    for path, _, tree in modules(root, "services", "shared"):
        for node in ast.walk(tree):
            is_query = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in QUERIES and node.args
            if is_query and isinstance(node, ast.Call) and _is_put_together(node.args[0]):
                found.append(f"{path}:{node.lineno}: SQL is put together in the call: make it a constant with parameters")
    return found


def _is_put_together(argument: ast.expr) -> bool:
    joined = isinstance(argument, ast.JoinedStr) or (isinstance(argument, ast.BinOp) and isinstance(argument.op, ast.Add | ast.Mod))
    first = ast.unparse(argument).lstrip("(f'\"").split(" ")[0].lower()
    return joined and first not in {"create", "alter", "drop", "set", "pragma"}


def environment_read_outside_settings(root: Path) -> list[str]:
    """The environment is read by the settings classes, once, in `__main__`."""
    return [
        f"{path}:{node.lineno}: reads the environment; add a field to the settings"
        for path, _, tree in modules(root, "services", "shared")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in {"os.environ", "os.getenv", "environ", "getenv"}
    ]


RULES: tuple[Rule, ...] = (
    names_that_say_nothing,
    modules_too_long,
    functions_too_long,
    impure_domain,
    sleeping_tests,
    secrets_in_code,
    queries_put_together,
    environment_read_outside_settings,
)
