"""The Job that measures a GPU: what it asks for, what it must not, and what its log says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vllm_operator.benchmark.calibration import MARK, Calibrated, calibration_job, read_log
from vllm_operator.errors import InputError
from vllm_operator.hardware.nodes import GPUOffer

OFFER = GPUOffer(
    product="NVIDIA-L4",
    memory_bytes=23 << 30,
    per_node=4,
    nodes=2,
    resource_name="nvidia.com/gpu",
    node_labels={"nvidia.com/gpu.product": ("NVIDIA-L4",), "cloud/gpu": ("l4", "L4")},
)
FIGURES = {
    "flops_16bit": 1e14,
    "flops_fp8": None,
    "copy_bandwidth": 2.5e11,
    "gpus": 1,
    "software": "PyTorch 2.9.1",
    "all_reduce_bandwidth": None,
    "all_reduce_seconds": None,
}


def made(gpus: int = 1) -> Any:
    return calibration_job(
        OFFER,
        "20260101-000000",
        "operators",
        image="vllm/vllm-openai:v0.30.0",
        gpus=gpus,
        deadline_seconds=600,
    )


def pod(body: Any) -> Any:
    return body["spec"]["template"]["spec"]


def line(**record: Any) -> str:
    return MARK + json.dumps(record) + "\n"


def test_it_takes_the_gpus_that_are_asked_for_and_no_more() -> None:
    (container,) = pod(made(gpus=2))["containers"]
    assert container["resources"]["requests"]["nvidia.com/gpu"] == 2
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2


def test_more_gpus_than_a_node_has_are_refused_with_their_number() -> None:
    with pytest.raises(InputError, match="no node has more than 4 NVIDIA-L4"):
        made(gpus=5)


def test_it_runs_where_any_label_says_the_product() -> None:
    node = pod(made())["affinity"]["nodeAffinity"]
    terms = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    found = {term["matchExpressions"][0]["key"]: term["matchExpressions"] for term in terms}
    assert found["cloud/gpu"] == [{"key": "cloud/gpu", "operator": "In", "values": ["L4", "l4"]}]
    assert len(terms) == 2


def test_it_is_restricted_and_ends() -> None:
    body = made()
    (container,) = pod(body)["containers"]
    assert pod(body)["automountServiceAccountToken"] is False
    assert pod(body)["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert body["spec"]["activeDeadlineSeconds"] == 600
    assert body["spec"]["backoffLimit"] == 0
    assert body["spec"]["ttlSecondsAfterFinished"] == 3600


def test_a_log_tells_its_state_and_what_could_not_be_measured() -> None:
    text = "torch says hello\n" + line(state="fp8 4096") + line(note="fp8: no such product")
    assert read_log(text) == Calibrated("fp8 4096", ("fp8: no such product",))


def test_a_whole_log_is_a_measurement_of_the_product() -> None:
    found = read_log(line(measured=FIGURES, device="NVIDIA L4"))
    assert found.device == "NVIDIA L4"
    one = found.of("NVIDIA-L4", "2026-01-01T00:00:00Z", "image:v1")
    assert (one.flops_16bit, one.flops_fp8, one.copy_bandwidth) == (1e14, None, 2.5e11)
    assert one.software == "PyTorch 2.9.1, image:v1"


def test_a_log_without_figures_is_none_and_tells_why() -> None:
    found = read_log(line(note="16bit: CUDA error"))
    with pytest.raises(InputError, match=r"NVIDIA-L4 was not measured .*16bit: CUDA error"):
        found.of("NVIDIA-L4", "2026-01-01T00:00:00Z", "image:v1")


def test_a_line_that_is_cut_off_is_told() -> None:
    with pytest.raises(InputError, match="cut off"):
        read_log(MARK + '{"state": "fp')
