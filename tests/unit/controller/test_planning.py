"""What the operator proposes for a server, and what keeps it from proposing."""

from __future__ import annotations

from typing import Any

from unit.sizing.examples import inputs_for, server
from vllm_operator.api.plan import Unplanned
from vllm_operator.controller.planning import (
    conflicted,
    refused_by_server,
    unexpected,
    without_groups,
)
from vllm_operator.errors import NameConflict, PredecessorRemains
from vllm_operator.manifests.planned import planned

R1 = "deepseek-ai/DeepSeek-R1"
H100 = {"product": "H100", "perNode": 8}


def told(model: str, max_nodes: int = 1, **spec: Any) -> list[tuple[str, str]]:
    """Field and reason of what is told where a cluster has no LeaderWorkerSets."""
    wanted = server(model, **spec)
    inputs = inputs_for(wanted, max_nodes=max_nodes)
    found = planned(wanted, inputs)
    assert isinstance(found, Unplanned)
    problems = without_groups(wanted, inputs, found).problems
    return [(problem.field, problem.reason) for problem in problems]


def test_where_only_groups_are_missing_that_is_what_is_told() -> None:
    assert told(R1, gpu=H100) == [("spec.gpu", "LeaderWorkerSetMissing")]


def test_where_groups_would_not_help_they_are_not_asked_for() -> None:
    assert told(R1, gpu={"product": "T4", "perNode": 1})[0][1] != "LeaderWorkerSetMissing"


def test_what_no_group_can_be_rendered_of_is_told_for_what_it_is() -> None:
    pod = {"affinity": {"nodeAffinity": "x"}}
    field = "spec.pod.affinity.nodeAffinity"
    assert told("Qwen/Qwen3-0.6B", gpu=H100, pod=pod) == [(field, "IllegalPin")]


def test_an_object_of_the_server_before_is_waited_for_and_asked_for_every_second() -> None:
    found = conflicted(PredecessorRemains("Service", "qwen", "controlled by VLLMServer qwen"))
    assert (found.waits, found.ask_again) == (True, 1.0)
    (problem,) = found.problems
    assert (problem.field, problem.reason) == ("metadata.name", "NameConflict")
    assert "about to be collected" in problem.message


def test_somebody_else_s_object_is_no_matter_of_waiting_and_asked_for_every_half_minute() -> None:
    found = conflicted(NameConflict("Service", "qwen", "not controlled by this server"))
    assert (found.waits, found.ask_again) == (False, 30.0)
    assert "rename this server" in found.problems[0].message


def test_what_is_refused_or_broken_is_tried_again_every_half_minute() -> None:
    refused, broken = refused_by_server("quota exceeded"), unexpected(ValueError("odd"))
    assert [one.problems[0].reason for one in (refused, broken)] == [
        "ObjectRefused",
        "OperatorDefect",
    ]
    assert (refused.ask_again, broken.ask_again) == (30.0, 30.0)
    assert (refused.waits, broken.waits) == (False, False)
    assert refused.problems[0].message == "quota exceeded"
    assert "ValueError: odd" in broken.problems[0].message
