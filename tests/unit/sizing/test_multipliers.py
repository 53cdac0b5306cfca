"""Multipliers make the parts of a step longer, each its own."""

import math

import pytest

from vllm_operator.engine.versions import NEWEST_KNOWN
from vllm_operator.hardware.performance import find
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server, server
from vllm_operator.sizing.performance.work import work_of

TWICE = math.log(2.0)


def ready(model="Qwen/Qwen3-8B") -> Server:
    facts, gpu = catalogue.find(model), find("NVIDIA-H100-80GB-HBM3")
    assert facts
    assert gpu
    work = work_of(architecture_from_config(facts.config))
    return server(work, gpu, version=NEWEST_KNOWN, max_num_batched_tokens=8192, max_num_seqs=256)


def share_of(part: str, decodes: float, context: float, prompt: float, **given) -> float:
    """By how much longer a step is, as a share, where ``part`` takes twice as long."""
    one = ready(**given)
    load = (decodes, context, prompt, prompt / 2)
    longer = one.scaled(Multipliers(**{part: TWICE})).times.step(*load)
    return longer / one.times.step(*load) - 1.0


def test_without_multipliers_nothing_changes() -> None:
    one = ready()
    assert one.scaled(Multipliers()).times.step(32, 1000, 100, 50) == pytest.approx(
        one.times.step(32, 1000, 100, 50), rel=1e-12
    )


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B"])
def test_all_parts_twice_as_long_make_a_step_twice_as_long(model) -> None:
    one = ready(model)
    longer = one.scaled(Multipliers().shifted(TWICE))
    for load in ((1, 100, 0, 0), (64, 4000, 0, 0), (32, 1000, 4096, 2048)):
        assert longer.times.step(*load) == pytest.approx(2 * one.times.step(*load), rel=1e-12)


def test_one_request_waits_for_weights_and_for_nothing_that_multiplies() -> None:
    assert share_of("bandwidth", 1, 100, 0) > 0.6
    assert share_of("compute", 1, 100, 0) < 0.001


def test_a_long_prompt_waits_for_arithmetic() -> None:
    assert share_of("compute", 0, 0, 8192) > 0.8
    assert share_of("bandwidth", 0, 0, 8192) < 0.2


def test_long_contexts_wait_for_the_cache_and_nothing_else_does() -> None:
    assert share_of("cache_bandwidth", 64, 16000, 0) > 0.7
    assert share_of("cache_bandwidth", 64, 0, 0) == pytest.approx(0.0, abs=1e-12)


def test_launches_are_the_same_seconds_whatever_a_step_carries() -> None:
    one = ready()
    longer = one.scaled(Multipliers(overheads=TWICE))
    more = [
        longer.times.step(*load) - one.times.step(*load)
        for load in ((1, 100, 0, 0), (200, 4000, 0, 0), (1, 100, 4096, 2048))
    ]
    assert more == pytest.approx([one.times.stages[0][0].fixed_seconds] * 3)


def test_a_matrix_waits_for_arithmetic_once_that_takes_longer() -> None:
    # 32 sequences are bound by memory; with arithmetic eight times as long they no longer are.
    one = ready()
    longer = one.scaled(Multipliers(compute=math.log(8.0)))
    more = longer.scaled(Multipliers(compute=TWICE))
    assert share_of("compute", 32, 100, 0) < 0.05
    assert more.times.step(32, 100, 0, 0) > 1.4 * longer.times.step(32, 100, 0, 0)


def test_taking_in_a_request_is_no_part_of_a_step() -> None:
    one = ready()
    assert one.scaled(Multipliers().shifted(TWICE)).found == one.found
