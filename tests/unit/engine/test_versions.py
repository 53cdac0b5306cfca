"""The vLLM version comes from the field or the tag, and tables follow the version."""

from typing import Literal

import pytest

from vllm_operator.engine import defaults
from vllm_operator.engine.environment import refused_because
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import (
    DEFAULT_IMAGE,
    NEWEST_KNOWN,
    Version,
    engine_image,
    engine_version,
    version_in_tag,
    version_note,
)
from vllm_operator.errors import UnsupportedEngineVersion

GIBIBYTE = 1024**3
H100 = (int(79.18 * GIBIBYTE), "NVIDIA-H100-80GB-HBM3")
A100 = (int(79.25 * GIBIBYTE), "NVIDIA-A100-SXM4-80GB")
L4 = (int(22.16 * GIBIBYTE), "NVIDIA-L4")
B200 = (int(178 * GIBIBYTE), "NVIDIA-B200")


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.30.0", "0.30.0"),
        ("vllm/vllm-openai:0.8.5.post1", "0.8.5.post1"),
        ("vllm/vllm-openai:v0.11.0rc2", "0.11.0rc2"),
        ("vllm/vllm-openai:v0.30.0-cu129-ubuntu2204", "0.30.0"),
        ("registry.example:5000/team/vllm:v0.22.1@sha256:abc", "0.22.1"),
        ("registry.example:5000/team/vllm", None),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai@sha256:abc", None),
        ("vllm/vllm-openai:nightly-0.30.0", None),
    ],
)
def test_a_tag_says_its_version_or_none(image: str, version: str | None):
    assert version_in_tag(image) == version


def test_a_given_version_wins_over_the_tag():
    assert str(engine_version("mine:v0.20.0", "0.22.0")) == "0.22.0"


def test_a_tag_without_version_asks_for_the_field():
    with pytest.raises(UnsupportedEngineVersion) as refusal:
        engine_version("vllm/vllm-openai:latest", None)
    assert refusal.value.field == "spec.engine.version"


@pytest.mark.parametrize("version", ["0.7.3", "0.6.6.post1"])
def test_versions_before_the_v1_engine_are_refused(version: str):
    with pytest.raises(UnsupportedEngineVersion, match=r"0\.8\.0"):
        engine_version("x", version)


def test_an_old_tag_points_to_the_image():
    with pytest.raises(UnsupportedEngineVersion) as refusal:
        engine_version("vllm/vllm-openai:v0.7.3", None)
    assert refusal.value.field == "spec.engine.image"


def test_a_version_alone_picks_the_tag_of_the_default_image():
    assert engine_image(None, "0.22.1", DEFAULT_IMAGE) == "vllm/vllm-openai:v0.22.1"


def test_a_version_alone_cannot_pick_the_tag_of_a_private_default_image():
    with pytest.raises(UnsupportedEngineVersion, match=r"spec\.engine\.image"):
        engine_image(None, "0.22.1", "registry.example/vllm:v0.30.0-ours")


def test_a_version_alone_describes_a_default_image_that_does_not_say_its_own():
    assert (
        engine_image(None, "0.22.1", "registry.example/vllm:ours") == "registry.example/vllm:ours"
    )


def test_a_version_newer_than_the_tables_is_planned_with_a_note():
    newer = Version.parse("0.99.0")
    assert "0.33.0" in str(version_note(newer))
    assert defaults.gpu_memory_utilization(newer) == 0.92
    assert version_note(NEWEST_KNOWN) is None


@pytest.mark.parametrize(
    ("version", "utilization"),
    [("0.8.0", 0.9), ("0.19.1", 0.9), ("0.20.0", 0.92), ("0.33.0", 0.92)],
)
def test_memory_utilization_follows_the_version(version: str, utilization: float):
    assert defaults.gpu_memory_utilization(Version.parse(version)) == utilization


@pytest.mark.parametrize(
    ("version", "device", "tokens", "seqs"),
    [
        ("0.30.0", H100, 8192, 1024),
        ("0.30.0", A100, 2048, 256),
        ("0.30.0", L4, 2048, 256),
        ("0.30.0", B200, 16384, 1024),
        ("0.27.0", B200, 8192, 1024),
        ("0.8.5", A100, 8192, 1024),
        ("0.9.0", A100, 2048, 256),
        ("0.8.0", L4, 2048, 1024),
        ("0.8.4", L4, 2048, 256),
        ("0.8.4", A100, 2048, 256),
        ("0.8.4", H100, 8192, 1024),
        ("0.33.0", (100 * GIBIBYTE, "NVIDIA-GB10"), 2048, 256),
        ("0.32.0", (100 * GIBIBYTE, "NVIDIA-GB10"), 8192, 1024),
    ],
)
def test_batch_limits_follow_version_memory_and_name(
    version: str, device: tuple[int, str], tokens: int, seqs: int
):
    found = defaults.batch_defaults(Version.parse(version), *device)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)


@pytest.mark.parametrize(
    ("version", "runner", "counted"),
    [
        ("0.17.0", 1, False),
        ("0.20.2", 1, True),
        ("0.22.0", 1, True),
        ("0.22.0", 2, False),
        ("0.28.1", 2, False),
        ("0.30.0", 2, True),
    ],
)
def test_graphs_are_paid_by_the_budget_of_some_versions_and_runners(
    version: str, runner: Literal[1, 2], counted: bool
):
    assert defaults.counts_cuda_graphs(Version.parse(version), runner) is counted


