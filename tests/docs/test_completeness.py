"""What the code has, the documentation names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from docs.support import DOCS, ROOT, first_cells, section
from vllm_operator.api.conditions import REASONS, START_FAILURES
from vllm_operator.api.crd import CRD_NAME
from vllm_operator.cli.main import main
from vllm_operator.controller.metrics import SERVER_STATES, Metrics
from vllm_operator.lifecycle.kept import HISTORY_LIMIT
from vllm_operator.lifecycle.notes import STEPS
from vllm_operator.manifests.labels import REPLAN_ANNOTATION

CONDITIONS = DOCS / "conditions.md"
OPERATIONS = DOCS / "operations.md"
SOURCE = ROOT / "operator" / "vllm_operator"


def fields(schema: dict[str, Any], path: str) -> list[str]:
    found = []
    for name, member in schema.get("properties", {}).items():
        found += [f"{path}.{name}", *fields(member, f"{path}.{name}")]
    if "items" in schema:
        found += fields(schema["items"], f"{path}[]")
    return found


def test_every_field_of_the_definition_stands_in_the_reference() -> None:
    definition = yaml.safe_load((ROOT / "crds" / f"{CRD_NAME}.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    documented = set(re.findall(r"`((?:spec|status)[^` ]*)`", reference_text()))
    for part in ("spec", "status"):
        assert set(fields(schema[part], part)) <= documented


def reference_text() -> str:
    return (DOCS / "reference" / "vllmserver.md").read_text()


@pytest.mark.parametrize("condition", REASONS)
def test_every_reason_of_a_condition_is_explained_and_no_other(condition: str) -> None:
    assert first_cells(section(CONDITIONS, condition)) - {"Reason"} == set(REASONS[condition])


def test_every_failure_to_start_is_explained_and_no_other() -> None:
    documented = first_cells(section(CONDITIONS, "Failures to start"))
    assert documented - {"Reason"} == set(START_FAILURES)


def test_every_event_of_the_controller_is_explained() -> None:
    source = "".join(path.read_text() for path in (SOURCE / "controller").glob("*.py"))
    written = set(re.findall(r'"(Planned|Replanned|Repaired|[A-Z]\w+)", "(?:Plan|Repair)"', source))
    documented = section(CONDITIONS, "Events")
    assert {"Repaired"} <= written
    for reason in written | {"Replanned"}:
        assert f"| Normal | {reason} |" in documented
    rows = [row.split(" | ") for row in documented.splitlines() if row.startswith("| Normal | ")]
    assert {reason for row in rows for reason in row[1].split(", ")} >= STEPS


def test_every_metric_is_explained_and_no_other() -> None:
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics().registry.collect()
    }
    assert first_cells(section(OPERATIONS, "Metrics")) - {"Metric"} == names


def test_every_state_of_a_server_is_named_beside_its_metric() -> None:
    row = next(
        line
        for line in section(OPERATIONS, "Metrics").splitlines()
        if line.startswith("| `vllm_operator_server_state`")
    )
    assert set(re.findall(r"`([A-Z]\w+)`", row)) == set(SERVER_STATES)


def options(command: click.Command) -> list[str]:
    return [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
        if name not in ("--help", "-h")
    ]


@pytest.mark.parametrize("command", main.commands)
def test_every_command_and_every_option_stands_in_the_documentation(command: str) -> None:
    text = OPERATIONS.read_text()
    assert f"`vllm-operator {command}`" in text
    for option in options(main.commands[command]):
        assert re.search(rf"`{re.escape(option)}`", text.replace("`/`", "` `")), option


def test_every_setting_stands_with_its_variable_and_no_other_does() -> None:
    rows = re.findall(
        r"^\| `(--[a-z-]+)` \| `([A-Z_]+)` \|", section(OPERATIONS, "Settings"), flags=re.MULTILINE
    )
    known = {
        option: "VLLM_OPERATOR_" + option.removeprefix("--").replace("-", "_").upper()
        for option in options(main.commands["run"])
    }
    assert dict(rows) == known


def environment_in(path: Path) -> set[str]:
    text = path.read_text()
    return set(re.findall(r"os\.environ(?:\.get\(|\[)['\"]([A-Z_]+)", text))


def test_every_environment_variable_that_is_read_stands_in_the_documentation() -> None:
    read = {name for path in SOURCE.rglob("*.py") for name in environment_in(path)}
    assert {"POD_NAME", "POD_NAMESPACE", "HF_ENDPOINT"} <= read
    settings = section(OPERATIONS, "Settings")
    assert {name for name in read if f"`{name}`" not in settings} == set()


def leaves(values: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        here = f"{path}.{name}" if path else name
        nested = isinstance(value, dict) and value and here != "resources"
        found += leaves(value, here) if nested else [here]
    return found


def test_every_value_of_the_chart_stands_in_its_table_and_no_other() -> None:
    chart = ROOT / "charts" / "vllm-operator"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    documented = first_cells(section(chart / "README.md", "Values")) - {"Value"}
    assert documented == set(leaves(values))


def test_the_figures_in_the_text_are_those_of_the_code() -> None:
    words = {5: "five"}
    assert f"the last {words[HISTORY_LIMIT]} of them" in OPERATIONS.read_text()
    for page in ("operations.md", "architecture.md", "conditions.md", "troubleshooting.md"):
        assert f"`{REPLAN_ANNOTATION}`" in (DOCS / page).read_text()


def test_every_room_of_the_code_stands_in_the_architecture() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= first_cells(section(DOCS / "architecture.md", "Layers"))
