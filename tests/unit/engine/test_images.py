"""What known images are built for; of other images nothing is said."""

import pytest

from vllm_operator.engine.images import built_for, official_image
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import DEFAULT_IMAGE, Version


@pytest.mark.parametrize(
    ("image", "hardware"),
    [
        (DEFAULT_IMAGE, "NVIDIA GPUs"),
        ("docker.io/vllm/vllm-openai:v0.30.0-cu129", "NVIDIA GPUs"),
        ("vllm/vllm-openai@sha256:0123", "NVIDIA GPUs"),
        ("index.docker.io/vllm/vllm-openai-rocm:nightly", "AMD GPUs"),
        ("rocm/vllm:rocm6.2_mi300_ubuntu20.04_py3.9_vllm_0.6.4", "AMD GPUs"),
        ("vllm/vllm-openai-xpu:v0.30.0", "Intel GPUs"),
        ("vllm/vllm-openai-cpu:v0.30.0-x86_64", "CPUs"),
        ("vllm/vllm-tpu:v0.19.0", "Google TPUs"),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.30.0", "CPUs"),
    ],
)
def test_a_known_image_says_what_it_is_built_for(image: str, hardware: str):
    assert built_for(image) == hardware


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/vllm/vllm-openai:v0.30.0",
        "localhost:5000/vllm/vllm-openai-rocm:v0.30.0",
        "somebody/vllm-openai:v0.30.0",
        "vllm/vllm-openai:latest-rocm",
        "vllm",
    ],
)
def test_of_any_other_image_nothing_is_said(image: str):
    assert built_for(image) is None


@pytest.mark.parametrize(
    ("version", "image"),
    [
        ("0.30.0", "vllm/vllm-openai-rocm:v0.30.0"),
        ("0.17.0rc1", "vllm/vllm-openai-rocm:v0.17.0"),
        ("0.16.0.post1", "vllm/vllm-openai-rocm:v0.16.0.post1"),
        ("0.11.0", None),
    ],
)
def test_an_official_image_is_named_for_the_versions_that_have_one(version: str, image: str | None):
    assert official_image("AMD GPUs", Version.parse(version)) == image


def test_hardware_without_official_images_has_none():
    assert official_image("Google TPUs", Version.parse("0.30.0")) is None


def test_every_image_has_a_source():
    assert all(row["source"] for row in rows("images.csv"))
