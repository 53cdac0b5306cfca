"""Which slots of a trial are fitted, and how many together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.intervals import intervals
from vllm_operator.tuning.intervals import enough, joined, together
from vllm_operator.tuning.trial import Compared, usable_rows


@pytest.mark.parametrize(
    ("slots", "rows"),
    [(1, 1), (119, 119), (120, 120), (121, 61), (240, 120), (241, 81), (600, 120)],
)
def test_of_a_long_trial_neighbouring_slots_are_fitted_together_and_120_at_most(
    slots: int, rows: int
) -> None:
    seen = dict(enumerate(intervals(slots)))
    assert len(usable_rows(Compared(seen, {}, ()), in_place=True)) == rows


def test_beside_another_only_slots_in_which_both_were_seen_are_fitted() -> None:
    own = dict(enumerate(intervals(4)))
    stable = {slot: [one] for slot, one in own.items() if slot != 2}
    found = usable_rows(Compared(own, stable, ("a",)), in_place=False)
    assert [(slot, candidate) for slot, candidate, _ in found] == [
        *((0, False), (0, True), (1, False), (1, True), (3, False), (3, True)),
    ]


def test_slots_of_few_steps_are_fitted_together_on_both_sides() -> None:
    few = [replace(one, steps=12.0, gaps=192.0) for one in intervals(8)]
    own, stable = dict(enumerate(few)), {slot: [one] for slot, one in enumerate(intervals(8))}
    found = usable_rows(Compared(own, stable, ("a",)), in_place=False)
    assert [(slot, candidate, one.steps) for slot, candidate, one in found if candidate] == [
        (slot, True, 24.0) for slot in (0, 2, 4, 6)
    ]
    assert [slot for slot, candidate, _ in found if not candidate] == [0, 2, 4, 6]


def test_slots_in_which_next_to_nothing_was_done_are_not_fitted() -> None:
    idle = dict(enumerate(replace(one, steps=2.0) for one in intervals(8)))
    assert usable_rows(Compared(idle, {}, ()), in_place=True) == []


@pytest.mark.parametrize(
    ("steps", "gaps", "number"),
    [(20.0, 50.0, 1), (19.9, 50.0, 2), (20.0, 49.9, 2), (10.0, 50.0, 2), (6.6, 50.0, 4), (1, 1, 8)],
)
def test_as_many_neighbours_go_together_as_have_enough(steps, gaps, number) -> None:
    assert together([replace(one, steps=steps, gaps=gaps) for one in intervals(3)]) == number


def test_neighbours_are_joined_up_to_the_last_that_is_needed_and_never_over_a_gap() -> None:
    few = [replace(one, steps=9.0, gaps=99.0) for one in intervals(7)]
    whole = enough(few)
    assert [one.steps for one in whole] == [27.0, 27.0]
    assert [one.end for one in whole] == [few[2].end, few[5].end]
    assert enough([*few[:2], *few[3:5]]) == []


def test_what_was_counted_while_requests_were_preempted_is_joined_too() -> None:
    one, other = intervals(2)
    assert joined([replace(one, preemptions=3.0), other]).preemptions == 3.0
