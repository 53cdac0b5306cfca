"""What drafts do for speed: by the share that is accepted, the size of the draft and the load."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import EAGLE3, LLAMA_8B, QWEN_0_6B, only_problem, plan_of
from vllm_operator.api.performance import Drafts, Performance
from vllm_operator.api.plan import Plan

QWEN_32B = "Qwen/Qwen3-32B"
NGRAM = {"method": "ngram", "tokens": 3}
SMALL = {"method": "draft_model", "model": QWEN_0_6B, "tokens": 3}
LARGE = {"method": "draft_model", "model": QWEN_32B, "tokens": 3}
HEAD = {"method": "eagle3", "model": "example/eagle3", "config": EAGLE3, "tokens": 3}
LOAD = {"promptTokens": 600, "outputTokens": 100, "concurrency": 8}


def drafted(
    acceptance: float | None, speculative: dict[str, Any], model: str = QWEN_32B, **load: int
) -> Plan:
    workload: dict[str, Any] = LOAD | load
    if acceptance is not None:
        workload["draftAcceptance"] = acceptance
    return plan_of(model, workload=workload, engine={"speculative": speculative})


def speed(plan: Plan) -> Performance:
    assert plan.performance is not None
    return plan.performance


def drafts(plan: Plan) -> Drafts:
    found = speed(plan).drafts
    assert found is not None
    return found


def advised(plan: Plan) -> list[str]:
    return [one.message for one in plan.advice or () if one.field == "spec.engine.speculative"]


def test_without_a_share_the_figures_are_those_without_drafts() -> None:
    plain = speed(plan_of(QWEN_32B, workload=LOAD))
    found = speed(drafted(None, NGRAM))
    assert found.output_tokens_per_second == plain.output_tokens_per_second
    assert found.inter_token_latency == plain.inter_token_latency
    assert drafts(drafted(None, NGRAM)).output_tokens_per_second_without == (
        plain.output_tokens_per_second
    )


@pytest.mark.parametrize("speculative", [NGRAM, SMALL], ids=["ngram", "a draft model"])
def test_the_more_are_accepted_the_more_tokens_are_made(speculative: dict[str, Any]) -> None:
    shares = (0.0, 0.3, 0.6, 0.9)
    made = [speed(drafted(share, speculative)).output_tokens_per_second for share in shares]
    assert made == sorted(made)
    assert made[-1] > 1.5 * made[0]


def test_of_three_drafts_of_which_two_thirds_are_accepted_a_step_makes_three_tokens() -> None:
    assert drafts(drafted(2 / 3, NGRAM)).tokens_per_step == pytest.approx(3.0)


def test_drafts_that_are_never_accepted_cost() -> None:
    for speculative in (NGRAM, SMALL, LARGE):
        plan = drafted(0.0, speculative)
        assert speed(plan).output_tokens_per_second < (
            drafts(plan).output_tokens_per_second_without
        )


def test_from_the_share_that_is_told_on_they_pay() -> None:
    share = drafts(drafted(None, SMALL)).break_even_acceptance
    assert share is not None
    assert 0.1 < share < 0.6
    for other, pays in ((share + 0.02, True), (share - 0.02, False)):
        plan = drafted(other, SMALL)
        more = speed(plan).output_tokens_per_second >= (
            drafts(plan).output_tokens_per_second_without
        )
        assert more is pays


def test_a_request_alone_gains_most() -> None:
    def gain(concurrency: int) -> float:
        plan = drafted(0.7, SMALL, concurrency=concurrency)
        without = drafts(plan).output_tokens_per_second_without
        return speed(plan).output_tokens_per_second / without

    assert gain(1) > 1.8
    assert gain(1) > gain(16) > gain(128)


def test_a_smaller_draft_costs_less() -> None:
    small, large = drafts(drafted(None, SMALL)), drafts(drafted(None, LARGE))
    assert small.weight_share is not None
    assert large.weight_share is not None
    assert small.weight_share < 0.05
    assert large.weight_share == pytest.approx(1.0)
    assert drafts(drafted(None, NGRAM)).weight_share is None


def test_a_draft_as_large_as_its_model_cannot_pay_and_is_told_so() -> None:
    plan = drafted(None, LARGE)
    assert drafts(plan).break_even_acceptance is None
    (message,) = advised(plan)
    assert message.startswith("drafts cannot pay with 8 requests of 600 + 100 tokens at once")
    assert "a pass of the draft reads 100% of the bytes of one of the model" in message


def test_too_few_accepted_are_told_with_the_share_that_pays() -> None:
    (message,) = advised(drafted(0.1, SMALL))
    assert message.startswith("drafts do not pay with 8 requests of 600 + 100 tokens at once: 10%")
    assert advised(drafted(0.7, SMALL)) == []


def test_outputs_too_short_for_drafts_are_told() -> None:
    (message,) = advised(drafted(0.9, SMALL, outputTokens=3, concurrency=1))
    assert message.startswith("outputs of 3 tokens are too short for drafts to pay")
    assert advised(drafted(0.9, SMALL, outputTokens=100, concurrency=1)) == []


def test_a_head_costs_a_layer_and_not_a_model() -> None:
    found = drafts(drafted(0.5, HEAD, model=LLAMA_8B))
    assert found.weight_share is not None
    assert 0.02 < found.weight_share < 0.15


def test_no_range_is_claimed_with_drafts() -> None:
    assert speed(drafted(0.5, NGRAM)).ranges is None
    assert speed(drafted(None, NGRAM)).ranges is not None


def test_a_share_without_drafts_is_refused() -> None:
    problem = only_problem(plan_of(QWEN_32B, workload={**LOAD, "draftAcceptance": 0.5}))
    field, reason, message = problem
    assert (field, reason) == ("spec.workload.draftAcceptance", "IllegalPin")
    assert message == "is 0.5, and nothing is drafted; set spec.engine.speculative, or remove it"


def test_a_share_moves_no_argument_and_no_byte() -> None:
    without, found = drafted(None, SMALL), drafted(0.7, SMALL)
    assert found.engine == without.engine
    assert found.memory == without.memory
    assert found.placement == without.placement
