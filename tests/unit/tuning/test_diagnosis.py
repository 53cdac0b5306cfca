"""What bounds a server, as told by its intervals."""

import pytest

from support.intervals import intervals
from vllm_operator.tuning.diagnosis import Bound, diagnose
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Knobs, Objective

KNOBS = Knobs(64, 8192, 0.9)
OBJECTIVE = Objective(time_to_first_token=1.0, inter_token_latency=0.02)
KEPT = {"slow_gaps": Between(0, 0), "slow_first_tokens": Between(0, 0)}
LATE_GAPS = {**KEPT, "slow_gaps": Between(747, 747)}
LATE_FIRST = {**KEPT, "slow_first_tokens": Between(3, 3)}


def bound(objective=OBJECTIVE, knobs=KNOBS, **given):
    found = diagnose(intervals(40, **{**KEPT, **given}), knobs, objective)
    assert found is not None
    return found.bound


def test_without_intervals_there_is_no_diagnosis():
    assert diagnose([], KNOBS) is None


def test_a_server_with_places_to_spare_is_bound_by_its_load():
    assert bound(running=20) is Bound.LOAD


def test_a_server_is_diagnosed_without_an_objective():
    assert bound(objective=None, running=20) is Bound.LOAD
    assert bound(objective=None, running=64, waiting=30) is Bound.SEQUENCES


def test_errors_come_first():
    assert bound(failed=1) is Bound.BROKEN


def test_what_is_known_from_elsewhere_is_told_in_its_words():
    found = diagnose(intervals(40), KNOBS, troubles={"a": "restarted as memory ran out"})
    assert found is not None
    assert found.first.message == "a: restarted as memory ran out"


@pytest.mark.parametrize(
    "given",
    [{"running": 40, "waiting": 9, "cache_usage": 0.97}, {"running": 60, "preemptions": 6}],
)
def test_a_full_cache_is_one_for_which_requests_wait_or_are_preempted(given):
    assert bound(**given) is Bound.KV_CACHE


def test_late_gaps_with_prompts_in_few_steps_are_the_batchs():
    # 30 prompts in 1000 steps: 3 %, and 5 % of gaps may be late.
    assert bound(running=60, **LATE_GAPS) is Bound.DECODE_LATENCY


def test_late_gaps_with_prompts_in_many_steps_are_the_prompts():
    # 100 prompts in 1000 steps: 9.5 %.
    assert bound(running=60, first_tokens=100, **LATE_GAPS) is Bound.PREFILL_INTERFERENCE


def test_late_first_tokens_with_full_steps_and_free_places_are_the_prompts_rate():
    # 490 prompt tokens and 7 generated ones a step, of 512.
    given = {"prompt_tokens": 490_000, "running": 50, **LATE_FIRST}
    assert bound(knobs=Knobs(64, 512, 0.9), **given) is Bound.PREFILL_RATE


def test_late_first_tokens_with_all_places_taken_want_more_of_them():
    assert bound(running=64, waiting=12, **LATE_FIRST) is Bound.SEQUENCES


def test_what_no_other_row_explains_is_saturated():
    assert bound(running=64, waiting=12, cache_usage=0.92, **LATE_FIRST) is Bound.SATURATED


def test_the_replicas_that_would_keep_up_are_told():
    given = {**LATE_FIRST, "running": 64, "waiting": 12, "cache_usage": 0.92}
    found = diagnose(intervals(40, **given), KNOBS, OBJECTIVE, replicas=3)
    assert found is not None
    assert found.first.message.endswith("3 replicas would keep up")


def test_pods_with_very_different_loads_are_uneven():
    ones = intervals(40, running=56, **KEPT) + intervals(40, pod="b", running=5, **KEPT)
    found = diagnose(ones, KNOBS, OBJECTIVE)
    assert found is not None
    assert found.bound is Bound.UNEVEN
    assert found.first.pod == "a"


def test_a_server_at_no_limit_and_not_idle_is_bound_by_nothing():
    assert bound(running=56) is Bound.NOTHING


def test_the_worst_pod_is_named_with_its_numbers():
    ones = intervals(40, running=20, **KEPT) + intervals(
        40, pod="b", running=64, waiting=30, **KEPT
    )
    found = diagnose(ones, KNOBS, OBJECTIVE)
    assert found is not None
    assert found.first.message == (
        "b: all 64 places are taken in 100.0 % of intervals and requests wait in 100.0 %, with "
        "2.0 % of the KV cache in use"
    )


def test_all_rows_are_told_in_the_order_in_which_they_are_looked_at():
    found = diagnose(intervals(40, running=20), KNOBS)
    assert found is not None
    order = [row.bound for row in found.rows]
    # The two that late gaps may mean are told apart by how many steps have prompts.
    assert order == list(Bound)
    assert found.holds(Bound.NOTHING)
    assert not found.holds(Bound.KV_CACHE)


def test_buckets_that_cannot_tell_break_no_objective():
    assert bound(running=20, slow_gaps=Between(0, 7000)) is Bound.LOAD
