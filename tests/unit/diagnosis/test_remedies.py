"""What could be changed about what bounds a server, and at what cost."""

from __future__ import annotations

import pytest

from support.builders import make_plan
from vllm_operator.diagnosis.remedies import MEANS, remedies, tokens_of_memory
from vllm_operator.tuning.diagnosis import Bound


@pytest.mark.parametrize("bound", Bound)
def test_every_bound_has_words(bound: Bound) -> None:
    assert MEANS[bound]


@pytest.mark.parametrize("bound", [one for one in Bound if one is not Bound.NOTHING])
def test_every_bound_that_limits_has_something_to_change_with_its_cost(bound: Bound) -> None:
    found = list(remedies(bound, make_plan(), 2))
    assert found
    assert all(one.change and one.gives and one.costs for one in found)
    assert not any("{" in part for one in found for part in (one.change, one.gives, one.costs))


def test_a_server_that_nothing_limits_needs_no_change() -> None:
    assert list(remedies(Bound.NOTHING, make_plan(), 2)) == []


def test_a_change_of_a_flag_says_how_long_each_replica_takes_to_start() -> None:
    (one,) = remedies(Bound.SEQUENCES, make_plan(), 2)
    assert one.field == "spec.engine.maxNumSeqs"
    assert one.change == "more than 256"
    assert one.costs.endswith("every replica starts anew, about 120 s each")


def test_another_replica_costs_its_gpus_and_no_start_of_the_others() -> None:
    (one,) = remedies(Bound.SATURATED, make_plan(), 3)
    assert (one.change, one.costs) == ("more than 3", "2 GPUs for each")


def test_what_the_plan_has_already_is_not_offered() -> None:
    flag = {"name": "--kv-cache-dtype", "value": "fp8", "reason": "pinned"}
    offered = {one.field for one in remedies(Bound.KV_CACHE, make_plan(), 1)}
    left = {one.field for one in remedies(Bound.KV_CACHE, make_plan(flags=[flag]), 1)}
    assert offered - left == {"spec.engine.kvCacheDtype"}


def test_memory_is_turned_into_tokens_by_the_plans_own_ratio() -> None:
    plan = make_plan()
    whole = tokens_of_memory(plan, plan.memory.kv_cache.expected)
    assert whole == pytest.approx(plan.capacity.kv_tokens.expected)
