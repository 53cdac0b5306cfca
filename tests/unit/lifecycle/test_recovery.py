"""Which plan is repaired, by how much, and when not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.builders import make_plan, make_server, make_sized
from support.observed import ENDING, FAILED, PLAN
from vllm_operator.controller.boot import Diagnosis
from vllm_operator.engine.failures import Failure
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.lifecycle.recovery import (
    Past,
    Patience,
    Verdict,
    decide,
    patience,
    trouble,
)
from vllm_operator.lifecycle.revisions import Abandoned, Pinned
from vllm_operator.sizing.asked.repairs import Repair

MEMORY: dict[str, Any] = {
    "total": 80 << 30,
    "utilization": 0.92,
    "budget": 73 << 30,
    "weights": 8 << 30,
    "activationPeak": 1 << 30,
    "cudaGraphs": 0,
    "nonTorch": 0,
    "kvCache": {"expected": 64 << 30, "low": 62 << 30},
    "margin": 2 << 30,
    "outsideBudget": 1 << 30,
    "freeAtStart": {"expected": 79 << 30, "low": 78 << 30},
}
IN_FORCE = replace(PLAN, sized=make_sized(memory=MEMORY))
SMALL = Failure(
    "KVCacheTooSmall",
    "one request is too large",
    "lower it",
    passes=False,
    repair="shorterMaxModelLen",
    numbers={"estimated": "20000"},
)
TAKEN = Failure(
    "GPUMemoryTaken",
    "little is free",
    "end what uses it",
    repair="lowerUtilization",
    after=2,
    numbers={"free": "70.00", "total": "79.18"},
)
GRAPHS = Failure(
    "GPUOutOfMemory",
    "no room",
    "lower it",
    repair="lowerUtilization",
    numbers={"tried": "1.02 GiB"},
)
SAMPLER = Failure("GPUOutOfMemory", "no room", "lower it", passes=False, repair="fewerSequences")


def verdict(
    failure: Failure, made: int = 0, *, ends: int = 2, ready: bool = False, **spec: Any
) -> Verdict:
    before = [Repair("fewerSequences", 1, "")] * made
    pods = [FAILED, replace(FAILED, name="other", uid="o", ready=ready)]
    diagnosis = Diagnosis(failure, ends)
    return decide(make_server(**spec).spec, IN_FORCE, before, diagnosis, pods)


def repair(failure: Failure, **options: Any) -> Repair:
    found = verdict(failure, **options).repair
    assert found is not None
    return found


def test_the_length_follows_from_vllm_s_own_estimate_and_stays_below_it() -> None:
    assert repair(SMALL).limit == 19_456
    assert repair(SMALL).limit < 20_000


def test_the_reason_counts_the_repairs_and_names_both_values() -> None:
    assert repair(SMALL, made=1).reason == (
        "repair 2 of 3: lowered from 32768 to 19456 after a failed start, where one request is "
        "too large"
    )


@pytest.mark.parametrize(
    ("failure", "engine", "field"),
    [
        (SMALL, {"maxModelLen": 32768}, "spec.engine.maxModelLen"),
        (TAKEN, {"gpuMemoryUtilization": 0.92}, "spec.engine.gpuMemoryUtilization"),
        (SAMPLER, {"maxNumSeqs": 256}, "spec.engine.maxNumSeqs"),
    ],
)
def test_a_pin_is_left_alone_and_named(failure: Failure, engine: Any, field: str) -> None:
    found = verdict(failure, engine=engine)
    assert found.repair is None
    assert field in found.refusal


def test_after_three_repairs_there_is_no_fourth() -> None:
    found = verdict(SMALL, made=3)
    assert found.repair is None
    assert "3 repairs of the plan have not helped" in found.refusal
    assert trouble(SMALL, found).stops


def test_what_may_pass_is_waited_for_also_when_the_repairs_are_used_up() -> None:
    found = trouble(TAKEN, verdict(TAKEN, made=3))
    assert not found.stops
    assert "3 repairs of the plan have not helped" in found.message


def test_a_plan_that_a_replica_serves_with_is_kept() -> None:
    found = verdict(SMALL, ready=True)
    assert found.repair is None
    assert "another replica serves" in found.refusal


def test_an_engine_that_had_served_is_started_again_as_it_is() -> None:
    diagnosis = Diagnosis(SMALL, ends=3, served=True)
    assert decide(make_server().spec, IN_FORCE, [], diagnosis, [FAILED]) == Verdict()


def test_what_may_pass_by_itself_is_given_a_second_start() -> None:
    assert verdict(TAKEN, ends=1) == Verdict(waits=True)
    assert repair(TAKEN, ends=2).limit == pytest.approx(0.88)


def test_a_utilization_that_somebody_else_s_process_would_take_is_not_given_up() -> None:
    taken = replace(TAKEN, numbers={"free": "40.00", "total": "79.18"})
    found = verdict(taken)
    assert found.repair is None
    assert "somebody else" in found.refusal


def test_room_for_graphs_is_made_by_a_lower_utilization() -> None:
    assert repair(GRAPHS).limit == pytest.approx(0.89)


def test_an_allocation_of_a_large_part_of_the_gpu_is_not_made_room_for() -> None:
    found = verdict(replace(GRAPHS, numbers={"tried": "20.00 GiB"}))
    assert found.repair is None


def test_sequences_are_halved_where_the_engine_names_no_number() -> None:
    assert repair(SAMPLER).limit == 128


def test_sequences_follow_the_number_that_the_engine_names() -> None:
    assert repair(replace(SAMPLER, numbers={"blocks": "93"})).limit == 93


def test_a_repair_never_goes_below_the_expected_load() -> None:
    workload = {"promptTokens": 24_000, "outputTokens": 1000, "concurrency": 200}
    assert "25000" in verdict(SMALL, workload=workload).refusal
    assert "asks for 200" in verdict(SAMPLER, workload=workload).refusal


def test_requests_too_short_to_be_worth_serving_are_no_repair() -> None:
    assert verdict(replace(SMALL, numbers={"estimated": "500"})).repair is None


def limit(failure: Failure, plan: Any = IN_FORCE, **spec: Any) -> float | None:
    """What the repair lowers its limit to; None where there is none."""
    pods = [FAILED]
    found = decide(make_server(**spec).spec, plan, [], Diagnosis(failure, 2), pods).repair
    return None if found is None else found.limit


EXACT = {"promptTokens": 4000, "outputTokens": 96}
ONE_MORE = {"promptTokens": 4000, "outputTokens": 97}
WITHOUT_OUTPUT = {"promptTokens": 4097}


@pytest.mark.parametrize(
    ("estimated", "workload", "length"),
    [
        (4205, {}, 4096),  # 4,120 after what is spared: down to a multiple of 256
        (4174, {}, 4080),  # 4,090: below 4,096 down to whole blocks of 16
        (4205, EXACT, 4096),
        (4205, ONE_MORE, None),
        (4205, WITHOUT_OUTPUT, None),
        (1045, {}, 1024),  # the shortest that is worth serving
        (1044, {}, None),
        (33_436, {}, 32_512),
        (33_437, {}, None),  # no less than the 32,768 of the plan
    ],
)
def test_a_length_is_whole_steps_of_what_fits_and_no_shorter_than_what_is_needed(
    estimated: int, workload: dict[str, int], length: int | None
) -> None:
    refused = replace(SMALL, numbers={"estimated": str(estimated)})
    assert limit(refused, workload=workload) == length


def test_a_plan_of_shorter_requests_than_are_worth_serving_is_repaired_to_its_own_length() -> None:
    capacity = {**make_plan().to_json_object()["capacity"], "maxModelLen": 512}
    short = replace(IN_FORCE, sized=make_sized(memory=MEMORY, capacity=capacity))
    for estimated in ("521", "523"):  # 510 are below its 512 tokens, which are all that is needed
        assert limit(replace(SMALL, numbers={"estimated": estimated}), short) is None


@pytest.mark.parametrize(
    ("numbers", "share"),
    [
        ({"free": "88.06", "total": "100.00"}, 0.88),
        ({"free": "88.04", "total": "100.00"}, 0.87),  # the last digit was rounded
        ({"free": "82.06", "total": "100.00"}, 0.82),  # a tenth of the GPU is left to others
        ({"free": "82.04", "total": "100.00"}, None),
        ({"free": "92.04", "total": "100.00"}, 0.91),
        ({"free": "92.06", "total": "100.00"}, None),  # no less than the 0.92 of the plan
        ({}, 0.89),
        ({"tried": "2.00 GiB"}, 0.89),  # 0.025 of the GPU's 80 GiB
        ({"tried": "2.50 GiB"}, 0.88),  # 0.031
        ({"tried": "2560.00 MiB"}, 0.88),
        ({"tried": "2621440.00 KiB"}, 0.88),
        ({"tried": "12.00 GiB"}, 0.77),  # 0.15
        ({"tried": "12.01 GiB"}, None),
    ],
)
def test_a_utilization_leaves_what_was_missing_up_to_what_is_anybody_s(
    numbers: dict[str, str], share: float | None
) -> None:
    assert limit(replace(GRAPHS, numbers=numbers)) == share


@pytest.mark.parametrize(
    ("before", "blocks", "workload", "sequences"),
    [
        (256, None, {}, 128),
        (256, "255", {}, 255),
        (256, "256", {}, None),  # no fewer
        (256, "16", {}, 16),
        (256, "15", {}, None),
        (20, None, {}, 10),  # half of few
        (20, "9", {}, None),
        (256, "47", {"concurrency": 93}, 47),  # of 93 requests each of two ranks has 47
        (256, "46", {"concurrency": 93}, None),
    ],
)
def test_sequences_are_as_many_as_fit_and_no_fewer_than_each_rank_needs(
    before: int, blocks: str | None, workload: dict[str, int], sequences: int | None
) -> None:
    plan = make_plan().to_json_object()
    capacity = {**plan["capacity"], "maxNumSeqs": before}
    placement = {**plan["placement"], "tensor": 1, "data": 2}
    sized = make_sized(memory=MEMORY, capacity=capacity, placement=placement)
    failure = replace(SAMPLER, numbers={"blocks": blocks} if blocks else {})
    assert limit(failure, replace(IN_FORCE, sized=sized), workload=workload) == sequences


def test_a_failure_that_only_an_edit_mends_stops_at_once() -> None:
    failure = replace(SMALL, repair="none")
    found = trouble(failure, verdict(failure))
    assert found.stops
    assert found.message == "one request is too large; lower it"


def test_the_refusal_stands_in_the_message() -> None:
    found = trouble(SMALL, verdict(SMALL, engine={"maxModelLen": 32768}))
    assert found.message.endswith(
        "spec.engine.maxModelLen is pinned, so that the operator does not change it"
    )


def test_a_container_that_has_not_ended_often_enough_is_not_counted_as_stopped() -> None:
    assert not trouble(replace(TAKEN, passes=False), verdict(TAKEN, ends=1)).stops
    assert ENDING.ends == 1


DOWN = datetime.fromisoformat("2026-01-01T10:10:00Z")
OLD = replace(FAILED, name="old", uid="old", template="1-b", created_at="", ready=True)
CRASHED = replace(FAILED, waiting_reason="CrashLoopBackOff")
LOADING = replace(FAILED, name="other", uid="o", ending=None, started_at="2026-01-01T10:00:02Z")
BEFORE = replace(IN_FORCE, name="qwen-0")
"""The plan of another specification, with which the server was ready."""


def left(
    *pods: PodRecord,
    good: Pinned | None = None,
    ends: int = 2,
    stops: bool = True,
    served: bool = False,
    after: float = 0.0,
) -> Patience:
    past = Past(served=served, good=good, down_since=DOWN)
    now = DOWN + timedelta(seconds=after)
    return patience(IN_FORCE, past, pods or (CRASHED,), Diagnosis(SMALL, ends), stops, now)


def test_a_plan_that_cannot_work_is_given_up_after_its_second_start() -> None:
    assert left(ends=1) == Patience(hopes=True)
    assert left(ends=2).is_over


def test_a_plan_that_cannot_work_does_not_wait_for_another_replica_of_the_plan_before() -> None:
    assert left(CRASHED, OLD, good=BEFORE, ends=1) == Patience(hopes=True)


def test_a_specification_that_has_served_is_never_given_up() -> None:
    assert left(served=True, after=3000) == Patience(hopes=True)
    crashed = Diagnosis(SMALL, 9, served=True)
    late = DOWN + timedelta(seconds=3000)
    assert not patience(IN_FORCE, Past(good=BEFORE), [CRASHED], crashed, True, late).is_over


def test_a_plan_that_another_replica_serves_or_loads_with_is_not_given_up() -> None:
    assert left(CRASHED, replace(LOADING, ready=True)) == Patience(hopes=True)
    assert left(CRASHED, LOADING) == Patience(hopes=True)


def test_workers_of_a_group_do_not_count_as_replicas_that_serve() -> None:
    worker = replace(LOADING, ready=True, leads=False)
    assert left(CRASHED, worker).is_over


def test_a_pod_of_a_plan_before_that_serves_is_only_left_for_a_plan_to_go_back_to() -> None:
    assert left(CRASHED, OLD) == Patience()
    assert left(CRASHED, OLD, good=BEFORE).is_over


def test_what_may_pass_by_itself_is_waited_for_while_another_plan_serves_or_none_did() -> None:
    late = 3000
    assert left(stops=False, after=late) == Patience()
    assert left(CRASHED, OLD, good=BEFORE, stops=False, after=late) == Patience()


def test_an_outage_by_a_new_plan_is_bounded_whatever_stops_it() -> None:
    early = left(good=BEFORE, stops=False, after=60)
    assert early == Patience(look_again=240)
    assert left(good=BEFORE, stops=False, after=299) == Patience(look_again=1)
    assert left(good=BEFORE, stops=False, after=300) == Patience(is_over=True)


def test_an_outage_is_bounded_also_where_no_pod_comes_to_be() -> None:
    past = Past(good=BEFORE, down_since=DOWN)
    late = DOWN + timedelta(seconds=300)
    assert patience(IN_FORCE, past, [], Diagnosis(SMALL), False, late).is_over


def test_an_outage_of_before_the_plan_is_not_counted_against_it() -> None:
    past = Past(good=BEFORE, down_since=DOWN - timedelta(days=7))
    now = datetime.fromisoformat("2026-01-01T10:01:01Z")  # CRASHED was made at 10:00:01
    found = patience(IN_FORCE, past, [CRASHED], Diagnosis(TAKEN), False, now)
    assert found == Patience(look_again=240)
    older = replace(IN_FORCE, created_at="2025-12-01T10:00:00Z")
    scaled_up = patience(older, past, [CRASHED], Diagnosis(TAKEN), False, now)
    assert scaled_up == Patience(look_again=240)


def test_a_clock_ahead_of_the_operator_s_does_not_prolong_an_outage() -> None:
    past = Past(good=BEFORE, down_since=DOWN)
    ahead = replace(IN_FORCE, created_at="2026-01-01T11:00:00Z")
    late = DOWN + timedelta(seconds=300)
    assert patience(ahead, past, [], Diagnosis(TAKEN), False, late).is_over


def test_a_start_that_loads_is_not_cut_off_for_one_that_failed_before_it() -> None:
    second = replace(FAILED, started_at="2026-01-01T10:00:02Z")
    assert left(second, good=BEFORE, stops=False, after=3000) == Patience()


def test_for_want_of_a_node_a_plan_only_makes_room_for_one_that_takes_fewer_gpus() -> None:
    waiting = replace(FAILED, scheduled=False, ending=None, unschedulable_since="2026")
    late = DOWN + timedelta(seconds=300)
    past = Past(good=BEFORE, down_since=DOWN)
    assert not patience(IN_FORCE, past, [waiting], None, False, late).is_over
    placement = {**make_plan().to_json_object()["placement"], "gpusPerReplica": 1}
    past = replace(past, good=replace(BEFORE, sized=make_sized(placement=placement)))
    assert patience(IN_FORCE, past, [waiting], None, False, late).is_over


@pytest.mark.parametrize(
    ("change", "over"),
    [
        ({"gpusPerReplica": 1}, True),
        ({"gpusPerReplica": 2}, False),
        ({"gpusPerReplica": 1, "gpu": "NVIDIA-L4"}, False),
    ],
)
def test_only_fewer_gpus_of_the_same_product_may_find_a_node_where_more_do_not(
    change: dict[str, Any], over: bool
) -> None:
    waiting = replace(FAILED, scheduled=False, ending=None, unschedulable_since="2026")
    placement = {**make_plan().to_json_object()["placement"], **change}
    good = replace(BEFORE, sized=make_sized(placement=placement))
    late = DOWN + timedelta(seconds=300)
    past = Past(good=good, down_since=DOWN)
    assert patience(IN_FORCE, past, [waiting], None, False, late).is_over is over


def test_a_plan_that_asks_for_nodes_that_do_not_exist_makes_room_for_the_one_before_it() -> None:
    waiting = replace(FAILED, scheduled=False, ending=None, unschedulable_since="2026")
    late = DOWN + timedelta(seconds=300)
    asked = replace(IN_FORCE, spec=make_server(pod={"nodeSelector": {"zone": "typo"}}).spec)
    past = Past(good=BEFORE, down_since=DOWN)
    assert patience(asked, past, [waiting], None, False, late).is_over
    of_the_platform = {"defaults": {"pod": {"nodeSelector": {"zone": "typo"}}}}
    given = replace(IN_FORCE, inputs={**IN_FORCE.inputs, **of_the_platform})
    assert patience(given, past, [waiting], None, False, late).is_over


def test_a_plan_is_given_up_once() -> None:
    given_up = replace(
        IN_FORCE, abandoned=Abandoned(IN_FORCE.spec, None, "OOMKilled", "", stopped=False)
    )
    assert not patience(given_up, Past(), [CRASHED], Diagnosis(SMALL, 9), True, DOWN).is_over


def test_a_plan_is_not_repaired_while_another_pod_loads_with_it() -> None:
    pods = [FAILED, LOADING]
    found = decide(make_server().spec, IN_FORCE, [], Diagnosis(SMALL, 2), pods)
    assert found == Verdict(waits=True)
