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


FULL = {"cache_usage": 0.96, "waiting": 1, "running": 60}
PROMPTS = {"running": 50, **LATE_FIRST, "prompt_tokens": 490_000}
SMALL_STEPS = Knobs(64, 512, 0.9)
BEHIND = {"running": 64, "waiting": 1, "cache_usage": 0.92}


@pytest.mark.parametrize(
    ("some", "others", "at", "expected"),
    [
        # (given of some intervals, of the others), so many of 200, what bounds the server
        ({"failed": 1}, {"running": 20}, 60, Bound.LOAD),  # 1 % of the requests
        ({"failed": 1}, {"running": 20}, 61, Bound.BROKEN),
        ({"running": 20, "waiting": 1}, {"running": 20}, 1, Bound.LOAD),
        ({"running": 20, "waiting": 1}, {"running": 20}, 2, Bound.NOTHING),  # 1 %
        ({"running": 51}, {}, 200, Bound.LOAD),
        ({"running": 51.2}, {}, 200, Bound.NOTHING),  # 80 % of 64
        ({"running": 20, "waiting": 31.2}, {}, 200, Bound.NOTHING),
        (FULL, {"running": 60}, 20, Bound.NOTHING),
        (FULL, {"running": 60}, 21, Bound.KV_CACHE),  # more than 10 %
        ({**FULL, "cache_usage": 0.95}, {}, 200, Bound.NOTHING),
        ({**FULL, "running": 9, "cache_usage": 0.9}, {}, 200, Bound.NOTHING),
        ({**FULL, "running": 9, "cache_usage": 0.901}, {}, 200, Bound.KV_CACHE),  # a tenth of it
        ({**FULL, **LATE_FIRST}, {"running": 60, **LATE_FIRST}, 10, Bound.SATURATED),
        ({**FULL, **LATE_FIRST}, {"running": 60, **LATE_FIRST}, 11, Bound.KV_CACHE),  # 5 %
        ({**FULL, "running": 64, "waiting": 0}, {}, 200, Bound.NOTHING),
        ({"running": 60, "preemptions": 3}, {}, 200, Bound.NOTHING),  # of 30 requests
        ({"running": 60, "preemptions": 3.1}, {}, 200, Bound.KV_CACHE),
        ({"running": 20, "slow_gaps": Between(373, 7000)}, {}, 200, Bound.LOAD),
        ({"running": 20, "slow_gaps": Between(374, 7000)}, {}, 200, Bound.DECODE_LATENCY),
        ({"first_tokens": 51, "running": 60, "slow_gaps": Between(747, 747)}, {}, 200,
         Bound.DECODE_LATENCY),
        ({"first_tokens": 52, "running": 60, "slow_gaps": Between(747, 747)}, {}, 200,
         Bound.PREFILL_INTERFERENCE),
        ({"running": 20, "slow_first_tokens": Between(1.5, 30)}, {}, 200, Bound.LOAD),
        ({"running": 20, "slow_first_tokens": Between(1.6, 30)}, {}, 200, Bound.SATURATED),
        ({**LATE_FIRST, "running": 61}, {**LATE_FIRST, "running": 50}, 100, Bound.SATURATED),
        ({**LATE_FIRST, "running": 61}, {**LATE_FIRST, "running": 50}, 101, Bound.SEQUENCES),
        ({**LATE_FIRST, "running": 60.7}, {}, 200, Bound.SATURATED),
        ({**LATE_FIRST, "running": 60.8}, {}, 200, Bound.SEQUENCES),  # 95 % of 64
        ({**LATE_FIRST, "running": 64, "cache_usage": 0.89}, {}, 200, Bound.SEQUENCES),
        ({**LATE_FIRST, "running": 64, "cache_usage": 0.9}, {}, 200, Bound.SATURATED),
        ({"running": 64, "waiting": 1}, {"running": 64}, 100, Bound.NOTHING),
        ({"running": 64, "waiting": 1}, {"running": 64}, 101, Bound.SEQUENCES),
        ({**BEHIND, "rejected": 1}, BEHIND, 120, Bound.NOTHING),  # 2 of 100 that are answered
        ({**BEHIND, "rejected": 1}, BEHIND, 121, Bound.SATURATED),
    ],
)  # fmt: skip
def test_each_row_of_the_table_holds_from_its_own_share_on(some, others, at, expected):
    ones = intervals(200, **{**KEPT, **others})
    ones[:at] = intervals(at, **{**KEPT, **others, **some})
    found = diagnose(ones, KNOBS, OBJECTIVE)
    assert found is not None
    assert found.bound is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prompt_tokens": 453_000}, Bound.SATURATED),
        ({"prompt_tokens": 454_000}, Bound.PREFILL_RATE),  # 461 of the 512 tokens of a step
        ({"running": 61}, Bound.SEQUENCES),
    ],
)
def test_prompts_rate_bounds_where_steps_are_full_and_places_are_free(given, expected):
    assert bound(knobs=SMALL_STEPS, **{**PROMPTS, **given}) is expected


