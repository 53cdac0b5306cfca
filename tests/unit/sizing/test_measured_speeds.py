"""An estimate is corrected by what a server of the kind was measured to do under a load like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, inputs_for, server
from vllm_operator.api.performance import Performance
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.sizing.memory.calibration import engine_digest
from vllm_operator.sizing.performance.coefficients import fingerprint
from vllm_operator.sizing.performance.learned import (
    Kind,
    Load,
    MeasuredSpeed,
    correction,
    of_model,
)
from vllm_operator.sizing.plan.planner import make_plan

H100 = "NVIDIA-H100-80GB-HBM3"
KIND = Kind(LLAMA_8B, "0.32.0", H100, engine_digest(Engine()), 1, 1, 1, fingerprint())
LOAD = Load(1000, 200, 32)
AT = "2026-01-01T00:00:00Z"
MEASURED = MeasuredSpeed(KIND, LOAD, between=1.25, throughput=0.8, at=AT)
WORKLOAD = {"promptTokens": 1000, "outputTokens": 200, "concurrency": 32}


def factors(load: Load, *measured: MeasuredSpeed) -> tuple[float, float]:
    found = correction(measured or (MEASURED,), KIND, load)
    assert found is not None
    return found.between, found.throughput


def test_the_same_load_is_corrected_by_all_that_was_measured() -> None:
    assert factors(LOAD) == (1.25, 0.8)


def test_a_load_of_twice_the_length_is_corrected_by_less() -> None:
    """The power is exp(-ln(2)²) = 0.6185."""
    between, throughput = factors(Load(2000, 200, 32))
    assert between == pytest.approx(1.1480, abs=1e-4)
    assert throughput == pytest.approx(0.8711, abs=1e-4)


@pytest.mark.parametrize(
    "load", [Load(1000, 200, 64), Load(1000, 400, 32), Load(500, 200, 32), Load(1000, 200, 16)]
)
def test_lengths_and_requests_at_once_count_alike_up_and_down(load: Load) -> None:
    assert factors(load) == pytest.approx(factors(Load(2000, 200, 32)))


def test_of_several_measurements_the_nearest_corrects() -> None:
    far = replace(MEASURED, load=Load(1000, 200, 4), between=3.0)
    assert factors(Load(1000, 200, 30), far, MEASURED)[0] < 1.25


def test_of_two_of_one_load_the_newest_corrects() -> None:
    newer = replace(MEASURED, between=1.1, at="2026-02-01T00:00:00Z")
    assert factors(LOAD, newer, MEASURED)[0] == factors(LOAD, MEASURED, newer)[0] == 1.1


def test_a_load_that_is_like_none_is_not_corrected() -> None:
    """ln(21) is 3.04, beyond 3."""
    assert correction([MEASURED], KIND, Load(21_000, 200, 32)) is None
    assert correction([MEASURED], KIND, Load(20_000, 200, 32)) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"model": "other/model"},
        {"version": "0.31.0"},
        {"gpu": "NVIDIA-L4"},
        {"engine": "of another data type"},
        {"tensor": 2},
        {"pipeline": 2},
        {"data": 2},
        {"estimate": "of other coefficients"},
    ],
)
def test_a_server_of_another_kind_is_not_corrected(other: dict[str, Any]) -> None:
    assert correction([MEASURED], KIND._replace(**other), LOAD) is None


def test_measurements_are_picked_by_their_model() -> None:
    other = replace(MEASURED, kind=KIND._replace(model="other/model"))
    assert of_model([other, MEASURED], LLAMA_8B) == (MEASURED,)


def test_each_kind_and_load_has_a_key_of_its_own() -> None:
    others = [
        replace(MEASURED, load=Load(1000, 200, 33)),
        replace(MEASURED, kind=KIND._replace(tensor=2)),
    ]
    assert len({one.key for one in (MEASURED, *others)}) == 3
    assert replace(MEASURED, between=2.0).key == MEASURED.key
    assert MEASURED.key.startswith("speed.")


@pytest.mark.parametrize(
    "change",
    [
        {"between": 0},
        {"between": -1.0},
        {"throughput": 100.0},
        {"throughput": float("nan")},
        {"between": "1.2"},
        {"load": [1000, 0, 32]},
        {"load": [1000, 200]},
        {"kind": ["a", "b"]},
        {"at": 41 * "0"},
        {"unit": "s"},
    ],
)
def test_what_is_no_measurement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        MeasuredSpeed.from_json_object({**MEASURED.to_json_object(), **change})


def planned(*measured: MeasuredSpeed, **changes: Any) -> Performance:
    gpu = {"product": "NVIDIA-H100-80GB-HBM3"}
    asked = server(LLAMA_8B, gpu=gpu, workload={**WORKLOAD, **changes})
    plan = make_plan(asked, inputs_for(asked, measured_speeds=measured))
    assert isinstance(plan, Plan)
    assert plan.performance is not None
    return plan.performance


def test_a_plan_tells_corrected_figures_and_what_corrects_them() -> None:
    plain, found = planned(), planned(MEASURED)
    assert found.inter_token_latency == pytest.approx(1.25 * plain.inter_token_latency, rel=0.01)
    more = found.output_tokens_per_second / plain.output_tokens_per_second
    assert more == pytest.approx(0.8, rel=0.01)
    assert found.requests_per_second == pytest.approx(0.8 * plain.requests_per_second, rel=0.01)
    assert found.time_to_first_token == plain.time_to_first_token
    assert found.correction is not None
    assert found.correction.measured_at == AT
    assert plain.correction is None


def test_its_ranges_move_with_its_figures() -> None:
    plain, found = planned(), planned(MEASURED)
    assert plain.ranges is not None
    assert found.ranges is not None
    high = found.ranges.output_tokens_per_second.high
    assert high == pytest.approx(0.8 * plain.ranges.output_tokens_per_second.high, rel=0.01)


def test_a_plan_without_measurements_is_hashed_as_before() -> None:
    asked = server(LLAMA_8B)
    assert "measuredSpeeds" not in inputs_for(asked).to_json_object()


def test_a_server_that_drafts_is_not_corrected_as_nobody_knows_what_was_accepted() -> None:
    drafts = {"method": "ngram", "numSpeculativeTokens": 3}
    gpu = {"product": H100}
    asked = server(LLAMA_8B, gpu=gpu, workload=WORKLOAD, engine={"speculative": drafts})
    engine = engine_digest(asked.spec.engine or Engine())
    measured = replace(MEASURED, kind=KIND._replace(engine=engine))
    plan = make_plan(asked, inputs_for(asked, measured_speeds=(measured,)))
    assert isinstance(plan, Plan)
    assert plan.performance is not None
    assert plan.performance.correction is None
