"""Definitions as code: YAML files are read with their lines, so that whatever is wrong with a field is said where it is written.

A file is a mapping with the list `services`; keys that begin with `x-` are the writer's own, for anchors. In values, `${NAME}` and
`${NAME:-default}` stand for environment variables and `$$` for a dollar sign; any other `$` is itself, as in a JSONPath. What stands
unquoted is read after that as YAML reads it: `timeout: ${TIMEOUT:-5000}` is a number, `"${PIN}"` is text.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from infra.ops.errors import OpsError
from shared.contracts.commands import FieldProblem
from shared.contracts.services import ServiceDefinition

SUFFIXES = {".yaml", ".yml"}
SET_BY_SYSTEM = {"created_at", "updated_at", "version"}
FIELDS = tuple(name for name in ServiceDefinition.model_fields if name not in SET_BY_SYSTEM)
DEFAULTS = {
    name: to_jsonable_python(field.get_default(call_default_factory=True))
    for name, field in ServiceDefinition.model_fields.items()
    if not field.is_required()
}
"""What an export leaves out."""

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\{))")
_ESCAPED = re.compile(r"\$(?=[${])")
_PLACE = re.compile(r"definitions\.(\d+)(?:\.(.*))?")


class NotReadable(OpsError):  # noqa: N818  # names the fact
    """Files that cannot be used; the message has a line for each mistake."""


@dataclass(frozen=True, slots=True)
class Written:
    """One definition, and where it is written."""

    values: dict[str, Any]
    file: Path
    node: yaml.MappingNode = field(repr=False)

    def where(self, path: str) -> str:
        """Return file and line of a field, dotted, or of what is nearest to it."""
        node: yaml.Node = self.node
        mark = node.start_mark
        for part in path.split("."):
            found = _inside(node, part)
            if found is None:
                break
            mark, node = found
        return f"{self.file}:{mark.line + 1}"


def read(paths: Sequence[Path], env: Mapping[str, str] = os.environ) -> list[Written]:
    """Return every definition of some files and folders, in order. Raises `NotReadable`."""
    found: list[Written] = []
    wrong: list[str] = []
    for file in _files(paths):
        try:
            found += _read_file(file, env, wrong)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            wrong.append(f"{file}:{mark.line + 1 if mark else 1}: {error.problem or error.context}")
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            wrong.append(f"{file}: cannot be read as YAML: {str(error).splitlines()[0][:200]}")
        except OSError as error:
            wrong.append(f"{file}: {error.strerror}")
    if wrong:
        raise NotReadable("\n".join(wrong))
    return found


def located(problems: Iterable[FieldProblem], written: Sequence[Written]) -> list[str]:
    """Return what was refused, each with the line where it is written."""
    lines = []
    for one in problems:
        place = _PLACE.fullmatch(one.field)
        if place and int(place[1]) < len(written):
            definition, path = written[int(place[1])], place[2] or ""
            lines.append(f"{definition.where(path)}: {definition.values.get('id', 'a service')}: {path} {one.reason}")
        else:
            lines.append(f"{one.field} {one.reason}")
    return lines


def write(services: Iterable[Mapping[str, Any]]) -> str:
    """Return services as YAML that reads back as the same: by id, without what is as by default, secrets as they are masked."""
    listed = [
        {name: escaped(one[name]) for name in FIELDS if name in one and not (name in DEFAULTS and one[name] == DEFAULTS[name])}
        for one in sorted(services, key=lambda one: str(one["id"]))
    ]
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump({"services": listed}, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120))


def escaped(value: Any) -> Any:  # noqa: ANN401  # whatever JSON may be
    """Return a value in which no text is taken for a variable."""
    if isinstance(value, str):
        return _ESCAPED.sub("$$", value)
    if isinstance(value, Mapping):
        return {name: escaped(one) for name, one in value.items()}
    return [escaped(one) for one in value] if isinstance(value, list | tuple) else value


def _files(paths: Sequence[Path]) -> list[Path]:
    files = []
    for path in paths:
        inside = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            message = f"{path}: holds no .yaml or .yml file"
            raise NotReadable(message)
        files += inside
    return files


def _read_file(file: Path, env: Mapping[str, str], wrong: list[str]) -> list[Written]:
    # libyaml where it is there: ten thousand definitions in a second or two
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(file.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        before = len(wrong)
        wrong += [f"{file}:{line + 1}: {reason}" for line, reason in _flaws(root, loader, env)]
        if len(wrong) > before:
            return []
        document = loader.construct_document(root)
    finally:
        loader.dispose()
    nodes = next(value for key, value in root.value if key.value == "services")  # type: ignore[union-attr]  # without flaws it is a mapping
    return [Written(values, file, node) for values, node in zip(document["services"], nodes.value, strict=True)]


def _flaws(root: yaml.Node | None, loader: Any, env: Mapping[str, str]) -> list[tuple[int, str]]:  # noqa: ANN401  # C or Python
    """Put variables in, and return what is wrong, by line from 0."""
    form = "needs a mapping with the list `services`"
    if not isinstance(root, yaml.MappingNode):
        return [(0, form)]
    flaws = _put_in(root, loader, env, set())
    services = None
    for key, value in root.value:
        if key.value == "services":
            services = value
        elif key.value != "$schema" and not str(key.value).startswith("x-"):  # the former is for editors
            flaws.append((key.start_mark.line, f"{key.value!r} is not known here: `services`, or your own beginning with x-"))
    if not isinstance(services, yaml.SequenceNode):
        return [*flaws, (0, form)]
    return flaws + [(one.start_mark.line, "each service is a mapping") for one in services.value if not isinstance(one, yaml.MappingNode)]


def _put_in(node: yaml.Node, loader: Any, env: Mapping[str, str], seen: set[int]) -> list[tuple[int, str]]:  # noqa: ANN401
    if id(node) in seen:  # an alias of what was visited
        return []
    seen.add(id(node))
    line = node.start_mark.line
    if isinstance(node, yaml.SequenceNode):
        return [flaw for one in node.value for flaw in _put_in(one, loader, env, seen)]
    if isinstance(node, yaml.MappingNode):
        keys = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
        flaws = [(line, f"{key!r} stands here twice") for key in {one for one in keys if keys.count(one) > 1 and one != "<<"}]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                flaws.append((key.start_mark.line, "a key must be text"))
            elif key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"  # as in JSON: `on:` and `404:` are names, too
        return flaws + [flaw for _, one in node.value for flaw in _put_in(one, loader, env, seen)]
    return [(line, reason) for reason in _put_into_scalar(node, loader, env)]


def _put_into_scalar(node: yaml.Node, loader: Any, env: Mapping[str, str]) -> list[str]:  # noqa: ANN401
    missing: list[str] = []

    def put(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["broken"]:
            missing.append("a variable is written ${NAME} or ${NAME:-default}; a dollar sign before { is $$")
            return ""
        value = env.get(match["name"]) or match["default"]
        if value is None:
            missing.append(f"the environment variable {match['name']} is not set")
        return value or ""

    if "$" in node.value:
        changed = _VARIABLE.sub(put, node.value)
        if changed != node.value:
            node.value = changed
            if not getattr(node, "style", None):
                node.tag = loader.resolve(yaml.ScalarNode, changed, (True, False))
    if node.tag.rpartition(":")[2] in {"timestamp", "binary"}:
        missing.append("a date must be quoted")
    return missing


def _inside(node: yaml.Node, part: str) -> tuple[Any, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        return node.value[int(part)].start_mark, node.value[int(part)]
    return None
