"""Which multiplier each part of a step's time goes with, part by part."""

from __future__ import annotations

import math

import pytest

from unit.sizing.test_multipliers import ready
from vllm_operator.sizing.performance.multipliers import Multipliers, scaled
from vllm_operator.sizing.performance.step import StageTimes, Times

FACTORS = {
    "overheads": 2.0,
    "bandwidth": 3.0,
    "compute": 5.0,
    "cache_bandwidth": 7.0,
    "sequences": 11.0,
}
MULTIPLIERS = Multipliers(**{name: math.log(one) for name, one in FACTORS.items()})
PARTS = {
    "fixed_seconds": "overheads",
    "token_seconds": "bandwidth",
    "shared_seconds": "bandwidth",
    "sample_seconds": "bandwidth",
}


def times() -> Times:
    return ready().times


def stage(found: Times) -> StageTimes:
    ((one, _),) = found.stages
    return one


@pytest.mark.parametrize(("part", "factor"), PARTS.items())
def test_a_part_of_a_stage_goes_with_its_own_multiplier(part: str, factor: str) -> None:
    before, after = stage(times()), stage(scaled(times(), MULTIPLIERS))
    assert getattr(after, part) == pytest.approx(FACTORS[factor] * getattr(before, part))


@pytest.mark.parametrize(
    ("part", "factor"),
    [("host_seconds", 11.0), ("host_step_seconds", 2.0), ("answer_seconds", 2.0)],
)
def test_on_the_host_a_step_and_a_sequence_of_it_go_apart(part: str, factor: float) -> None:
    before, after = getattr(times(), part), getattr(scaled(times(), MULTIPLIERS), part)
    assert after == pytest.approx(factor * before)
    assert before > 0


def test_a_head_computes_and_reads() -> None:
    before, after = stage(times()).head, stage(scaled(times(), MULTIPLIERS)).head
    assert before is not None
    assert after == pytest.approx([5.0 * before[0], 3.0 * before[1], 3.0 * before[2]])


def test_attention_computes_and_reads_the_cache() -> None:
    before, after = stage(times()).attention, stage(scaled(times(), MULTIPLIERS)).attention
    assert len(before) == len(after) > 0
    for one, other in zip(before, after, strict=True):
        prompt, generated, read, window, *kept = one
        longer = [5 * prompt, 5 * generated, 7 * read, window, *(7 * state for state in kept)]
        assert list(other) == pytest.approx(longer)


def test_matrices_of_all_layers_together_compute_and_read() -> None:
    before, after = stage(times()).linears, stage(scaled(times(), MULTIPLIERS)).linears
    assert [sum(part) for part in zip(*after, strict=True)] == pytest.approx(
        [f * sum(part) for f, part in zip((5.0, 3.0, 3.0), zip(*before, strict=True), strict=True)]
    )
