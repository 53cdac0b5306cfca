"""Which slots of a trial are fitted, and how many together."""

from __future__ import annotations

import pytest

from support.intervals import intervals
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
