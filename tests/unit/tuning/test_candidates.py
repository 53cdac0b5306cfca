"""Which settings may be tried: within bounds, without pins, and far enough from what runs."""

from dataclasses import replace

import pytest

from support.served import CHAT, offered
from vllm_operator.engine.graphs import Graphs
from vllm_operator.tuning.candidates import (
    Range,
    Rules,
    candidates,
    caps,
    changed,
    distance,
    rejected,
)
from vllm_operator.tuning.knobs import Knobs

HERE = Knobs(256, 2048, 0.9)
SEQUENCES = Rules(pinned_tokens=True, pinned_utilization=True)


def found(rules=SEQUENCES, now=HERE, *, ceiling=None, tokens=True, most=1024.0) -> list[Knobs]:
    return list(candidates(now, rules, ceiling=ceiling, tokens=tokens, most=most))


def test_caps_are_captured_sizes_that_are_far_enough_from_each_other():
    assert caps(1.2)[:12] == (1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 80, 96)
    assert caps(1.08)[9:17] == (56, 64, 72, 80, 88, 96, 104, 120)
    assert caps(1.2)[-1] == 912


def test_of_sequences_alone_each_fine_cap_is_a_candidate_but_the_one_that_runs():
    tried = [one.max_num_seqs for one in found()]
    assert tried == [one for one in caps(1.08) if one != 256]
    assert {replace(one, max_num_seqs=256) for one in found()} == {HERE}


def test_bounds_hold_to_both_sides():
    within = replace(SEQUENCES, seqs=Range(64, 96))
    assert [one.cap for one in found(within)] == [64, 72, 80, 88, 96]
    assert [one.cap for one in found(replace(SEQUENCES, seqs=Range(None, 4)))] == [1, 2, 4]


def test_beyond_what_is_known_there_is_no_candidate_unless_so_many_run_now():
    assert max(one.cap for one in found(most=104)) == 240
    assert max(one.cap for one in found(now=replace(HERE, max_num_seqs=64), most=104)) == 104
    assert max(one.cap for one in found(now=replace(HERE, max_num_seqs=64), most=103)) == 96


def test_admission_alone_is_lowered_where_the_version_can():
    rules = replace(SEQUENCES, active_seqs=True, seqs=Range(120, 312))
    now = Knobs(240, 2048, 0.9, 144)
    assert found(rules, now) == [
        *(Knobs(240, 2048, 0.9, active) for active in (120, 136, 152, 168, 184, 200, 216)),
        Knobs(240, 2048, 0.9),
        *(Knobs(more, 2048, 0.9) for more in (272, 304)),
    ]


def test_a_pin_leaves_a_knob_alone():
    assert found(replace(SEQUENCES, pinned_seqs=True)) == []
    steps = Rules(pinned_seqs=True, pinned_utilization=True)
    assert [one.max_num_batched_tokens for one in found(steps)] == [512, 1024, 4096, 8192, 16384]
    assert found(steps, tokens=False) == []


def test_tokens_of_a_step_keep_their_bounds_and_are_no_fewer_than_sequences():
    steps = Rules(pinned_seqs=True, pinned_utilization=True, tokens=Range(1024, 4096))
    assert [one.max_num_batched_tokens for one in found(steps)] == [1024, 4096]
    many = replace(HERE, max_num_seqs=512)
    least = [one.max_num_batched_tokens for one in found(replace(steps, tokens=Range()), many)]
    assert least == [512, 1024, 4096, 8192, 16384]
    more = replace(HERE, max_num_seqs=513)
    least = [one.max_num_batched_tokens for one in found(replace(steps, tokens=Range()), more)]
    assert least == [1024, 4096, 8192, 16384]


SMALL = {"pinned_utilization": True, "tokens": Range(512, 1024)}
FEW = Knobs(32, 2048, 0.9)


