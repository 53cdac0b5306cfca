"""The GPU, its resource, its slices and the image go together, or the plan says what would."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import (
    GIBIBYTE,
    QWEN_7B,
    inputs_for,
    offer,
    only_problem,
    plan_of,
    server,
)
from vllm_operator.hardware.nodes import GPUOffer
from vllm_operator.sizing.plan.planner import make_plan, size

QWEN_32B = "Qwen/Qwen2.5-32B-Instruct"
SLICE = "nvidia.com/mig-3g.40gb"
H100_SLICE = "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"


def mixed(product: str, memory_gib: float, profile: str = "3g.40gb") -> GPUOffer:
    """Slices as nodes with the mixed strategy offer them."""
    resource = f"nvidia.com/mig-{profile}"
    return GPUOffer(
        product=product,
        memory_bytes=int(memory_gib * GIBIBYTE),
        per_node=2,
        nodes=1,
        resource_name=resource,
        node_labels={f"{resource}.product": (product,)},
        compute_capability=(9, 0),
    )


@pytest.mark.parametrize(
    ("gpu", "image", "works"),
    [
        ("MI300X", "vllm/vllm-openai:v0.30.0", "vllm/vllm-openai-rocm:v0.30.0"),
        ("MI300X", "docker.io/vllm/vllm-openai:v0.29.0", "vllm/vllm-openai-rocm:v0.29.0"),
        ("MI300X", "vllm/vllm-openai-cpu:v0.30.0", "vllm/vllm-openai-rocm:v0.30.0"),
        ("H100", "vllm/vllm-openai-rocm:v0.30.0", "vllm/vllm-openai:v0.30.0"),
        ("H100", "vllm/vllm-openai-cpu:v0.30.0", "vllm/vllm-openai:v0.30.0"),
        ("H100", "vllm/vllm-tpu:v0.19.0", "vllm/vllm-openai:v0.19.0"),
        ("H100", "vllm/vllm-openai-xpu:v0.30.0", "vllm/vllm-openai:v0.30.0"),
    ],
)
def test_an_image_for_other_hardware_is_refused_with_one_that_works(
    gpu: str, image: str, works: str
):
    refused = plan_of(QWEN_7B, gpu={"product": gpu}, engine={"image": image})
    field, reason, message = only_problem(refused)
    assert (field, reason) == ("spec.engine.image", "IllegalPin")
    assert message.endswith(f"set spec.engine.image to {works}")
    assert plan_of(QWEN_7B, gpu={"product": gpu}, engine={"image": works}).feasible


def test_amds_own_images_do_not_run_on_nvidias_gpus():
    engine = {"image": "rocm/vllm:rocm7.0_vllm", "version": "0.11.0"}
    refused = plan_of(QWEN_7B, gpu={"product": "H100"}, engine=engine)
    assert only_problem(refused)[2].startswith("rocm/vllm:rocm7.0_vllm is built for AMD GPUs")
    assert plan_of(QWEN_7B, gpu={"product": "MI300X"}, engine=engine).feasible


def test_the_default_image_of_another_version_is_as_little_for_amd():
    refused = plan_of(QWEN_7B, gpu={"product": "MI300X"}, engine={"version": "0.28.0"})
    assert only_problem(refused)[0] == "spec.engine.image"


def test_a_version_without_an_official_build_is_said_so_and_no_image_is_made_up():
    engine = {"image": "vllm/vllm-openai:v0.10.0"}
    refused = plan_of(QWEN_7B, gpu={"product": "MI300X"}, engine=engine)
    assert only_problem(refused)[2].endswith("to a build of vLLM 0.10.0 for AMD GPUs")


@pytest.mark.parametrize("gpu", ["MI300X", "H100"])
def test_an_image_that_nobody_knows_runs_on_what_its_owner_says(gpu: str):
    engine = {"image": "registry.example/vllm:v0.30.0"}
    assert plan_of(QWEN_7B, gpu={"product": gpu}, engine=engine).feasible


def test_among_gpus_of_two_vendors_the_images_own_are_taken():
    planned = server(QWEN_7B)
    amd = GPUOffer(
        product="AMD_Instinct_MI300X_OAM",
        memory_bytes=190 * GIBIBYTE,
        per_node=8,
        nodes=9,
        resource_name="amd.com/gpu",
        node_labels={"amd.com/gpu.product-name": ("AMD_Instinct_MI300X_OAM",)},
    )
    offers = (amd, offer("NVIDIA-L40S", 44))
    plan = make_plan(planned, inputs_for(planned, offers=offers, nodes_visible=True))
    assert plan.placement.gpu == "NVIDIA-L40S"


@pytest.mark.parametrize(
    ("product", "resource", "works"),
    [("MI300X", "nvidia.com/gpu", "amd.com/gpu"), ("H100", "amd.com/gpu", "nvidia.com/gpu")],
)
def test_another_vendors_resource_is_refused_with_the_products(
    product: str, resource: str, works: str
):
    engine = {"image": "registry.example/vllm:v0.30.0"}
    gpu = {"product": product, "resourceName": resource}
    field, reason, message = only_problem(plan_of(QWEN_7B, gpu=gpu, engine=engine))
    assert (field, reason) == ("spec.gpu.resourceName", "IllegalPin")
    assert message.endswith(f"set it to {works}, or remove it")
    assert plan_of(QWEN_7B, gpu={**gpu, "resourceName": works}, engine=engine).feasible
    assert plan_of(QWEN_7B, gpu={"product": product}, engine=engine).feasible


def test_another_vendors_resource_is_refused_for_a_product_that_only_nodes_know():
    planned = server(QWEN_7B, gpu={"product": "NVIDIA-X100", "resourceName": "amd.com/gpu"})
    inputs = inputs_for(planned, offers=(offer("NVIDIA-X100", 60),), nodes_visible=True)
    assert only_problem(make_plan(planned, inputs))[0] == "spec.gpu.resourceName"


def test_a_resource_of_somebodys_own_is_left_to_them():
    gpu = {"product": "H100", "resourceName": "example.com/gpu"}
    assert plan_of(QWEN_7B, gpu=gpu).feasible


A10G_SHARED = "NVIDIA-A10G-SHARED"


@pytest.mark.parametrize(
    ("product", "had", "whole"),
    [
        (A10G_SHARED, A10G_SHARED, "spec.gpu.product to NVIDIA-A10G and spec.gpu.perNode"),
        ("A10G", f"A10G only as {A10G_SHARED}", "spec.gpu.perNode"),
    ],
)
def test_a_gpu_that_the_nodes_share_is_refused_with_the_true_reason_and_the_way_that_works(
    product: str, had: str, whole: str
):
    asked = server(QWEN_7B, gpu={"product": product})
    plan = make_plan(asked, inputs_for(asked, shared_products=(A10G_SHARED,), nodes_visible=True))
    field, reason, message = only_problem(plan)
    assert (reason, field) == ("UnknownGPU", "spec.gpu.product")
    assert message.startswith(f"the nodes have {had}, which pods share by time-slicing or MPS")
    assert message.endswith(f"for whole GPUs of nodes to come, set {whole}")
    assert f"set spec.gpu.product to {A10G_SHARED}, spec.gpu.memoryGiB to the card's" in message
    assert "spec.engine.gpuMemoryUtilization to this server's share" in message


def test_a_share_is_planned_on_one_gpu_of_the_nodes_that_share_it():
    gpu = {"product": A10G_SHARED, "memoryGiB": 22}
    asked = server("Qwen/Qwen2.5-1.5B-Instruct", gpu=gpu, engine={"gpuMemoryUtilization": 0.4})
    inputs = inputs_for(asked, shared_products=(A10G_SHARED,), nodes_visible=True)
    sized = size(asked, inputs)
    assert sized.gpu.node_labels == {"nvidia.com/gpu.product": (A10G_SHARED,)}
    assert sized.plan.placement.gpus_per_replica == 1


def test_whole_gpus_of_nodes_to_come_are_planned_beside_nodes_that_share_theirs():
    asked = server(QWEN_7B, gpu={"product": "A10G", "perNode": 1})
    inputs = inputs_for(asked, shared_products=(A10G_SHARED,), nodes_visible=True)
    assert size(asked, inputs).gpu.product == "NVIDIA-A10G"


def test_a_slice_is_never_planned_with_the_whole_cards_memory():
    gpu: dict[str, Any] = {"product": "H100", "perNode": 2, "resourceName": SLICE}
    field, reason, message = only_problem(plan_of(QWEN_32B, gpu=gpu))
    assert (field, reason) == ("spec.gpu.memoryGiB", "UnknownGPU")
    assert f"{SLICE} is a slice of H100" in message
    stated = plan_of(QWEN_7B, gpu={**gpu, "memoryGiB": 39.5})
    assert stated.placement.gpu_memory_bytes == int(39.5 * GIBIBYTE)
    assert stated.placement.tensor == 1


def test_a_slice_takes_its_memory_from_the_nodes_that_offer_it():
    planned = server(QWEN_7B, gpu={"product": "H100", "resourceName": SLICE})
    offers = (
        offer("NVIDIA-H100-80GB-HBM3", 79.18),
        mixed(H100_SLICE, 38.5),
        mixed("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", 38),
    )
    inputs = inputs_for(planned, offers=offers, nodes_visible=True)
    sized = size(planned, inputs)
    assert sized.plan.placement.gpu_memory_bytes == int(38.5 * GIBIBYTE)
    assert sized.gpu.node_labels == {f"{SLICE}.product": (H100_SLICE,)}


def test_slices_of_several_products_of_an_alias_serve_alone():
    gpu = {"product": "H100", "resourceName": SLICE, "perNode": 2}
    planned = server(QWEN_7B, gpu=gpu, parallelism={"tensor": 2})
    offers = (mixed(H100_SLICE, 38.5), mixed("NVIDIA-H100-PCIe-MIG-3g.40gb", 39))
    plan = make_plan(planned, inputs_for(planned, offers=offers, nodes_visible=True))
    assert "H100-MIG-3g.40gb is a slice of a GPU" in only_problem(plan)[2]


@pytest.mark.parametrize("product", ["H100", "NVIDIA-H100-80GB-HBM3", H100_SLICE])
def test_without_nodes_a_slices_own_label_selects_it(product: str):
    gpu = {"product": product, "memoryGiB": 39.5, "resourceName": SLICE}
    planned = server(QWEN_7B, gpu=gpu)
    selected = size(planned, inputs_for(planned)).gpu
    assert list(selected.node_labels) == [f"{SLICE}.product"]
    assert H100_SLICE in selected.node_labels[f"{SLICE}.product"]


def test_a_slice_of_the_single_strategy_is_selected_by_the_cards_label():
    planned = server(QWEN_7B, gpu={"product": H100_SLICE, "memoryGiB": 39.5})
    selected = size(planned, inputs_for(planned)).gpu
    assert selected.node_labels == {"nvidia.com/gpu.product": (H100_SLICE,)}
    assert selected.compute_capability == (9, 0)


def test_a_product_that_is_a_slice_of_another_size_is_refused_with_its_resource():
    gpu = {"product": H100_SLICE, "memoryGiB": 9.5, "resourceName": "nvidia.com/mig-1g.10gb"}
    field, _, message = only_problem(plan_of(QWEN_7B, gpu=gpu))
    assert field == "spec.gpu.resourceName"
    assert f"set it to {SLICE}" in message
    works = {**gpu, "memoryGiB": 39.5, "resourceName": SLICE}
    assert plan_of(QWEN_7B, gpu=works).feasible


def test_a_slice_with_more_memory_than_its_profile_has_is_refused():
    gpu = {"product": "H100", "memoryGiB": 79.1, "resourceName": SLICE}
    field, _, message = only_problem(plan_of(QWEN_7B, gpu=gpu))
    assert field == "spec.gpu.memoryGiB"
    assert "is 79.1, and a slice nvidia.com/mig-3g.40gb has at most 40" in message
