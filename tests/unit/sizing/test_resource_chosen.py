"""A specification that names a resource and no product takes a product of that resource."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.sizing.examples import QWEN_0_6B, inputs_for, offer, only_problem, server
from vllm_operator.api.plan import Plan, Unplanned
from vllm_operator.sizing.plan.planner import make_plan

WHOLE = offer("NVIDIA-H100-80GB-HBM3", 79)
SHARED = replace(offer("NVIDIA-L4", 22), resource_name="nvidia.com/gpu.other")


def planned(**gpu: Any) -> Plan | Unplanned:
    wanted = server(QWEN_0_6B, gpu=gpu)
    return make_plan(wanted, inputs_for(wanted, offers=(WHOLE, SHARED), nodes_visible=True))


@pytest.mark.parametrize(
    ("resource", "product"),
    [("nvidia.com/gpu", "NVIDIA-H100-80GB-HBM3"), ("nvidia.com/gpu.other", "NVIDIA-L4")],
)
def test_only_products_of_that_resource_are_looked_at(resource: str, product: str) -> None:
    plan = planned(resourceName=resource)
    assert plan.placement.gpu == product


def test_without_a_resource_all_are() -> None:
    assert planned(perNode=1).feasible


def test_a_resource_that_no_node_offers_is_told_with_those_that_are() -> None:
    field, reason, message = only_problem(planned(resourceName="example.com/gpu"))
    assert (field, reason) == ("spec.gpu.resourceName", "UnknownGPU")
    assert message == (
        "no node offers example.com/gpu; the nodes offer nvidia.com/gpu, nvidia.com/gpu.other"
    )
