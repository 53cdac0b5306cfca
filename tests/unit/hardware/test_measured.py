"""What was measured of a GPU: whose it is, and what is no measurement."""

from __future__ import annotations

import re
from typing import Any

import pytest

from vllm_operator.hardware.measured import MeasuredGPU, among, of_product

SXM = MeasuredGPU("NVIDIA-H100-80GB-HBM3", "2026-01-01T00:00:00Z", 800e12, 2.8e12)
PCIE = MeasuredGPU("NVIDIA-H100-PCIe", "2026-01-02T00:00:00Z", 500e12, 1.7e12)
L4 = MeasuredGPU("NVIDIA-L4", "2026-01-03T00:00:00Z", 100e12, 0.25e12)
ALL = (SXM, PCIE, L4)


@pytest.mark.parametrize("name", ["NVIDIA-H100-80GB-HBM3", "nvidia h100 80gb hbm3"])
def test_a_product_is_known_by_any_spelling_of_its_name(name: str) -> None:
    assert of_product(ALL, name) == SXM


def test_a_familys_figures_are_those_of_its_slowest_member() -> None:
    assert of_product(ALL, "H100") == PCIE


@pytest.mark.parametrize("name", ["NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"])
def test_another_product_and_a_slice_have_no_figures(name: str) -> None:
    assert of_product(ALL, name) is None


def test_the_figures_of_some_products_are_picked_out() -> None:
    assert among(ALL, ["NVIDIA-L4", "A100", "NVIDIA-H100-PCIe"]) == (PCIE, L4)


def test_its_key_is_one_that_a_config_map_may_have() -> None:
    odd = MeasuredGPU("AMD Instinct/MI300X (OAM)", "2026-01-01T00:00:00Z", 1e12, 1e12)
    assert odd.key == "gpu.AMD-Instinct-MI300X--OAM-"
    assert re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", odd.key)


@pytest.mark.parametrize("figure", [0, -1.0, float("nan"), float("inf"), 1e18, "8e14", True, None])
def test_what_is_no_number_of_operations_is_no_measurement(figure: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        MeasuredGPU.from_json_object({**SXM.to_json_object(), "flops_16bit": figure})


def test_a_figure_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown figures: tflops"):
        MeasuredGPU.from_json_object({**SXM.to_json_object(), "tflops": 800})
