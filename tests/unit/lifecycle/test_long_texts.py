"""What a node, an engine or a person makes long is kept to what a status takes of it."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import inputs_for, server
from vllm_operator.api.plan import Problem
from vllm_operator.cli.plan import _refused
from vllm_operator.errors import IllegalPin
from vllm_operator.lifecycle.reading import pod_record
from vllm_operator.sizing.plan.planner import unplanned

LONG = "z" * 5000
ENDED = {"exitCode": 1, "reason": "Error", "message": LONG, "containerID": "containerd://1"}


def record(status: dict[str, Any], *beside: dict[str, Any]) -> Any:
    containers = [{"name": "engine", "restartCount": 0, **status}, *beside]
    return pod_record(
        {
            "metadata": {
                "name": "p",
                "namespace": "n",
                "uid": "u",
                "creationTimestamp": "2026-01-01T10:00:00Z",
            },
            "spec": {"containers": [{"name": one["name"]} for one in containers]},
            "status": {"phase": "Running", "containerStatuses": containers},
        }
    )


def test_the_last_words_of_an_engine_are_kept_to_4096_characters() -> None:
    found = record({"lastState": {"terminated": ENDED}}).ending
    assert found is not None
    assert found.message == "z" * 4096


@pytest.mark.parametrize(
    "state",
    [
        {"state": {"waiting": {"reason": "CreateContainerError", "message": LONG}}},
        {"lastState": {"terminated": ENDED}, "state": {"running": {}}},
    ],
)
def test_what_a_container_beside_the_engine_says_is_kept_to_4096_characters(
    state: dict[str, Any],
) -> None:
    found = record({"state": {"running": {}}}, {"name": "proxy", **state}).beside
    assert found is not None
    assert (len(found.waits), found.ending.count("z")) in ((4096, 0), (0, 4096))


def test_of_many_problems_the_first_sixteen_are_told() -> None:
    one = server()
    problems = [IllegalPin(f"spec.pod.labels.{number}", "no") for number in range(40)]
    found = unplanned(one, inputs_for(one), problems)
    assert [problem.field for problem in found.problems] == [
        f"spec.pod.labels.{number}" for number in range(16)
    ]


def test_of_a_manifest_that_is_none_name_and_problems_are_bounded_too() -> None:
    problems = [Problem(field="spec", reason="IllegalPin", message="no")] * 40
    found = _refused({"metadata": {"name": LONG, "namespace": LONG}}, problems)
    assert (len(found.name), len(found.namespace), len(found.problems)) == (253, 253, 16)


def test_a_problem_of_a_long_path_and_a_long_text_is_cut() -> None:
    found = Problem.of(IllegalPin("spec." + LONG, LONG))
    assert (len(found.field), len(found.message)) == (200, 1024)
