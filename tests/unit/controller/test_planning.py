"""What the operator proposes for a server, and what keeps it from proposing."""

from __future__ import annotations

from typing import Any

from unit.sizing.examples import inputs_for, server
from vllm_operator.api.plan import Unplanned
from vllm_operator.controller.planning import without_groups
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