@pytest.mark.parametrize(
    ("first", "expected"), [(32, "DecodeLatency"), (33, "PrefillInterference")]
)
def test_prompts_that_take_several_steps_are_in_as_many_of_them(first, expected):
    # Prompts of 800 tokens take 1.59 steps of 504.5 tokens: 33 are in 5.1 % of 1,000 steps.
    given = {"running": 60, "first_tokens": first, "prompt_tokens": 800 * first, **LATE_GAPS}
    assert bound(knobs=SMALL_STEPS, **given) == expected


@pytest.mark.parametrize(("other", "expected"), [(18.7, Bound.NOTHING), (18.6, Bound.UNEVEN)])
def test_three_times_as_many_requests_in_one_pod_are_uneven(other, expected):
    ones = intervals(40, running=56, **KEPT) + intervals(40, pod="b", running=other, **KEPT)
    found = diagnose(ones, KNOBS, OBJECTIVE)
    assert found is not None
    assert found.bound is expected


def test_a_handful_of_requests_is_not_uneven():
    ones = intervals(40, running=2.7, **KEPT) + intervals(40, pod="b", running=0.1, **KEPT)
    found = diagnose(ones, Knobs(3, 8192, 0.9), OBJECTIVE)
    assert found is not None
    assert found.bound is Bound.NOTHING


def test_each_row_says_what_was_seen_with_its_numbers():
    ones = intervals(
        40,
        running=60,
        waiting=3,
        cache_usage=0.4,
        preemptions=1.5,
        failed=0.6,
        slow_gaps=Between(747, 800),
        slow_first_tokens=Between(6, 9),
    )
    found = diagnose(ones, KNOBS, OBJECTIVE, replicas=5)
    assert found is not None
    assert [row.message for row in found.rows] == [
        "a: 2.0 % of requests ended with an error",
        "a: requests wait in 100.0 % of intervals, and at most 63 of 64 places are asked for; an "
        "objective is broken",
        "a: 40.0 % of the KV cache is in use, requests wait for it in 0.0 % of intervals, and 0.05 "
        "preemptions come on a request",
        "a: 10.0 % of gaps between tokens are longer than 20 ms, and 5.0 % may be; 3.0 % of steps "
        "carry a piece of a prompt, with 7 requests generating in a step",
        "a: 10.0 % of gaps between tokens are longer than 20 ms, and 5.0 % may be; 3.0 % of steps "
        "carry a piece of a prompt, for which others wait",
        "a: 20.0 % of first tokens take longer than 1000 ms, and 5.0 % may; 0.4 % of the tokens of "
        "a step are used",
        "a: all 64 places are taken in 0.0 % of intervals and requests wait in 100.0 %, with "
        "40.0 % of the KV cache in use",
        "a: 0.00 requests a second more than the 2.00 that are answered; 5 replicas would keep up",
        "a: 63.0 requests in flight, and 63.0 in a",
        "a: at most 63 of 64 places are asked for, and nothing is at a limit",
    ]
