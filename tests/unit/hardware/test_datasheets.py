"""Figures of one GPU agree with each other, as those of its generation do.

Multiplier arrays are built in fixed proportions, so that a figure of a datasheet that was copied
wrongly stands out beside the others of its row.
"""

import re

import pytest

from vllm_operator.hardware import catalogue, performance
from vllm_operator.hardware.performance import GPUPerformance

PRODUCTS = performance.products()
EVERY_PRODUCT = pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
CAPABILITIES = {
    "volta": {(7, 0)},
    "turing": {(7, 5)},
    "ampere": {(8, 0), (8, 6)},
    "ada": {(8, 9)},
    "hopper": {(9, 0)},
    "blackwell": {(10, 0), (10, 3), (12, 0), (12, 1)},
    "cdna": {None},
    "rdna": {None},
}
NARROWER = {
    # Times the operations at 16 bits: at 8 bits in floating point, in integers, and at 4 bits.
    "volta": {(None, None, None)},
    "turing": {(None, 2, None), (None, 4, None)},
    "ampere": {(None, 2, None), (None, 4, None)},
    "ada": {(2, 2, None), (2, 4, None)},
    "hopper": {(2, 2, None)},
    "blackwell": {(2, 2, 4), (2, 4, 8), (2, None, 6)},
    "cdna": {(2, 2, 4), (2, 2, None), (None, 1, None)},
    "rdna": {(2, 2, None)},
}
PCI_EXPRESS = {8, 16, 25, 32, 64}
NVLINK = {"volta": {150}, "ampere": {200, 300}, "hopper": {200, 450}, "blackwell": {900}}
INFINITY_FABRIC = {384, 448, 537}


def times(figure: float | None, product: GPUPerformance) -> float | None:
    return None if figure is None else round(figure / product.flops_16bit, 1)


@EVERY_PRODUCT
def test_narrower_numbers_are_multiplied_in_the_proportions_of_the_generation(
    product: GPUPerformance,
):
    narrower = (product.flops_fp8, product.flops_int8, product.flops_fp4)
    found = tuple(times(figure, product) for figure in narrower)
    assert found in NARROWER[product.generation]


@EVERY_PRODUCT
def test_only_geforce_halves_the_16_bit_figure(product: GPUPerformance):
    # Its multipliers accumulate in float32 at half the rate, and integers are not held back.
    halved = times(product.flops_int8, product) == 4.0
    assert halved == ("GeForce" in product.name)


@EVERY_PRODUCT
def test_a_generation_has_its_own_compute_capability(product: GPUPerformance):
    known = catalogue.find(product.name)
    if known is None:
        assert product.name in ("AMD_Instinct_MI300A", "AMD_Radeon_RX_9070_XT")
    else:
        assert known.compute_capability in CAPABILITIES[product.generation]


@EVERY_PRODUCT
def test_a_link_is_one_that_its_maker_builds_at_a_rate_that_it_has(product: GPUPerformance):
    rates = {"pcie": PCI_EXPRESS}
    if product.name.startswith("AMD"):
        rates["xgmi"] = INFINITY_FABRIC
    else:
        rates["nvlink"] = NVLINK.get(product.generation, set())
    assert product.link_bandwidth / 1e9 in rates[product.link]


@EVERY_PRODUCT
def test_a_module_is_linked_and_a_card_is_not(product: GPUPerformance):
    module = re.search(r"SXM|OAM|GH200|GB[23]|B200|HBM3|H200$|H20$|H800$|MI300A", product.name)
    assert (product.link != "pcie") == bool(module)


@EVERY_PRODUCT
def test_memory_is_read_at_a_rate_of_its_generation(product: GPUPerformance):
    # From a small card's GDDR6 to eight stacks of HBM3e.
    assert 190 <= product.memory_bandwidth / 1e9 <= 8000
    operations_a_byte = product.flops_16bit / product.memory_bandwidth
    assert 30 <= operations_a_byte <= 500


@pytest.mark.parametrize(
    "product",
    [one for one in catalogue.products() if re.search(r"\d+GB", one.name)],
    ids=lambda product: product.name,
)
def test_a_name_that_says_the_memory_says_what_is_seen(product: catalogue.GPUProduct):
    said = re.search(r"(\d+)GB", product.name)
    assert said is not None
    gigabytes = int(said[1]) * 1e9
    if "GH200" in product.name:
        gigabytes = 96e9  # its name counts the processor's memory
    assert gigabytes <= product.nvml_bytes * 1.02
    assert product.nvml_bytes <= gigabytes * 1.08


KINDS = ("16bit", "32bit", "fp8", "int8", "fp4", "a kind of tomorrow")


@pytest.mark.parametrize(
    ("narrower", "expected"),
    [
        ((200.0, 300.0, 400.0), (100.0, 50.0, 200.0, 300.0, 400.0, 100.0)),
        ((None, 300.0, None), (100.0, 50.0, 100.0, 300.0, 100.0, 100.0)),
        ((None, None, None), (100.0, 50.0, 100.0, 100.0, 100.0, 100.0)),
    ],
)
def test_a_multiplication_that_the_hardware_lacks_runs_at_16_bits_and_one_of_32_at_half_of_that(
    narrower: tuple[float | None, ...], expected: tuple[float, ...]
):
    fp8, int8, fp4 = narrower
    gpu = GPUPerformance("a", "hopper", 1.0, 100.0, fp8, int8, fp4, "pcie", 1.0, "made up")
    assert tuple(gpu.flops(kind) for kind in KINDS) == expected
