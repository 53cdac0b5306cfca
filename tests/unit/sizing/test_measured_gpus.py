"""A plan rests on what was measured of its GPU in place of the datasheet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.sizing.examples import LLAMA_8B, inputs_for, server
from vllm_operator.api.performance import Performance
from vllm_operator.api.plan import Plan
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance
from vllm_operator.hardware.measured import MeasuredGPU
from vllm_operator.sizing.performance.measured import as_measured, share
from vllm_operator.sizing.plan.planner import make_plan

VERSION = Version((0, 30, 0))
AT = "2026-01-01T00:00:00Z"
H100 = "NVIDIA-H100-80GB-HBM3"
AS_ON_THE_SHEET = MeasuredGPU(H100, AT, 794.5e12, 2.8198e12, 1428e12)
"""What H100s reach that do what their datasheet says: 989 and 1,979 TFLOP/s, 3,350 GB/s."""


def planned(*measured: MeasuredGPU, gpu: str = H100) -> Plan:
    asked = server(LLAMA_8B, gpu={"product": gpu})
    return make_plan(asked, inputs_for(asked, measured_gpus=measured))


def speed(plan: Plan) -> Performance:
    assert plan.performance is not None
    return plan.performance


@pytest.mark.parametrize(
    ("figure", "generation", "reached"),
    [
        ("16bit", "hopper", 0.803),
        ("16bit", "blackwell", 0.803),  # their serving is described by Hopper's share
        ("16bit", "ampere", 0.869),
        ("16bit", "ada", 0.869),
        ("fp8", "hopper", 0.722),
        ("fp8", "ada", 0.722),
        ("copy", "hopper", 0.842),
    ],
)
def test_the_share_is_that_of_the_gpus_on_which_vllm_was_measured(
    figure: str, generation: str, reached: float
) -> None:
    assert share(figure, generation) == pytest.approx(reached, abs=5e-4)  # type: ignore[arg-type]


def test_a_gpu_that_does_what_its_datasheet_says_stays_as_it_was() -> None:
    sheet = performance.find(H100)
    assert sheet is not None
    found = as_measured(sheet, AS_ON_THE_SHEET, VERSION)
    assert found.flops_16bit == pytest.approx(989e12, rel=1e-3)
    assert found.flops_fp8 == pytest.approx(1979e12, rel=1e-3)
    assert found.memory_bandwidth == pytest.approx(3350e9, rel=1e-3)
    assert found.link_bandwidth == sheet.link_bandwidth
    assert as_measured(sheet, None, VERSION) is sheet


def test_what_was_not_measured_is_the_datasheets() -> None:
    sheet = performance.find(H100)
    assert sheet is not None
    found = as_measured(sheet, replace(AS_ON_THE_SHEET, flops_fp8=None), VERSION)
    assert found.flops_fp8 == 1979e12
    assert found.flops_int8 == 1979e12


def test_a_measured_link_reaches_in_the_estimate_what_was_measured() -> None:
    sheet = performance.find(H100)
    assert sheet is not None
    found = as_measured(sheet, replace(AS_ON_THE_SHEET, all_reduce_bandwidth=100e9), VERSION)
    assert found.link_bandwidth == pytest.approx(100e9 / 0.5273, rel=1e-3)


def test_a_plan_on_a_slower_gpu_expects_less_and_says_when_it_was_measured() -> None:
    slower = replace(AS_ON_THE_SHEET, copy_bandwidth=0.9 * AS_ON_THE_SHEET.copy_bandwidth)
    by_sheet, by_measure = speed(planned()), speed(planned(slower))
    lost = by_measure.output_tokens_per_second / by_sheet.output_tokens_per_second
    assert 0.9 < lost < 0.97
    assert by_measure.gpu_measured == AT
    assert by_sheet.gpu_measured is None


def test_a_plan_on_another_gpu_takes_no_notice_but_for_the_hash() -> None:
    other = speed(planned(AS_ON_THE_SHEET, gpu="NVIDIA-L40S"))
    assert other == speed(planned(gpu="NVIDIA-L40S"))


def test_inputs_without_measurements_are_written_as_before() -> None:
    asked = server(LLAMA_8B)
    assert "measuredGPUs" not in inputs_for(asked).to_json_object()
    assert inputs_for(asked, measured_gpus=(AS_ON_THE_SHEET,)).to_json_object()["measuredGPUs"]
