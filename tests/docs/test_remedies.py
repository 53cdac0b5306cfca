"""What messages and pages tell a reader to set is in the resource."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import vllm_operator
from vllm_operator import datafiles
from vllm_operator.api.crd import server_schema
from vllm_operator.api.schema import FREE_FORM_KEY
from vllm_operator.engine.tables import rows

SOURCE = Path(vllm_operator.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = server_schema()
FIELD = re.compile(r"(?<![\w./-])spec(?:\.[a-z]\w*)+")
"""A field as it is written: ``spec.engine.env``."""


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


def test_a_way_out_of_a_pod_without_a_node_names_fields_that_exist() -> None:
    hindrances = datafiles.rows("vllm_operator.lifecycle", "hindrances.csv")
    assert [path for row in hindrances for path in unknown(row["way_out"])] == []


def test_messages_name_fields_that_exist() -> None:
    found = {where: paths for where, text in literals() if (paths := unknown(text))}
    assert found == {}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_pages_name_fields_that_exist(page: Path) -> None:
    assert unknown(page.read_text()) == []
