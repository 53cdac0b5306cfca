"""What messages and pages tell a reader to set is in the resource."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import vllm_operator
from vllm_operator import datafiles
from vllm_operator.api.crd import server_schema
from vllm_operator.api.schema import FREE_FORM_KEY
from vllm_operator.engine.tables import rows

from .support import name_of, pages

SOURCE = Path(vllm_operator.__file__).parent
SCHEMA = server_schema()
FIELD = re.compile(r"(?<![\w./-])spec(?:\.[a-z]\w*)+")
"""A field as it is written: ``spec.engine.env``."""


CHART = Path(__file__).parents[2] / "charts" / "vllm-operator"
TABLES = sorted(SOURCE.rglob("*.csv"))
CHART_VALUE = re.compile(r"chart(?:'s)? value (?!to )`?([a-zA-Z]+(?:\.[a-zA-Z]+)*)")
KUBECTL = re.compile(r"kubectl (?:get|describe) ([a-z][a-z,]*)")
KINDS = {
    "clusterrolebindings",
    "csinodes",
    "limitranges",
    "mutatingwebhookconfigurations",
    "namespace",
    "networkpolicies",
    "node",
    "nodes",
    "pod",
    "pods",
    "pvc",
    "validatingwebhookconfigurations",
    "vllm",
    "volumeattachments",
}
"""What remedies have a reader look at, by the names that kubectl takes."""
SET_TO = re.compile(r"set it to (-?[\w.]+)(?: or ([\w.]+))?")
"""Values that a refusal offers for the field that it is of."""
OBJECTS = re.compile(r"\b(?:GPU|node|driver|container|Secret|ConfigMap|claim|kubectl)s?\b")
"""What else a reader can lay hands on."""
VALUE = re.compile(r"(spec(?:\.[a-z]\w*)+) (?:to|is) (?!at |a |one )([A-Za-z]\w*)\b")
"""A value that is named beside its field."""


def node_of(path: str) -> Mapping[str, Any] | None:
    """The schema of a field; of one below a free-form object, that object's."""
    node: Mapping[str, Any] = SCHEMA
    for name in path.split("."):
        while "items" in node:
            node = node["items"]
        if FREE_FORM_KEY in node:
            return node
        inside = node.get("properties", {}).get(name, node.get("additionalProperties"))
        if inside is None:
            return None
        node = inside
    return node


def exists(path: str) -> bool:
    """Whether the schema has a field of that path; what is below a free-form one is anybody's."""
    return node_of(path) is not None


def unknown(text: str) -> list[str]:
    return [path for path in FIELD.findall(text) if not exists(path)]


def literals() -> Iterator[tuple[str, str]]:
    """Every text in the operator's source that is no docstring, with where it stands."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if (
                isinstance(node, ast.Constant)
                and isinstance(text, str)
                and id(node) not in docstrings
            ):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", text


def test_a_field_that_no_schema_has_is_found() -> None:
    assert unknown("set spec.pod.hostNetwork") == ["spec.pod.hostNetwork"]
    assert unknown("set spec.pod.affinity.nodeAffinity and spec.engine.env") == []


@pytest.mark.parametrize("row", rows("failures.csv"), ids=lambda row: row["reason"])
def test_a_known_failure_names_fields_that_exist(row: Mapping[str, str]) -> None:
    assert not row["field"] or exists(row["field"])
    assert unknown(f"{row['means']} {row['remedy']}") == []


@pytest.mark.parametrize("row", rows("failures.csv"), ids=lambda row: row["reason"])
def test_a_remedy_names_a_field_or_an_object_that_exists(row: Mapping[str, str]) -> None:
    assert FIELD.search(row["remedy"]) or OBJECTS.search(row["remedy"]), row["remedy"]


@pytest.mark.parametrize("row", rows("failures.csv"), ids=lambda row: row["reason"])
def test_a_remedy_names_values_that_their_fields_take(row: Mapping[str, str]) -> None:
    for path, value in VALUE.findall(row["remedy"]):
        node = node_of(path)
        assert node is not None, path
        assert value in node.get("enum", [value]), path


def cells(table: Path) -> list[str]:
    """What of a table a reader may be told: all but where it is from."""
    found = datafiles.rows(
        f"vllm_operator.{'.'.join(table.relative_to(SOURCE).parent.parts)}", table.name
    )
    return [text for row in found for name, text in row.items() if name != "source"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_names_fields_that_exist(table: Path) -> None:
    assert [path for text in cells(table) for path in unknown(text)] == []


def test_every_table_of_remedies_is_read() -> None:
    told = {table.name for table in TABLES if any(FIELD.search(text) for text in cells(table))}
    assert {"failures.csv", "refusals.csv", "hindrances.csv", "extra_arguments.csv"} <= told


@pytest.mark.parametrize("row", rows("refusals.csv"), ids=lambda row: row["field"])
def test_a_refusal_offers_values_that_its_field_takes(row: Mapping[str, str]) -> None:
    node = node_of(row["field"])
    assert node is not None
    offered = [value for found in SET_TO.findall(row["remedy"]) for value in found if value]
    taken = node.get("enum")
    if taken is not None:
        assert [value for value in offered if value not in taken] == []
    elif node["type"] == "boolean":
        assert set(offered) <= {"true", "false"}


@pytest.mark.parametrize("row", rows("bounds.csv"), ids=lambda row: row["flag"])
def test_a_bound_offers_numbers_within_it(row: Mapping[str, str]) -> None:
    offered = [float(value) for found in SET_TO.findall(row["remedy"]) for value in found if value]
    assert offered or re.match(r"(?:remove it|take \w+ or \w+)$", row["remedy"])
    for number in offered:
        assert not row["above"] or number > float(row["above"])
        assert not row["least"] or number >= float(row["least"])
        assert not row["most"] or number <= float(row["most"])
        assert not row["below"] or number < float(row["below"])


def told() -> Iterator[tuple[str, str]]:
    """All that a reader may be told, with where it stands: tables, messages and pages."""
    for table in TABLES:
        yield from ((table.name, text) for text in cells(table))
    yield from literals()
    for page in pages():
        yield name_of(page), page.read_text()


def test_the_chart_has_the_values_that_are_named() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = {(where, path) for where, text in told() for path in CHART_VALUE.findall(text)}
    assert len(named) > 10
    assert [one for one in sorted(named) if not has(values, one[1].split("."))] == []


def has(values: Any, path: list[str]) -> bool:
    """Whether the chart has a value; what is below an empty object or list is anybody's."""
    for name in path:
        if values in ({}, []):
            return True
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def test_what_a_reader_is_to_look_at_has_a_name_that_kubectl_takes() -> None:
    named = {
        kind
        for table in TABLES
        for text in cells(table)
        for kinds in KUBECTL.findall(text)
        for kind in kinds.split(",")
    }
    assert named
    assert named <= KINDS


def test_a_way_out_of_a_pod_without_a_node_names_a_field_or_an_object_that_exists() -> None:
    table = datafiles.rows("vllm_operator.lifecycle", "hindrances.csv")
    ways = [row["way_out"] for row in table if row["way_out"]]
    assert [way for way in ways if not FIELD.search(way) and not OBJECTS.search(way)] == []


def test_messages_name_fields_that_exist() -> None:
    found = {where: paths for where, text in literals() if (paths := unknown(text))}
    assert found == {}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_pages_name_fields_that_exist(page: Path) -> None:
    assert unknown(page.read_text()) == []
