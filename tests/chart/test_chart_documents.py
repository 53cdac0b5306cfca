"""The chart's README and comments say what the chart does: every value, default and right."""

import json
import re
from typing import Any

import pytest
import yaml

from chart.support import ROOT, default_values, leaves
from chart.test_rbac import IN_NAMESPACES, LEASES, NODES, OWN_LEASE, POOLS
from localcluster.chart import CHART, render

README = (CHART / "README.md").read_text()
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Helm's own and a parent chart's; they mean nothing here.
FOREIGN = {"global", "enabled"}


def documented() -> dict[str, Any]:
    """The README's table: defaults by the value's path."""
    section = README.split("## Values")[1]
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$", section, re.MULTILINE)
    return {path: json.loads(default) for path, default, _meaning in rows}


def test_the_readme_lists_every_value_with_its_default_in_the_files_order() -> None:
    actual = {".".join(path): value for path, value in leaves(default_values()).items()}
    assert documented() == actual
    assert list(documented()) == list(actual)


@pytest.mark.parametrize("path", list(leaves(default_values())), ids=".".join)
def test_a_comment_stands_above_every_value(path: tuple[str, ...]) -> None:
    indent = "  " * (len(path) - 1)
    pattern = rf"^{indent}# .+\n{indent}{path[-1]}:"
    assert re.search(pattern, VALUES, re.MULTILINE), f"{'.'.join(path)} has no comment"


def test_the_schema_knows_exactly_the_values_and_is_closed() -> None:
    def compare(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        if path == "resources":  # a map of quantities
            assert schema["additionalProperties"] is False
            return
        if not values or "properties" not in schema:
            return
        assert schema["additionalProperties"] is False, path
        known = set(schema["properties"]) - (FOREIGN if not path else set())
        assert known == set(values), path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(schema["properties"][key], value, f"{path}.{key}".lstrip("."))

    compare(SCHEMA, default_values(), "")


def test_the_readme_lists_exactly_the_rights() -> None:
    def verbs(words: str) -> str:
        return ", ".join(words.split())

    rows = set(re.findall(r"^\| ([\w.-]+) \| ([\w/]+) \| (.+?) \| .+ \|$", README, re.MULTILINE))
    expected = {
        (group or "core", resource, verbs(words))
        for group, resource, words in IN_NAMESPACES + POOLS + NODES
    }
    (group, resource, create), (_group, _resource, others) = LEASES[0], OWN_LEASE[0]
    expected.add((group, resource, f"{create}; {verbs(others)} of `vllm-operator`"))
    assert rows == expected


def test_every_example_of_values_in_the_readme_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        render(yaml.safe_load(block))


def test_paths_that_the_documents_name_exist() -> None:
    for name in ("CONTRIBUTING.md", "docs/argo-cd.md", "charts/vllm-operator/README.md"):
        document = ROOT / name
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{name} names {target}"
