"""What the operator proposes for a server, and what keeps it from proposing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from unit.sizing.examples import inputs_for, offer, server
from vllm_operator.api.plan import Unplanned
from vllm_operator.controller.apply import Applier
from vllm_operator.controller.inputs import InputSource
from vllm_operator.controller.planning import Planner, settled, without_groups
from vllm_operator.errors import TemporaryFailure
from vllm_operator.hardware.prices import Prices
from vllm_operator.lifecycle.kept import Revisions
from vllm_operator.lifecycle.reading import revision_record
from vllm_operator.lifecycle.revisions import Pinned, controller_revision
from vllm_operator.manifests.planned import Planned, planned
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.asked.repairs import Repair
from vllm_operator.sizing.asked.tuned import UNTUNED, Tuned
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


QWEN = server("Qwen/Qwen3-0.6B", gpu=H100)
FRESH = inputs_for(QWEN)
LEARNED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a repair": {"repairs": (Repair("fewerSequences", 7, "the first"),)},
    "tuned values": {"tuned": Tuned("a trial", max_num_seqs=9)},
}


class Asked:
    """Stands for the sources of facts: what they say today, or that they are away."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.now = FRESH

    async def compare(self, *_: Any, **__: Any) -> PlanningInputs:
        if self.error is not None:
            raise self.error
        return self.now


def pinned(**learned: Any) -> Pinned:
    inputs = replace(FRESH, **learned)
    found = planned(QWEN, inputs)
    assert isinstance(found, Planned)
    body = controller_revision(QWEN, 1, inputs.to_json_object(), found)
    made = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    in_force = Revisions(
        [revision_record({**body, "metadata": {**body["metadata"], **made}})]
    ).in_force
    assert in_force is not None
    return in_force


def planner() -> tuple[Planner, Asked]:
    asked = Asked()
    return Planner(cast(InputSource, asked), cast(Applier, None)), asked


@pytest.mark.parametrize("learned", LEARNED)
async def test_what_a_plan_has_learned_is_no_difference_from_a_plan_of_today(learned: str) -> None:
    one, _ = planner()
    assert await one.update(QWEN, pinned(**LEARNED[learned]), live=False) is None


@pytest.mark.parametrize(
    ("learned", "forgotten"),
    [("a repair", {"repairs": ()}), ("tuned values", {"tuned": UNTUNED})],
)
def test_what_was_learned_makes_another_plan(learned: str, forgotten: dict[str, Any]) -> None:
    known = replace(FRESH, **LEARNED[learned])
    plans = [planned(QWEN, one).plan for one in (known, replace(known, **forgotten))]  # type: ignore[union-attr]
    assert plans[0].engine.command != plans[1].engine.command


async def test_while_a_source_is_away_the_difference_that_was_found_before_is_told() -> None:
    one, asked = planner()
    in_force = pinned()
    asked.now = replace(FRESH, default_image="vllm/vllm-openai:v0.20.0")
    found = await one.update(QWEN, in_force, live=False)
    assert found is not None
    asked.error = TemporaryFailure("away")
    assert await one.update(QWEN, in_force, live=False) == found


async def test_while_a_source_is_away_from_the_beginning_no_difference_is_told() -> None:
    one, asked = planner()
    asked.error = TemporaryFailure("away")
    assert await one.update(QWEN, pinned(), live=False) is None
