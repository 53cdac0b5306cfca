"""The plan says how many GPUs, the user which."""

from __future__ import annotations

import pytest

from unit.manifests.elsewhere.support import (
    TARGETS,
    planned_of,
    refused,
    rendered,
    service,
    values,
)
from unit.sizing.examples import LLAMA_70B
from vllm_operator.manifests.elsewhere.devices import devices_of
from vllm_operator.manifests.elsewhere.fields import Target

TWO = {"parallelism": {"tensor": 2}}
AMD = {
    "gpu": {"product": "MI300X", "perNode": 8},
    "engine": {"image": "vllm/vllm-openai-rocm:v0.32.0"},
}


def test_the_first_gpus_are_taken_where_nobody_chose() -> None:
    assert devices_of(planned_of(LLAMA_70B, parallelism={"tensor": 4}), None, "shell").ids == (
        *("0", "1", "2", "3"),
    )


def test_compose_reserves_exactly_the_chosen_ones() -> None:
    (one,) = service(rendered("compose", devices="2,3", **TWO))["deploy"]["resources"][
        "reservations"
    ]["devices"]
    assert one == {"driver": "nvidia", "device_ids": ["2", "3"], "capabilities": ["gpu"]}


def test_podman_names_them_as_devices() -> None:
    text = rendered("podman-quadlet", devices="GPU-0af1,GPU-0af2", **TWO)
    assert values(text, "Container", "AddDevice") == [
        "nvidia.com/gpu=GPU-0af1",
        "nvidia.com/gpu=GPU-0af2",
    ]


def test_systemd_shows_the_engine_no_others() -> None:
    text = rendered("systemd", devices="4,5", **TWO)
    assert "CUDA_VISIBLE_DEVICES=4,5" in values(text, "Service", "Environment")


def test_a_script_lets_the_variable_choose_and_counts_them() -> None:
    text = rendered("shell", **TWO)
    assert 'export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0,1}"' in text
    assert 'if [ "${#gpus[@]}" -ne 2 ]; then' in text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("devices", "why"),
    [
        ("0", "names 1, and the plan takes 2 x NVIDIA-H100-80GB-HBM3; name 2, such as 0,1"),
        ("0,1,2", "names 3, and the plan takes 2 x"),
        ("1,1", "1,1 names a GPU twice"),
        ("all", "'all' is no GPU; give numbers or UUIDs"),
        ("0,", "'' is no GPU"),
        ("0,1;rm", "'1;rm' is no GPU"),
    ],
)
def test_another_number_or_what_is_no_gpu_is_refused(
    target: Target, devices: str, why: str
) -> None:
    field, message = refused(target, devices=devices, **TWO)
    assert field == "--devices"
    assert message.startswith(why)


def test_a_slice_has_to_be_named() -> None:
    product = "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"
    slice_of_one = {"product": product, "memoryGiB": 39, "perNode": 2}
    field, why = refused("compose", gpu=slice_of_one, engine={"maxModelLen": 8192})
    assert field == "--devices"
    assert "nvidia-smi -L" in why
    text = rendered("compose", gpu=slice_of_one, engine={"maxModelLen": 8192}, devices="MIG-1a-2b")
    (one,) = service(text)["deploy"]["resources"]["reservations"]["devices"]
    assert one["device_ids"] == ["MIG-1a-2b"]


def test_amd_gpus_are_devices_of_the_kernel_and_chosen_by_their_own_variable() -> None:
    found = service(rendered("compose", devices="3", **AMD))
    assert found["devices"] == ["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"]
    assert found["environment"]["HIP_VISIBLE_DEVICES"] == "3"
    assert "deploy" not in found


@pytest.mark.parametrize("target", TARGETS)
def test_the_group_of_an_amd_gpu_is_asked_for_until_it_is_given(target: Target) -> None:
    asks = "stat -c %g /dev/kfd"
    assert asks in rendered(target, **AMD).replace("\n#   ", " ")
    given = {"securityContext": {"supplementalGroups": [993]}}
    assert asks not in rendered(target, **AMD, pod=given).replace("\n#   ", " ")


def test_amd_gpus_of_podman_and_systemd() -> None:
    text = rendered("podman-quadlet", **AMD)
    assert values(text, "Container", "AddDevice") == ["/dev/kfd", "/dev/dri"]
    assert "HIP_VISIBLE_DEVICES=0" in values(text, "Container", "Environment")
    assert values(rendered("systemd", **AMD), "Service", "SupplementaryGroups") == ["video render"]


@pytest.mark.parametrize("target", TARGETS)
def test_hardware_that_nobody_can_hand_on_is_refused(target: Target) -> None:
    gpu = {"product": "Acme X1", "memoryGiB": 80, "resourceName": "acme.example/x1", "perNode": 1}
    field, why = refused(target, gpu=gpu)
    assert field == "spec.gpu.resourceName"
    assert "acme.example/x1" in why


def test_the_group_of_amd_s_devices_stands_beside_those_that_are_asked_for() -> None:
    asked = {**AMD, "pod": {"securityContext": {"supplementalGroups": [44, 107]}}}
    expected = ["video", "44", "107"]
    assert service(rendered("compose", **asked))["group_add"] == expected
    arguments = values(rendered("podman-quadlet", **asked), "Container", "PodmanArgs")
    assert [one for one in arguments if "group" in one] == [
        f"--group-add={group}" for group in expected
    ]
