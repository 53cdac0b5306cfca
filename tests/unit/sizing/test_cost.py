"""What a replica costs, and the profile Cost, which chooses by money."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import (
    LLAMA_8B,
    QWEN_0_6B,
    inputs_for,
    offer,
    plan_of,
    server,
)
from vllm_operator.api.performance import Cost
from vllm_operator.api.plan import Plan
from vllm_operator.hardware.prices import Prices
from vllm_operator.sizing.plan.difference import plan_difference
from vllm_operator.sizing.plan.planner import make_plan

H100, L4, L40S = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4", "NVIDIA-L40S"
OFFERS = (offer(H100, 79.18), offer(L40S, 44.4), offer(L4, 22.16))
PRICES = Prices("USD", ((H100, 3.0), (L4, 0.7), (L40S, 1.2)))
LOAD = {"promptTokens": 1000, "outputTokens": 250, "concurrency": 16}


def planned(
    prices: Prices = PRICES, preferred: str | None = None, model: str = LLAMA_8B, **spec: Any
) -> Plan:
    asked = server(model, **spec)
    given = inputs_for(asked, offers=OFFERS, prices=prices, preferred_product=preferred)
    plan = make_plan(asked, given)
    assert isinstance(plan, Plan)
    return plan


def cost(plan: Plan) -> Cost:
    assert plan.cost is not None
    return plan.cost


def not_taken(plan: Plan, product: str) -> str:
    return next(one.reason for one in plan.rejected if one.gpu == product)


def test_without_prices_nothing_is_said_of_costs() -> None:
    plan = planned(Prices())
    assert plan.cost is None
    assert plan.advice is None


def test_an_hour_of_a_replica_is_that_of_its_gpus() -> None:
    plan = planned(gpu={"product": H100}, parallelism={"tensor": 4})
    assert (cost(plan).currency, cost(plan).gpu_hour, cost(plan).hour) == ("USD", 3.0, 12.0)


def test_a_million_tokens_cost_the_hour_over_what_is_made_in_it() -> None:
    plan = planned(gpu={"product": H100}, workload=LOAD)
    assert plan.performance is not None
    made = plan.performance.output_tokens_per_second * 3600
    assert cost(plan).million_output_tokens == pytest.approx(3.0 / made * 1e6, rel=0.01)
    # 1,250 tokens of prompt and output for each 250 of output.
    assert cost(plan).million_tokens == pytest.approx(3.0 / made * 1e6 / 5, rel=0.01)


def test_a_gpu_whose_speed_is_unknown_costs_by_the_hour_alone() -> None:
    gpu = {"product": "my-card", "memoryGiB": 40, "perNode": 1}
    asked = server(QWEN_0_6B, gpu=gpu)
    plan = make_plan(asked, inputs_for(asked, prices=Prices("EUR", (("my-card", 0.5),))))
    assert isinstance(plan, Plan)
    assert plan.cost == Cost(currency="EUR", gpu_hour=0.5, hour=0.5)


def test_a_product_without_a_price_is_told() -> None:
    (advice,) = planned(Prices("USD", ((L4, 0.7),)), gpu={"product": H100}).advice or ()
    assert advice.field == "prices.perGPUHour"
    assert advice.message.startswith(f"has no price of {H100}")


def test_cost_takes_what_an_hour_costs_least_where_no_load_is_stated() -> None:
    plan = planned(workload={"profile": "Cost"}, model=QWEN_0_6B)
    assert plan.placement.gpu == L4
    assert not_taken(plan, H100) == "fits at 3 USD an hour; the one taken at 0.7"


def test_cost_takes_what_a_million_tokens_cost_least_with_a_load() -> None:
    plan = planned(workload={**LOAD, "concurrency": 128, "profile": "Cost"}, model=QWEN_0_6B)
    offered = {one: cost(planned(
        gpu={"product": one}, workload={**LOAD, "concurrency": 128}, model=QWEN_0_6B
    )).million_output_tokens for one in (H100, L40S, L4)}  # fmt: skip
    assert plan.placement.gpu == min(offered, key=lambda one: offered[one] or 0)
    other = next(one for one in offered if one != plan.placement.gpu)
    assert "USD for a million output tokens; the one taken at" in not_taken(plan, other)


def test_what_has_no_price_goes_last() -> None:
    plan = planned(Prices("USD", ((H100, 3.0),)), workload={"profile": "Cost"}, model=QWEN_0_6B)
    assert plan.placement.gpu == H100
    assert not_taken(plan, L4) == "fits, and no price of it is given (prices.perGPUHour)"


def test_two_cheap_gpus_go_before_a_dear_one() -> None:
    load = {"promptTokens": 6000, "outputTokens": 2000, "concurrency": 4, "profile": "Cost"}
    cheap = Prices("USD", ((H100, 9.0), (L4, 0.1), (L40S, 9.0)))
    plan = planned(cheap, workload=load)
    assert plan.placement.gpu == L4
    assert plan.placement.gpus_per_replica > 1


@pytest.mark.parametrize("profile", ["Balanced", "Throughput", "Latency", "LongContext"])
def test_prices_choose_nothing_in_other_profiles(profile: str) -> None:
    workload = {"profile": profile, **LOAD}
    with_prices, without = planned(workload=workload), planned(Prices(), workload=workload)
    assert plan_difference(without, with_prices) is None


def test_a_new_price_moves_no_server() -> None:
    first = planned(workload={"profile": "Cost"}, model=QWEN_0_6B)
    dearer = Prices("USD", ((H100, 3.0), (L4, 9.0), (L40S, 1.2)))
    again = planned(
        dearer, preferred=first.placement.gpu, workload={"profile": "Cost"}, model=QWEN_0_6B
    )
    assert plan_difference(first, again) is None
    anew = planned(dearer, workload={"profile": "Cost"}, model=QWEN_0_6B)
    assert anew.placement.gpu == L40S


def test_a_price_alone_is_no_difference_between_plans() -> None:
    plan = plan_of(LLAMA_8B)
    priced = planned(gpu={"product": H100, "perNode": 8})
    assert plan_difference(plan, priced) is None


def test_inputs_without_prices_are_pinned_as_they_were() -> None:
    asked = server(LLAMA_8B)
    assert "prices" not in inputs_for(asked).to_json_object()