def test_steps_that_may_all_have_graphs_get_the_sequences_for_it_and_admit_no_more_requests():
    tried = found(Rules(active_seqs=True, seqs=Range(None, 300), **SMALL), FEW, most=40.0)
    # Twice 256 sequences; steps of 1,024 tokens have no graph, whatever the sequences.
    assert Knobs(256, 512, 0.9, 32) in tried
    assert Knobs(256, 512, 0.9, 40) in tried
    assert Knobs(32, 1024, 0.9) in tried
    assert not [one for one in tried if one.max_num_batched_tokens == 512 and one.cap > 40]


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param({}, id="in a version that cannot admit fewer"),
        pytest.param({"active_seqs": True, "pinned_seqs": True}, id="that are pinned"),
        pytest.param({"active_seqs": True, "seqs": Range(None, 255)}, id="beyond a bound"),
        pytest.param({"active_seqs": True, "graphs": Graphs(256)}, id="without larger graphs"),
        pytest.param(
            {"active_seqs": True, "graphs": Graphs(512, stated=True)}, id="that the command states"
        ),
    ],
)
def test_sequences_are_not_raised_for_graphs(rules):
    smaller = list(found(Rules(**rules, **SMALL), FEW, most=32.0))
    assert Knobs(32, 512, 0.9) in smaller
    assert not [one for one in smaller if one.max_num_seqs == 256]


def test_sequences_that_give_graphs_already_are_left_alone():
    many = Knobs(512, 8192, 0.9)
    assert Knobs(512, 512, 0.9) in found(Rules(active_seqs=True, **SMALL), many)


def test_where_tokens_move_too_caps_are_coarse():
    rules = Rules(pinned_utilization=True, tokens=Range(4096, 4096), seqs=Range(64, 100))
    moved = [one.cap for one in found(rules) if one.max_num_batched_tokens == 4096]
    assert moved == [256, 64, 80, 96]


@pytest.mark.parametrize(
    ("ceiling", "bound", "raised"),
    [
        (None, Range(), []),
        (0.904, Range(), []),
        (0.905, Range(), [0.905]),
        (0.95, Range(), [0.95]),
        (0.95, Range(None, 0.93), [0.93]),
        (0.95, Range(None, 0.9), []),
        (0.95, Range(0.96, None), []),
    ],
)
def test_memory_is_raised_in_one_step_to_what_the_planner_and_the_bound_allow(
    ceiling, bound, raised
):
    rules = Rules(pinned_seqs=True, pinned_tokens=True, utilization=bound)
    assert [one.gpu_memory_utilization for one in found(rules, ceiling=ceiling)] == raised
    assert found(replace(rules, pinned_utilization=True), ceiling=ceiling) == []


@pytest.mark.parametrize(
    ("then", "knobs", "times"),
    [
        (HERE, 0, 1.0),
        (Knobs(64, 2048, 0.9), 1, 4.0),
        (Knobs(512, 2048, 0.9), 1, 2.0),
        (Knobs(256, 2048, 0.9, 128), 1, 2.0),
        (Knobs(256, 1024, 0.9), 1, 2.0),
        (Knobs(64, 8192, 0.95), 3, 16.0),
        (Knobs(256, 2048, 0.95), 1, 1.0),
    ],
)
def test_settings_differ_in_so_many_knobs_and_by_so_much(then, knobs, times):
    assert (changed(HERE, then), distance(HERE, then)) == (knobs, times)


@pytest.mark.parametrize(
    ("then", "again"),
    [
        (Knobs(128, 2048, 0.9), True),
        (Knobs(256, 2048, 0.9, 128), True),  # the same cap
        (Knobs(128, 2048, 0.9004), True),
        (Knobs(128, 2048, 0.902), False),
        (Knobs(128, 4096, 0.9), False),
        (Knobs(64, 2048, 0.9), False),
    ],
)
def test_the_same_setting_is_not_tried_again_under_such_a_load(then, again):
    rules = Rules(rejected=((Knobs(128, 2048, 0.9), CHAT.fingerprint),))
    assert rejected(then, rules, CHAT.fingerprint) is again
    assert not rejected(then, rules, offered(20.0).fingerprint)


@pytest.mark.parametrize("kept", ["pinned_seqs", "pinned_tokens", "pinned_utilization"])
def test_all_is_pinned_only_where_each_knob_is(kept):
    pins = {"pinned_seqs": True, "pinned_tokens": True, "pinned_utilization": True}
    assert Rules(**pins).all_pinned
    assert not Rules(**{**pins, kept: False}).all_pinned