@pytest.mark.parametrize(
    ("version", "architecture", "kind", "runner"),
    [
        ("0.21.0", "Qwen3ForCausalLM", {}, 1),
        ("0.22.0", "Qwen3ForCausalLM", {}, 2),
        ("0.22.0", "Qwen3ForCausalLM", {"quantized": True}, 1),
        ("0.22.0", "LlamaForCausalLM", {}, 1),
        ("0.23.0", "LlamaForCausalLM", {}, 2),
        ("0.24.0", "LlamaForCausalLM", {"quantized": True}, 2),
        ("0.25.0", "Gemma3ForCausalLM", {}, 2),
        ("0.25.0", "Qwen3MoeForCausalLM", {"dense": False}, 1),
        ("0.25.0", "Qwen2MoeForCausalLM", {"dense": False}, 2),
        ("0.28.0", "Qwen3_5ForConditionalGeneration", {"recurrent": True}, 1),
        ("0.29.0", "Qwen3MoeForCausalLM", {"dense": False}, 2),
    ],
)
def test_the_second_model_runner_serves_more_models_with_each_version(
    version: str, architecture: str, kind: dict[str, bool], runner: int
):
    facts = {"dense": True, "recurrent": False, "quantized": False, **kind}
    assert defaults.model_runner(architecture, Version.parse(version), **facts) == runner


@pytest.mark.parametrize(
    ("image", "version", "flashinfer"),
    [
        ("vllm/vllm-openai:v0.11.0", "0.11.0", True),
        ("docker.io/vllm/vllm-openai@sha256:00", "0.9.1", True),
        ("vllm/vllm-openai:v0.11.1", "0.11.1", False),
        ("vllm/vllm-openai:v0.8.5", "0.8.5", False),
        ("registry.example/own:v0.11.0", "0.11.0", False),
    ],
)
def test_flashinfer_samples_in_official_images_of_some_versions(
    image: str, version: str, flashinfer: bool
):
    assert defaults.samples_with_flashinfer(Version.parse(version), image) is flashinfer


def test_shutdown_timeout_exists_from_0_18():
    assert not defaults.has_flag("--shutdown-timeout", Version.parse("0.17.1"))
    assert defaults.has_flag("--shutdown-timeout", Version.parse("0.18.0"))


def test_an_unheard_of_flag_does_not_exist():
    assert not defaults.has_flag("--disable-cuda-graph", NEWEST_KNOWN)


@pytest.mark.parametrize(
    ("size", "version", "accepted"),
    [
        (8, "0.10.0", True),
        (8, "0.30.0", False),
        (16, "0.30.0", True),
        (48, "0.30.0", True),
        (48, "0.16.0", False),
        (256, "0.10.0", False),
        (256, "0.11.1", True),
        (17, "0.30.0", False),
    ],
)
def test_block_sizes_follow_the_version(size: int, version: str, accepted: bool):
    assert defaults.accepts_block_size(size, Version.parse(version)) is accepted


@pytest.mark.parametrize("name", ["HF_TOKEN", "VLLM_USE_V1", "VLLM_CPU_KVCACHE_SPACE", "HOME"])
def test_variables_that_would_undo_the_plan_are_refused(name: str):
    assert refused_because(name)


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "NCCL_DEBUG", "VLLM_LOGGING_LEVEL"])
def test_other_variables_are_the_users(name: str):
    assert refused_because(name) is None


@pytest.mark.parametrize(
    "table",
    [
        "flags.csv",
        "environment.csv",
        "values.csv",
        "utilization.csv",
        "batching.csv",
        "graphs.csv",
        "runners.csv",
        "reserved_environment.csv",
    ],
)
def test_every_row_of_a_table_has_a_source(table: str):
    assert all(row["source"] for row in rows(table))


@pytest.mark.parametrize("text", ["", "latest", "30", "0.x.1"])
def test_what_is_no_version_is_refused(text: str):
    with pytest.raises(ValueError, match="no version"):
        Version.parse(text)


@pytest.mark.parametrize("minor", range(8, 36))
@pytest.mark.parametrize("patch", [0, 1, 4, 5, 9])
def test_every_supported_version_has_every_default(minor: int, patch: int):
    version = Version((0, minor, patch))
    assert defaults.batch_defaults(version, *L4).max_num_seqs > 0
    assert defaults.gpu_memory_utilization(version) in (0.9, 0.92)
    assert defaults.counts_cuda_graphs(version) in (True, False)


@pytest.mark.parametrize(
    ("version", "architecture", "runner"),
    [
        ("0.29.0", "DeepseekV32ForCausalLM", 1),
        ("0.29.0", "GlmMoeDsaForCausalLM", 2),
        ("0.30.0", "GlmMoeDsaForCausalLM", 1),
        ("0.31.0", "DeepseekV4ForCausalLM", 1),
        ("0.32.0", "DeepseekV32ForCausalLM", 2),
        ("0.30.0", "LlamaForCausalLM", 2),
    ],
)
def test_some_models_keep_the_first_model_runner_on_rocm(
    version: str, architecture: str, runner: Literal[1, 2]
):
    facts = {"dense": False, "recurrent": False, "quantized": False}
    release = Version.parse(version)
    assert defaults.model_runner(architecture, release, rocm=True, **facts) == runner
    assert defaults.model_runner(architecture, release, **facts) == 2


@pytest.mark.parametrize(
    ("image", "given", "field"),
    [
        ("vllm/vllm-openai:latest", None, "spec.engine.version"),
        ("vllm/vllm-openai:v0.7.3", None, "spec.engine.image"),
        ("vllm/vllm-openai:v0.30.0", "0.7.3", "spec.engine.version"),
        ("vllm/vllm-openai:v0.30.0", "newest", "spec.engine.version"),
        ("vllm/vllm-openai:v0.7.3", "0.7.2", "spec.engine.version"),
    ],
)
def test_a_version_is_refused_by_the_field_that_says_it(image: str, given: str | None, field: str):
    with pytest.raises(UnsupportedEngineVersion) as refusal:
        engine_version(image, given)
    assert refusal.value.field == field
