"""What the operator proposes for a server, and what keeps it from proposing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unit.sizing.examples import inputs_for, offer, server
from vllm_operator.api.plan import Unplanned
from vllm_operator.controller.planning import settled, without_groups
from vllm_operator.hardware.prices import Prices
from vllm_operator.manifests.planned import Planned, planned
from vllm_operator.sizing.plan.difference import plan_difference

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


LOAD = {"profile": "Cost", "concurrency": 8}
OFFERS = (offer("NVIDIA-L40S", 44.4), offer("NVIDIA-RTX-A6000", 47.5))


def moved(prices: Prices, profile: str = "Cost") -> str | None:
    """What a new plan would change of a server that runs on an RTX A6000, at these prices."""
    wanted = server("Qwen/Qwen3-8B", workload={**LOAD, "profile": profile})
    pinned = inputs_for(wanted, offers=OFFERS, preferred_product="NVIDIA-RTX-A6000")
    before = planned(wanted, pinned)
    assert isinstance(before, Planned)
    now = replace(pinned, prices=prices, preferred_product=None)
    found = planned(wanted, now)
    assert isinstance(found, Planned)
    return plan_difference(before.plan, settled(wanted, before.plan, found, now).plan)


def test_where_the_price_decides_a_cheaper_product_is_told() -> None:
    cheap = Prices("USD", (("NVIDIA-L40S", 0.5), ("NVIDIA-RTX-A6000", 2.0)))
    assert "1 x NVIDIA-RTX-A6000 -> 1 x NVIDIA-L40S" in str(moved(cheap))


def test_where_the_price_decides_a_dearer_one_is_not() -> None:
    dear = Prices("USD", (("NVIDIA-L40S", 9.0), ("NVIDIA-RTX-A6000", 0.1)))
    assert moved(dear) is None


def test_where_the_price_decides_nothing_a_cheaper_product_is_not_told() -> None:
    cheap = Prices("USD", (("NVIDIA-L40S", 0.5), ("NVIDIA-RTX-A6000", 2.0)))
    assert moved(cheap, profile="Balanced") is None
