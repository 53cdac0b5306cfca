"""``vllm-operator check`` of files: what it prints, and with which status it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from support.builders import server_manifest
from vllm_operator.cli.checking import read_answer
from vllm_operator.cli.main import main


def check(*arguments: str, body: dict[str, Any] | None = None) -> Result:
    given = yaml.safe_dump(body or server_manifest())
    options = ["--offline", "--gpu", "H100"]
    return CliRunner().invoke(
        main, ["check", "-", *options, *arguments], input=given, env={"COLUMNS": "120"}
    )


def test_a_manifest_that_warns_passes_in_a_pipeline_and_not_where_warnings_count() -> None:
    assert "replicas" in check().output
    assert check().exit_code == 0
    assert check("--strict").exit_code == 1


def test_a_check_that_fails_ends_with_1() -> None:
    assert check(body=server_manifest(replicas=0)).exit_code == 1


def test_a_warning_names_the_field_that_changes_it() -> None:
    found = check(body=server_manifest(engine={"gpuMemoryUtilization": 0.8}))
    assert "spec.engine.gpuMemoryUtilization" in found.output


def test_a_manifest_that_cannot_be_planned_fails_with_the_planners_words() -> None:
    found = check(body=server_manifest(engine={"maxModelLen": 1_000_000}))
    assert found.exit_code == 1
    assert "and the model's own limit is 32768" in found.output
    assert "spec.engine.maxModelLen" in found.output


def test_every_check_is_there_for_scripts() -> None:
    body = server_manifest(replicas=2)
    (found,) = json.loads(check("-o", "json", body=body).output)
    assert (found["namespace"], found["name"]) == ("default", "qwen")
    checks = {one["check"]: one for one in found["checks"]}
    assert len(checks) == 12
    assert checks["disruption budget"]["outcome"] == "pass"
    assert checks["objective"]["field"] == "spec.workload.slo"


def test_what_cannot_be_read_ends_with_2(tmp_path: Path) -> None:
    missing = CliRunner().invoke(main, ["check", str(tmp_path / "none.yaml")])
    assert missing.exit_code == 2
    assert "No such file" in missing.output
    nowhere = CliRunner().invoke(main, ["check", "qwen"], env={"KUBECONFIG": str(tmp_path / "no")})
    assert nowhere.exit_code == 2
    assert "set KUBECONFIG" in nowhere.output


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"choices": [{"text": " yes"}], "usage": {"completion_tokens": 5}}', ""),
        ('{"choices": [{"text": ""}], "usage": {"completion_tokens": 0}}', "has no token"),
        ('{"error": {"message": "no such model"}}', "no such model"),
        ("<html>503</html>", "503"),
    ],
)
def test_only_tokens_are_an_answer(answer: str, problem: str) -> None:
    found = read_answer(answer.encode(), 0.5)
    assert problem in found.problem
    assert (found.tokens > 0) is (problem == "")
