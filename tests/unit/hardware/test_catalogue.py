"""GPU products are found by label value, name or alias, with the memory that vLLM sees."""

import pytest

from vllm_operator.hardware import catalogue

GIBIBYTE = 1024**3


@pytest.mark.parametrize(
    ("written", "product"),
    [
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-80GB-HBM3"),
        ("nvidia-h100-80gb-hbm3", "NVIDIA-H100-80GB-HBM3"),
        ("RTX 4090", "NVIDIA-GeForce-RTX-4090"),
        ("rtx4090", None),
        ("rtx-4090", "NVIDIA-GeForce-RTX-4090"),
        ("T4", "Tesla-T4"),
        ("L40S", "NVIDIA-L40S"),
        ("L40", "NVIDIA-L40"),
        ("A100-SXM4-80GB", "NVIDIA-A100-SXM4-80GB"),
        ("MI300X", "AMD_Instinct_MI300X_OAM"),
        ("H100", "H100"),
        ("A100 80GB", "A100 80GB"),
    ],
)
def test_a_product_is_found_however_it_is_written(written: str, product: str | None):
    found = catalogue.find(written)
    assert (found.name if found else None) == product


def test_memory_is_what_vllm_sees_and_not_what_the_label_says():
    h100 = catalogue.find("NVIDIA-H100-80GB-HBM3")
    assert h100.memory_bytes == int(79.18 * GIBIBYTE)
    assert h100.nvml_bytes == 81559 * 1024**2


def test_a_family_has_every_label_value_and_the_smallest_memory():
    family = catalogue.find("A100")
    assert "NVIDIA-A100-SXM4-40GB" in family.label_values
    assert "NVIDIA-A100-SXM4-80GB" in family.label_values
    assert family.memory_bytes == catalogue.find("NVIDIA-A100-SXM4-40GB").memory_bytes


def test_a_misspelt_product_is_answered_with_the_nearest():
    assert catalogue.nearest("NVIDIA-H100-80GB-HMB3") == "NVIDIA-H100-80GB-HBM3"


def test_products_of_the_nodes_count_as_near_too():
    assert catalogue.nearest("NVIDIA-X9900-ABC", ["NVIDIA-X9900-ABD"]) == "NVIDIA-X9900-ABD"


@pytest.mark.parametrize("product", catalogue.products(), ids=lambda product: product.name)
def test_a_product_is_complete(product: catalogue.GPUProduct):
    assert product.source
    assert product.label_values
    assert all(len(value) <= 63 and " " not in value for value in product.label_values)
    assert 0 < product.memory_bytes < product.nvml_bytes
    assert (product.compute_capability is None) == (product.resource_name == "amd.com/gpu")


@pytest.mark.parametrize("product", catalogue.products(), ids=lambda product: product.name)
def test_the_reduction_of_nvidias_figure_never_promises_more_than_was_seen(
    product: catalogue.GPUProduct,
):
    assert catalogue.device_memory_from_nvml(product.nvml_bytes) <= product.memory_bytes


def test_no_label_value_means_two_products():
    values = [value for product in catalogue.products() for value in product.label_values]
    assert len(values) == len(set(values))


def test_node_labels_select_by_the_makers_product_label():
    labels = catalogue.find("L4").node_labels
    assert labels["nvidia.com/gpu.product"] == ("NVIDIA-L4",)
    assert labels["cloud.google.com/gke-accelerator"] == ("nvidia-l4",)
    assert next(iter(catalogue.find("MI300X").node_labels)) == "amd.com/gpu.product-name"
    assert list(catalogue.find("MI210").node_labels) == ["amd.com/gpu.product-name"]
