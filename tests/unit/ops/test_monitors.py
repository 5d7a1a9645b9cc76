"""Definitions as code: what is read, what is refused and where, what is written and read again."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ops import monitors
from infra.ops.monitors import NotReadable
from shared.contracts.commands import FieldProblem

GOOD = """\
$schema: monitors.schema.json
x-usual: &usual
  kind: http
  check_interval: ${INTERVAL:-60000}
services:
  - <<: *usual
    id: orders
    name: Orders
    endpoint_url: https://${HOST}/health
    options:
      method: GET
      headers:
        Authorization: "Bearer ${TOKEN}"
    assertions:
      - {source: json, property: $.status, comparison: equals, target: ok}
      - {source: body, comparison: matches, target: "^up$"}
  - id: price
    name: costs 5$$ or $${more}
    timeout: ${TIMEOUT:-5000}
    description: "${TIMEOUT:-5000}"
    metadata: {on: yes, 404: "${EMPTY:-}"}
"""
ENV = {"HOST": "orders.example.com", "TOKEN": "a: b # c\n- d", "INTERVAL": "30000"}


def read(folder: Path, text: str, env: dict[str, str] | None = None) -> list[monitors.Written]:
    (folder / "monitors.yaml").write_text(text, encoding="utf-8")
    return monitors.read([folder / "monitors.yaml"], env or ENV)


def test_values_take_variables_after_the_form_is_read(tmp_path: Path) -> None:
    """Seen red with variables put into the text before it is read: the token would become a list of the file."""
    orders, price = (one.values for one in read(tmp_path, GOOD))

    assert orders["endpoint_url"] == "https://orders.example.com/health"
    assert orders["check_interval"] == 30_000
    assert orders["options"]["headers"] == {"Authorization": "Bearer a: b # c\n- d"}
    assert [one.get("property", one["target"]) for one in orders["assertions"]] == ["$.status", "^up$"]
    assert price["name"] == "costs 5$ or ${more}"
    assert (price["timeout"], price["description"]) == (5000, "5000"), "what is quoted is text"
    assert price["metadata"] == {"on": True, "404": ""}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "needs a mapping"),
        ("- id: x\n", 1, "needs a mapping"),
        ("services: {}\n", 1, "needs a mapping"),
        ("services: [\n", 2, "did not find expected"),
        ("services:\n- id: a\n- just text\n", 3, "each service is a mapping"),
        ("servces: []\nservices: []\n", 1, "'servces' is not known here"),
        ("services:\n- id: a\n  name: ${NOBODY_SET}\n", 3, "NOBODY_SET is not set"),
        ("services:\n- id: a\n  name: ${not a name}\n", 3, "a variable is written"),
        ("services:\n- id: a\n  name: A\n  id: b\n", 2, "'id' stands here twice"),
        ("services:\n- id: a\n  metadata: {since: 2026-01-01}\n", 3, "a date must be quoted"),
        ("services:\n- id: a\n  ? [x]\n  : y\n", 3, "a key must be text"),
        ("services:\n- id: !!python/object:os.system x\n", 2, "could not determine a constructor"),
        ("services: []\n---\nservices: []\n", 2, "but found another document"),
    ],
)
def test_a_mistake_is_said_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(NotReadable, match=reason) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith(f"{tmp_path}/monitors.yaml:{line}: "), refused.value


def test_every_mistake_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.yml").write_text("services:\n- id: ${A}\n- id: ${B}\n", encoding="utf-8")
    (tmp_path / "b" / "c.yaml").write_bytes(b"\xff")
    (tmp_path / "b" / "notes.txt").write_text("not ours", encoding="utf-8")

    with pytest.raises(NotReadable) as refused:
        monitors.read([tmp_path, tmp_path / "nowhere.yaml"], {})

    told = [line.replace(str(tmp_path), "") for line in str(refused.value).splitlines()]
    assert told[:2] == ["/a.yml:2: the environment variable A is not set", "/a.yml:3: the environment variable B is not set"]
    assert [line.partition(":")[0] for line in told[2:]] == ["/b/c.yaml", "/nowhere.yaml"]


def test_what_was_refused_is_said_where_it_is_written(tmp_path: Path) -> None:
    written = read(tmp_path, GOOD)
    problems = [
        FieldProblem(field="definitions.0.options.headers.Authorization", reason="is too long"),
        FieldProblem(field="definitions.0.assertions.1.target", reason="is no pattern"),
        FieldProblem(field="definitions.0.check_interval", reason="is too short"),
        FieldProblem(field="definitions.1.endpoint_url", reason="is required"),
        FieldProblem(field="definitions.7.id", reason="is nowhere"),
    ]

    told = [line.replace(f"{tmp_path}/monitors.yaml", "") for line in monitors.located(problems, written)]

    assert told == [
        ":13: orders: options.headers.Authorization is too long",
        ":16: orders: assertions.1.target is no pattern",
        ":4: orders: check_interval is too short",
        ":17: price: endpoint_url is required",
        "definitions.7.id is nowhere",
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
tricky = st.sampled_from(
    ["${HOME}", "$$", "$", "$${", "a$", "$.x", "null", "1", "1e3", "on", "2026-01-01", "0o7", "1:30", " x ", "~", "=", "<<", "", "\u2028"]
)


@given(options=st.dictionaries(st.text(max_size=8) | tricky, json_values | tricky, max_size=5), text=st.text(max_size=30) | tricky)
def test_what_is_written_reads_back_as_the_same(tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any], text: str) -> None:
    """Seen red without `escaped`."""
    service = {"id": "one", "name": text, "options": options, "version": 7, "status": "o"}
    folder = tmp_path_factory.mktemp("export")
    (read_back,) = read(folder, monitors.write([service]), {"HOME": "somewhere else"})

    expected = {"id": "one", "name": text, "options": options}
    assert read_back.values == {name: value for name, value in expected.items() if (name, value) != ("options", {})}


def test_an_export_is_in_the_order_of_ids_and_leaves_out_what_is_the_default() -> None:
    services: list[dict[str, Any]] = [
        {"id": "b", "name": "B", "description": "", "regions": [], "retry_interval_ms": None, "is_active": False, "timeout": 5},
        {"id": "a", "name": "에이", "options": {"password": "********"}},
    ]
    assert monitors.write(services) == (
        "services:\n- id: a\n  name: 에이\n  options:\n    password: '********'\n- id: b\n  name: B\n  timeout: 5\n  is_active: false\n"
    )


def test_ten_thousand_definitions_are_read_in_seconds(tmp_path: Path) -> None:
    services: list[dict[str, Any]] = [
        {"id": f"s-{n}", "name": f"S {n}", "kind": "http", "endpoint_url": "https://x.example/", "timeout": 900} for n in range(10_000)
    ]
    text = monitors.write(services)
    began = time.process_time()

    assert len(read(tmp_path, text)) == len(services)
    assert time.process_time() - began < 8, "of the ten seconds for all of it; two on an idle machine"
