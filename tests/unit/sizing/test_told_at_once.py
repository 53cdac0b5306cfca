"""All that is wrong with a specification is told at once, each with its field."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import inputs_for, plan_of, server
from vllm_operator.sizing.plan.planner import make_plan

QWEN = "Qwen/Qwen3.8-27B"
WRONG: dict[str, dict[str, Any]] = {
    "spec.engine.chunkedPrefill": {"engine": {"chunkedPrefill": False, "prefixCaching": True}},
    "spec.engine.maxNumSeqs": {"engine": {"maxNumSeqs": 4}, "workload": {"concurrency": 8}},
    "spec.engine.maxModelLen": {"engine": {"maxModelLen": 10**7}},
    "spec.engine.extraArgs[0]": {"engine": {"extraArgs": ["--no-such-flag"]}},
    "spec.engine.toolCallParser": {"engine": {"toolCallParser": "nobody"}},
    "spec.parallelism.expert": {"parallelism": {"expert": True}},
}


def together(*wrong: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"engine": {"version": "0.30.0"}}
    for one in wrong:
        for key, value in one.items():
            spec[key] = {**spec.get(key, {}), **value}
    return spec


@pytest.mark.parametrize("field", WRONG)
def test_one_wrong_pin_is_told_with_its_field(field: str) -> None:
    plan = plan_of(QWEN, **together(WRONG[field]))
    assert [one.field for one in plan.problems] == [field]


def test_all_of_them_are_told_together() -> None:
    plan = plan_of(QWEN, **together(*WRONG.values()))
    assert {one.field for one in plan.problems} == set(WRONG)


def test_they_are_told_also_where_no_gpu_is_known() -> None:
    planned = server(QWEN, **together(*WRONG.values()))
    plan = make_plan(planned, inputs_for(planned, nodes_visible=True))
    assert {one.field for one in plan.problems} >= set(WRONG)
