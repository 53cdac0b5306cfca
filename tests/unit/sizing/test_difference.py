"""When another plan is a reason to move, and when it is as good as the one before."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_plan
from vllm_operator.api.plan import Plan
from vllm_operator.sizing.plan.difference import is_a_tie, is_cheaper, plan_difference

BEFORE = make_plan()


def plan_with(capacity: dict[str, Any] | None = None, **placement: Any) -> Plan:
    document = BEFORE.to_json_object()
    return make_plan(
        placement=document["placement"] | placement,
        capacity=document["capacity"] | (capacity or {}),
    )


def test_as_many_gpus_of_another_product_for_requests_as_long_are_no_reason_to_move() -> None:
    assert is_a_tie(BEFORE, plan_with(gpu="NVIDIA-H200"))


@pytest.mark.parametrize(
    "after",
    [
        plan_with(),
        plan_with(gpu="NVIDIA-H200", gpusPerReplica=1, tensor=1),
        plan_with({"maxModelLen": 65536}, gpu="NVIDIA-H200"),
    ],
    ids=["the same product", "fewer GPUs", "longer requests"],
)
def test_what_differs_in_more_or_less_than_the_product_is_no_tie(after: Plan) -> None:
    assert not is_a_tie(BEFORE, after)


def with_defaults(**values: str) -> Plan:
    given = [{"field": f"spec.engine.env[{name}]", "value": one} for name, one in values.items()]
    return make_plan(defaults=given or None)


def test_defaults_of_the_platform_are_told_by_their_fields() -> None:
    before = with_defaults(A="same", B="old", C="gone")
    after = with_defaults(A="same", B="new", D="added")
    assert plan_difference(before, after) == (
        "the platform's default of spec.engine.env[B] old -> new; "
        "the platform's default of spec.engine.env[C] gone -> unset; "
        "the platform's default of spec.engine.env[D] unset -> added"
    )


def paid(hour: float | None, million: float | None = None) -> Plan:
    if hour is None:
        return make_plan()
    cost = {"currency": "USD", "gpuHour": hour, "hour": hour, "millionOutputTokens": million}
    return make_plan(cost={name: value for name, value in cost.items() if value is not None})


@pytest.mark.parametrize(
    ("one", "other", "cheaper"),
    [
        (paid(1.0), paid(2.0), True),
        (paid(2.0), paid(2.0), False),
        (paid(3.0, 0.2), paid(1.0, 0.5), True),
        (paid(1.0, 0.5), paid(3.0, 0.2), False),
        (paid(1.0), paid(3.0, 0.2), True),
        (paid(1.0), paid(None), False),
        (paid(None), paid(1.0), False),
    ],
    ids=[
        "by the hour",
        "as dear",
        "by tokens",
        "dearer by tokens",
        "where one says no tokens",
        "than an unknown price",
        "an unknown price",
    ],
)
def test_a_plan_is_cheaper_for_its_tokens_else_for_its_hour(
    one: Plan, other: Plan, cheaper: bool
) -> None:
    assert is_cheaper(one, other, by_tokens=True) is cheaper


def test_tokens_of_unlike_loads_are_not_compared() -> None:
    assert is_cheaper(paid(1.0, 0.5), paid(3.0, 0.2), by_tokens=False)
