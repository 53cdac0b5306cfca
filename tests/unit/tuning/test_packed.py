"""Intervals in little memory are those that were given."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

import pytest

from support.intervals import intervals
from vllm_operator.tuning.intervals import Between, Interval
from vllm_operator.tuning.packed import Packed

NEVER = float("-inf")


def told(*given: Interval, since: float = NEVER) -> list[Interval]:
    return list(Packed("a", given).after(since))


def test_each_count_comes_back_to_seven_digits() -> None:
    counts = {name: 1000.0 + place / 7 for place, name in enumerate(asdict(intervals(1)[0]))}
    ranges = {"slow_gaps": Between(1.5, 2.5), "slow_first_tokens": Between(0.0, 3.25)}
    given = Interval(**(counts | ranges | {"pod": "a", "end": 1.76e9 + 0.25}))  # type: ignore[arg-type]
    (found,) = told(given)
    assert found.end == given.end
    assert found.slow_gaps == Between(1.5, 2.5)
    assert found.slow_first_tokens == Between(0.0, 3.25)
    for name in counts.keys() - {"pod", "end"} - ranges.keys():
        assert getattr(found, name) == pytest.approx(getattr(given, name), rel=1e-7), name


@pytest.mark.parametrize(
    "name", ["slow_gaps", "slow_first_tokens", "finished_prompt_squares", "step_tokens"]
)
def test_what_is_not_known_comes_back_as_not_known(name: str) -> None:
    (found,) = told(replace(intervals(1, "a")[0], **{name: None}))
    assert getattr(found, name) is None


def test_those_after_a_time_are_told_in_order() -> None:
    given = intervals(20, "a")
    assert [one.end for one in told(*given, since=17 * 15.0)] == [18 * 15.0, 19 * 15.0, 20 * 15.0]


def test_what_is_known_already_is_not_taken_again() -> None:
    found = Packed("a", intervals(20, "a"))
    found.extend(intervals(25, "a"))
    assert (len(found), found.last) == (25, 25 * 15.0)


def test_an_empty_one_has_no_last() -> None:
    assert Packed("a").last is None
    assert told() == []


def test_an_interval_takes_at_most_160_bytes() -> None:
    found = Packed("a", intervals(640, "a"))
    held = (found._ends, found._numbers)
    assert sum(map(sys.getsizeof, held)) <= 160 * 640
